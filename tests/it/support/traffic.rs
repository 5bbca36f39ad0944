//! One replica's connection to a backend: it counts the commands, and a test can disturb them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep};
use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Answer, Backend, BackendError, Batch, Changes, Group, Heartbeat, Impairment, Lease, Move,
    Notice, OverrideChange, Probed, ReplicaInfo, Roster, Sender, View,
};

use super::now;

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    /// Reports, and reads.
    Sync,
    Transition,
    Acquire,
    Settle,
    Restore,
    Override,
    /// Shows whether the backend answers.
    Heartbeat,
    /// What an operator's page asks.
    Watch,
}

/// What happens to commands.
#[derive(Clone, Debug, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// The answer takes this long. The command acts after half of it.
    Late(Duration),
    /// The command acts, and its answer never arrives.
    LosesAnswers,
    /// The command waits for the end of the fault. It does not act if its caller gives up before.
    Pauses,
    Fails(BackendError),
    Panics,
}

/// Clones are the same connection.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    backend: Arc<dyn Backend>,
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    start: Instant,
    /// By second since the start, and by verb.
    sent: Mutex<BTreeMap<(u64, Verb), u64>>,
    shares: AtomicU64,
    faults: watch::Sender<BTreeMap<Option<Verb>, Fault>>,
    /// What subscribers get while pushes are dropped: nothing.
    silence: broadcast::Sender<Notice>,
    pushes: bool,
}

impl Traffic {
    pub(crate) fn over(backend: &(impl Backend + Clone)) -> Self {
        Self::new(Arc::new(backend.clone()), true)
    }

    /// A connection over which no change is pushed.
    pub(crate) fn without_pushes(backend: &(impl Backend + Clone)) -> Self {
        Self::new(Arc::new(backend.clone()), false)
    }

    fn new(backend: Arc<dyn Backend>, pushes: bool) -> Self {
        let line = Line {
            start: now(),
            sent: Mutex::default(),
            shares: AtomicU64::new(0),
            faults: watch::Sender::default(),
            silence: broadcast::channel(1).0,
            pushes,
        };
        Self { backend, line: Arc::new(line) }
    }

    /// Disturbs all commands.
    pub(crate) fn set(&self, fault: Fault) {
        self.line.faults.send_modify(|faults| *faults = BTreeMap::from([(None, fault)]));
    }

    /// Disturbs these commands, whatever happens to all.
    pub(crate) fn set_for(&self, verb: Verb, fault: Fault) {
        self.line.faults.send_modify(|faults| drop(faults.insert(Some(verb), fault)));
    }

    /// Commands so far.
    pub(crate) fn commands(&self) -> u64 {
        self.count(|_, _| true)
    }

    pub(crate) fn commands_of(&self, wanted: Verb) -> u64 {
        self.count(|_, verb| verb == wanted)
    }

    /// Commands in a second, counted from the moment the connection was made.
    pub(crate) fn commands_in(&self, second: u64) -> u64 {
        let sent = self.line.sent.lock().unwrap();
        sent.range((second, Verb::Sync)..(second + 1, Verb::Sync)).map(|(_, n)| n).sum()
    }

    /// Replicas' shares in all views so far.
    pub(crate) fn shares(&self) -> u64 {
        self.line.shares.load(Ordering::Relaxed)
    }

    /// The second that runs, as [`commands_in`](Self::commands_in) counts.
    pub(crate) fn second(&self) -> u64 {
        now().duration_since(self.line.start).as_secs()
    }

    fn count(&self, counts: impl Fn(u64, Verb) -> bool) -> u64 {
        let sent = self.line.sent.lock().unwrap();
        sent.iter().filter(|((second, verb), _)| counts(*second, *verb)).map(|(_, n)| n).sum()
    }

    fn fault(&self, verb: Verb) -> Fault {
        let faults = self.line.faults.borrow();
        faults.get(&Some(verb)).or_else(|| faults.get(&None)).cloned().unwrap_or_default()
    }

    /// Sends a command. `act` runs when it arrives.
    fn send<'a, T: Shown + Send + 'a>(
        &'a self,
        verb: Verb,
        act: impl FnOnce(&'a dyn Backend, Duration) -> Answer<'a, T> + Send + 'a,
    ) -> Answer<'a, T> {
        let key = (self.second(), verb);
        *self.line.sent.lock().unwrap().entry(key).or_default() += 1;
        Box::pin(async move {
            let answer = match self.fault(verb) {
                Fault::None => act(&*self.backend, Duration::ZERO).await?,
                Fault::Late(time) => {
                    sleep(time / 2).await;
                    let answer = act(&*self.backend, time / 2).await?;
                    sleep(time / 2).await;
                    answer
                }
                Fault::LosesAnswers => {
                    let _ = act(&*self.backend, Duration::ZERO).await;
                    std::future::pending().await
                }
                Fault::Pauses => {
                    let since = now();
                    let mut faults = self.line.faults.subscribe();
                    while matches!(self.fault(verb), Fault::Pauses) {
                        // The sender lives as long as `self`.
                        let _ = faults.changed().await;
                    }
                    act(&*self.backend, since.elapsed()).await?
                }
                Fault::Fails(error) => return Err(error),
                Fault::Panics => panic!("as a backend of a user may"),
            };
            self.line.shares.fetch_add(answer.shares(), Ordering::Relaxed);
            Ok(answer)
        })
    }
}

/// An answer, which may have shares in it.
trait Shown {
    fn shares(&self) -> u64 {
        0
    }
}

impl Shown for View {
    fn shares(&self) -> u64 {
        self.shares.len() as u64
    }
}

impl Shown for Changes {
    fn shares(&self) -> u64 {
        self.views.iter().map(|(_, view)| view.shares()).sum()
    }
}

impl Shown for (Option<Lease>, View) {
    fn shares(&self) -> u64 {
        self.1.shares()
    }
}

impl Shown for Roster {}
impl Shown for Vec<ReplicaInfo> {}
impl Shown for () {}

impl Backend for Traffic {
    fn sync<'a>(&'a self, group: Group, batch: &'a Batch) -> Answer<'a, Changes> {
        self.send(Verb::Sync, move |backend, late| {
            Box::pin(async move {
                let mut batch = batch.clone();
                // As a client does that knows the server's clock.
                batch.reports.iter_mut().for_each(|report| report.grow_older(late));
                backend.sync(group, &batch).await
            })
        })
    }

    fn transition<'a>(
        &'a self,
        circuit: &'a CircuitName,
        from: u64,
        to: &'a Move,
    ) -> Answer<'a, View> {
        self.send(Verb::Transition, move |backend, _| backend.transition(circuit, from, to))
    }

    fn acquire_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        generation: u64,
        nonce: u64,
    ) -> Answer<'a, (Option<Lease>, View)> {
        let act =
            move |backend: &'a dyn Backend, _| backend.acquire_probe(circuit, generation, nonce);
        self.send(Verb::Acquire, act)
    }

    fn settle_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        lease: Lease,
        result: &'a Probed,
    ) -> Answer<'a, View> {
        self.send(Verb::Settle, move |backend, _| backend.settle_probe(circuit, lease, result))
    }

    fn restore<'a>(&'a self, circuit: &'a CircuitName, view: &'a View) -> Answer<'a, View> {
        self.send(Verb::Restore, |backend, _| backend.restore(circuit, view))
    }

    fn set_override<'a>(
        &'a self,
        circuit: &'a CircuitName,
        change: &'a OverrideChange,
    ) -> Answer<'a, View> {
        self.send(Verb::Override, |backend, _| backend.set_override(circuit, change))
    }

    fn heartbeat<'a>(&'a self, heartbeat: &'a Heartbeat) -> Answer<'a, Roster> {
        self.send(Verb::Heartbeat, |backend, _| backend.heartbeat(heartbeat))
    }

    fn replicas(&self) -> Answer<'_, Vec<ReplicaInfo>> {
        self.send(Verb::Watch, |backend, _| backend.replicas())
    }

    fn watch(&self) -> Answer<'_, ()> {
        self.send(Verb::Watch, |backend, _| backend.watch())
    }

    fn publish<'a>(&'a self, sender: &'a Sender, circuits: &'a str) -> Answer<'a, ()> {
        self.send(Verb::Watch, |backend, _| backend.publish(sender, circuits))
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        if self.line.pushes { self.backend.subscribe() } else { self.line.silence.subscribe() }
    }

    fn impairments(&self) -> Vec<Impairment> {
        self.backend.impairments()
    }

    fn close(&self) -> Answer<'_, ()> {
        self.backend.close()
    }
}
