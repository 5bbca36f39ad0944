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
    /// No command is answered, and none acts.
    dead: AtomicBool,
    /// Changes are not pushed, and nobody says so.
    silence: Option<broadcast::Sender<Notice>>,
    loses_answers: AtomicBool,
    /// The groups whose last answer was lost.
    lost: Mutex<[bool; Group::COUNT as usize]>,
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

    /// A connection over which no change is pushed.
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

    /// From here on the answer to every other batch of a group is lost, after it has acted. More
    /// would be an outage of the group.
    pub fn lose_answers(&self) {
        self.line.loses_answers.store(true, Relaxed);
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
        let lost = &mut self.line.lost.lock().unwrap()[usize::from(group.number())];
        *lost = self.line.loses_answers.load(Relaxed) && !*lost;
        *lost
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
            let answer = answer.await;
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
        self.backend.impairments()
    }

    fn close(&self) -> Answer<'_, ()> {
        self.backend.close()
    }
}
