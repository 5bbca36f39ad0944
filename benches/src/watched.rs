//! A backend that counts what a replica sends, and can disturb it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::{Instant, sleep};
use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Answer, Backend, Batch, Changes, Group, Heartbeat, Impairment, Lease, Move, Notice,
    OverrideChange, Probed, ReplicaInfo, Roster, Sender, View,
};

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Heartbeat,
    /// A sync with reports.
    Report,
    /// A sync without reports.
    Poll,
    Transition,
    Acquire,
    Settle,
    Restore,
    Override,
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Heartbeat,
        Self::Report,
        Self::Poll,
        Self::Transition,
        Self::Acquire,
        Self::Settle,
        Self::Restore,
        Self::Override,
    ];
}

/// The leases that the backend has granted to all replicas, as they know it.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    /// By generation and nonce: until when the lease is out, at least.
    out: Arc<Mutex<HashMap<(u64, u64), Instant>>>,
    granted: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

impl Leases {
    fn granted(&self, lease: Lease, asked: Instant) {
        let mut out = self.out.lock().unwrap();
        let now = now();
        out.retain(|_, until| *until > now);
        out.insert((lease.generation, lease.nonce), asked + lease.remaining);
        let same = out.keys().filter(|(generation, _)| *generation == lease.generation).count();
        self.most.fetch_max(same as u64, Relaxed);
        self.granted.fetch_add(1, Relaxed);
    }

    fn settled(&self, lease: Lease) {
        self.out.lock().unwrap().remove(&(lease.generation, lease.nonce));
    }

    /// How many leases were granted.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.granted.load(Relaxed)
    }

    /// How many leases of one round were out at once, at most.
    #[must_use]
    pub fn most(&self) -> u64 {
        self.most.load(Relaxed)
    }
}

/// One replica's connection. Clones are the same.
#[derive(Clone, Debug)]
pub struct Watched {
    backend: Arc<dyn Backend>,
    line: Arc<Line>,
}

#[derive(Debug, Default)]
struct Line {
    sent: [AtomicU64; Kind::ALL.len()],
    reports: AtomicU64,
    views: AtomicU64,
    refused_leases: AtomicU64,
    leases: Leases,
    /// No command is answered, and none acts.
    dead: AtomicBool,
    /// Changes are not pushed.
    silence: Option<broadcast::Sender<Notice>>,
    /// Every so many answers of a group, one is lost; 0: none.
    loses_one_of: AtomicU64,
    /// How many answers each group has had.
    answers: Mutex<[u64; Group::COUNT as usize]>,
    latency: Duration,
    /// The first failure of each circuit that no batch has had.
    failed: Mutex<HashMap<CircuitName, Instant>>,
    /// How long failures took until the backend had them.
    lags: Mutex<Vec<Duration>>,
}

impl Watched {
    /// A connection whose answers take `latency` longer.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>, latency: Duration) -> Self {
        Self { backend, line: Arc::new(Line { latency, ..Line::default() }) }
    }

    /// The same, which counts the leases of all replicas.
    #[must_use]
    pub fn counting(backend: Arc<dyn Backend>, leases: &Leases) -> Self {
        let line = Line { leases: leases.clone(), ..Line::default() };
        Self { backend, line: Arc::new(line) }
    }

    /// A connection over which no change is pushed, and which says so.
    #[must_use]
    pub fn without_pushes(backend: Arc<dyn Backend>, latency: Duration) -> Self {
        let silence = Some(broadcast::channel(1).0);
        Self { backend, line: Arc::new(Line { latency, silence, ..Line::default() }) }
    }

    #[must_use]
    pub fn sent(&self, kind: Kind) -> u64 {
        self.line.sent[kind as usize].load(Relaxed)
    }

    /// How many reports were in all batches.
    #[must_use]
    pub fn reports(&self) -> u64 {
        self.line.reports.load(Relaxed)
    }

    /// How many views were in all answers to batches.
    #[must_use]
    pub fn views(&self) -> u64 {
        self.line.views.load(Relaxed)
    }

    #[must_use]
    pub fn refused_leases(&self) -> u64 {
        self.line.refused_leases.load(Relaxed)
    }

    /// From here on it is as if the replica had been killed.
    pub fn kill(&self) {
        self.line.dead.store(true, Relaxed);
    }

    /// From here on one of so many answers to the batches of each group is lost, after the batch has
    /// acted. To lose two in a row would be an outage of the group.
    pub fn lose_one_of(&self, answers: u64) {
        self.line.loses_one_of.store(answers, Relaxed);
    }

    /// A call of the circuit has failed, just now.
    ///
    /// # Panics
    ///
    /// If a thread panicked that measured.
    pub fn failed(&self, circuit: &CircuitName) {
        let mut failed = self.line.failed.lock().unwrap();
        if !failed.contains_key(circuit) {
            failed.insert(circuit.clone(), now());
        }
    }

    /// How long failures took until the backend had them, since the last call of this.
    ///
    /// # Panics
    ///
    /// If a thread panicked that measured.
    #[must_use]
    pub fn lags(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.line.lags.lock().unwrap())
    }

    /// How old the oldest failure is that the backend does not have.
    ///
    /// # Panics
    ///
    /// If a thread panicked that measured.
    #[must_use]
    pub fn waiting(&self) -> Duration {
        let failed = self.line.failed.lock().unwrap();
        failed.values().min().map(Instant::elapsed).unwrap_or_default()
    }

    fn send<'a, T: Send + 'a>(
        &'a self,
        kind: Kind,
        act: impl FnOnce(&'a dyn Backend) -> Answer<'a, T> + Send + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            if self.line.dead.load(Relaxed) {
                std::future::pending::<()>().await;
            }
            self.line.sent[kind as usize].fetch_add(1, Relaxed);
            self.travel().await;
            let answer = act(&*self.backend).await;
            self.travel().await;
            answer
        })
    }

    async fn travel(&self) {
        if !self.line.latency.is_zero() {
            sleep(self.line.latency / 2).await;
        }
    }

    fn loses(&self, group: Group) -> bool {
        let answers = &mut self.line.answers.lock().unwrap()[usize::from(group.number())];
        *answers += 1;
        let one_of = self.line.loses_one_of.load(Relaxed);
        one_of > 0 && answers.is_multiple_of(one_of)
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock of tokio, which may be paused")]
fn now() -> Instant {
    Instant::now()
}

impl Backend for Watched {
    fn sync<'a>(&'a self, group: Group, batch: &'a Batch) -> Answer<'a, Changes> {
        let mut failed = self.line.failed.lock().unwrap();
        let with_failures = batch.reports.iter().filter(|report| {
            !report.failures.is_empty() || report.counts.iter().any(|count| count.failures > 0)
        });
        let since: Vec<_> =
            with_failures.filter_map(|report| failed.remove(&report.circuit)).collect();
        drop(failed);
        let kind = if batch.reports.is_empty() { Kind::Poll } else { Kind::Report };
        self.line.reports.fetch_add(batch.reports.len() as u64, Relaxed);
        let answer = self.send(kind, move |backend| {
            Box::pin(async move {
                let mut batch = batch.clone();
                let late = self.line.latency / 2;
                batch.reports.iter_mut().for_each(|report| report.grow_older(late));
                backend.sync(group, &batch).await
            })
        });
        Box::pin(async move {
            let answer = answer.await;
            if let Ok(changes) = &answer {
                self.line.views.fetch_add(changes.views.len() as u64, Relaxed);
                self.line.lags.lock().unwrap().extend(since.iter().map(Instant::elapsed));
            }
            if self.loses(group) {
                std::future::pending::<()>().await;
            }
            answer
        })
    }

    fn transition<'a>(
        &'a self,
        circuit: &'a CircuitName,
        from: u64,
        to: &'a Move,
    ) -> Answer<'a, View> {
        self.send(Kind::Transition, move |backend| backend.transition(circuit, from, to))
    }

    fn acquire_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        generation: u64,
        nonce: u64,
    ) -> Answer<'a, (Option<Lease>, View)> {
        let answer = self
            .send(Kind::Acquire, move |backend| backend.acquire_probe(circuit, generation, nonce));
        Box::pin(async move {
            let asked = now();
            let answer = answer.await;
            if let Ok((Some(lease), _)) = &answer {
                self.line.leases.granted(*lease, asked);
            }
            let refused = matches!(answer, Ok((None, _)));
            self.line.refused_leases.fetch_add(u64::from(refused), Relaxed);
            answer
        })
    }

    fn settle_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        lease: Lease,
        result: &'a Probed,
    ) -> Answer<'a, View> {
        if !self.line.dead.load(Relaxed) {
            self.line.leases.settled(lease);
        }
        self.send(Kind::Settle, move |backend| backend.settle_probe(circuit, lease, result))
    }

    fn restore<'a>(&'a self, circuit: &'a CircuitName, view: &'a View) -> Answer<'a, View> {
        self.send(Kind::Restore, |backend| backend.restore(circuit, view))
    }

    fn set_override<'a>(
        &'a self,
        circuit: &'a CircuitName,
        change: &'a OverrideChange,
    ) -> Answer<'a, View> {
        self.send(Kind::Override, |backend| backend.set_override(circuit, change))
    }

    fn heartbeat<'a>(&'a self, heartbeat: &'a Heartbeat) -> Answer<'a, Roster> {
        self.send(Kind::Heartbeat, |backend| backend.heartbeat(heartbeat))
    }

    fn replicas(&self) -> Answer<'_, Vec<ReplicaInfo>> {
        self.backend.replicas()
    }

    fn watch(&self) -> Answer<'_, ()> {
        self.backend.watch()
    }

    fn publish<'a>(&'a self, sender: &'a Sender, circuits: &'a str) -> Answer<'a, ()> {
        self.backend.publish(sender, circuits)
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        match &self.line.silence {
            Some(silence) => silence.subscribe(),
            None => self.backend.subscribe(),
        }
    }

    fn impairments(&self) -> Vec<Impairment> {
        let unpushed = Impairment::NotPushed { cause: "nothing is subscribed".to_owned() };
        let unpushed = self.line.silence.as_ref().map(|_| unpushed);
        self.backend.impairments().into_iter().chain(unpushed).collect()
    }

    fn close(&self) -> Answer<'_, ()> {
        self.backend.close()
    }
}
