//! A replica's connection to the backend, over a network that delays, drops and repeats messages.

mod backend;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{broadcast, oneshot};
use tokio::time::sleep;
use tower_breaker::State;
use tower_breaker::backend::{Answer, Backend, BackendError, Batch, MemoryBackend, Notice, View};
use tower_breaker::event::{Event, Origin, Reason, Transition};

use self::backend::HasViews;
use super::checker::Checker;
use super::network::{Network, brief, state_of};
use super::{ms, s};

/// One replica's connection to the backend. Clones are the same connection.
#[derive(Clone, Debug)]
pub(crate) struct Faulty {
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    replica: usize,
    /// Which start of a replica this is.
    start: u64,
    network: Arc<Network>,
    cut: AtomicBool,
    /// Its replica has crashed.
    dead: AtomicBool,
    notices: broadcast::Sender<Notice>,
    received: Mutex<Received>,
}

/// What a replica can know.
#[derive(Debug, Default)]
struct Received {
    /// Every state of every generation that a message has brought.
    states: BTreeMap<u64, Vec<State>>,
    /// The generation that the replica has applied.
    at: u64,
}

/// What happens to one message.
struct Fate {
    request: u64,
    reply: u64,
    drops_request: bool,
    drops_reply: bool,
    again: Option<u64>,
    fail_fast: bool,
}

/// Whether a replica is notified, when its connection is back, that it may have missed changes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gap {
    Notified,
    Unnoticed,
}

impl Gap {
    pub(crate) fn draw(rng: &mut fastrand::Rng) -> Self {
        if rng.bool() { Self::Notified } else { Self::Unnoticed }
    }
}

impl Faulty {
    pub(crate) fn new(replica: usize, start: u64, network: Arc<Network>) -> Self {
        let mut changes = network.backend.subscribe();
        let line = Line {
            replica,
            start,
            network,
            cut: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            notices: broadcast::channel(1024).0,
            received: Mutex::default(),
        };
        let faulty = Self { line: Arc::new(line) };
        let line = faulty.line.clone();
        tokio::spawn(async move {
            while let Ok(notice) = changes.recv().await {
                if line.dead.load(Ordering::Relaxed) {
                    return;
                }
                line.push(notice);
            }
        });
        faulty
    }

    /// Checks a transition of its replica's circuit: it must lead to a state that the backend sent,
    /// in the generation that the replica has applied or in a later one.
    pub(crate) fn changed(&self, event: &Event) {
        let (network, replica) = (&self.line.network, self.line.replica);
        let Event::Transition(transition) = event else { return };
        let (to, origin) = (transition.to, transition.origin);
        network.trace(|| format!("r{replica}: {transition} {} {origin:?}", transition.generation));
        // An open interval of the cluster ends by itself where the backend does not answer.
        let by_itself = transition.reason == Reason::IntervalOver;
        if (origin, transition.from, to) == (Origin::Local, State::Closed, State::Open) {
            let Transition { reason, tally, .. } = *transition;
            network.checker().order.opened(self.line.start, reason, tally);
        }
        if origin == Origin::Local || to.is_overridden() {
            return;
        }
        let received = &mut *self.line.received.lock().unwrap();
        // After an emptying, what was only pushed before is not restored, and what an older replica
        // still knows is: the others may have to go back.
        if network.was_emptied_within(s(60)) {
            received.at = 0;
        }
        let mut later = received.states.range(received.at..);
        match later.find(|(_, states)| states.contains(&to)) {
            // What it was sent while detached, it has not applied.
            Some((generation, _)) if by_itself && *generation != transition.generation => {}
            Some((generation, _)) => received.at = *generation,
            None if by_itself => {}
            None => {
                let at = received.at;
                network.violation(format!("r{replica} went back: {transition}, at {at}"));
            }
        }
    }

    /// Lets no message pass from here on, in either direction.
    pub(crate) fn cut(&self) {
        self.line.network.trace(|| format!("r{} is cut off", self.line.replica));
        self.line.cut.store(true, Ordering::Relaxed);
    }

    /// Lets all messages pass again.
    pub(crate) fn heal(&self, gap: Gap) {
        if self.line.cut.swap(false, Ordering::Relaxed) {
            self.line.network.trace(|| format!("r{} is back, gap {gap:?}", self.line.replica));
            if matches!(gap, Gap::Notified) {
                self.line.deliver(Notice::Gap);
            }
        }
    }

    /// Ends the connection, as its replica has crashed.
    pub(crate) fn kill(&self) {
        self.cut();
        self.line.dead.store(true, Ordering::Relaxed);
    }

    /// Sends a request and waits for its answer.
    fn send<T: HasViews + Send + 'static>(
        &self,
        what: &'static str,
        may_repeat: bool,
        act: impl Fn(&Line) -> T + Send + Sync + 'static,
    ) -> Answer<'static, T> {
        let line = self.line.clone();
        let fate = line.fate();
        let (sender, receiver) = oneshot::channel();
        tokio::spawn(async move {
            let answer = line.carry(what, &fate, &act).await;
            match answer {
                Some(answer) => {
                    answer.views().into_iter().for_each(|view| line.receives(view));
                    // The caller may have stopped waiting.
                    let _ = sender.send(Ok(answer));
                }
                None if fate.fail_fast => {
                    let _ = sender.send(Err(BackendError::unavailable("connection reset")));
                }
                None => drop(sender),
            }
            if let (Some(later), true) = (fate.again, may_repeat) {
                sleep(ms(later)).await;
                if !line.is_cut() {
                    line.network.trace(|| format!("r{} {what}: again", line.replica));
                    act(&line);
                }
            }
        });
        Box::pin(async {
            match receiver.await {
                Ok(answer) => answer,
                // A dropped message is not reported.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

impl Line {
    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Carries a request to the backend and its reply back; `None` if one of them is dropped.
    async fn carry<T>(
        &self,
        what: &str,
        fate: &Fate,
        act: &(impl Fn(&Self) -> T + Sync),
    ) -> Option<T> {
        sleep(ms(fate.request)).await;
        if fate.drops_request || self.is_cut() {
            self.network.trace(|| format!("r{} {what}: request dropped", self.replica));
            return None;
        }
        let answer = act(self);
        sleep(ms(fate.reply)).await;
        if fate.drops_reply || self.is_cut() {
            self.network.trace(|| format!("r{} {what}: reply dropped", self.replica));
            return None;
        }
        Some(answer)
    }

    fn fate(&self) -> Fate {
        let (rng, plan) = &mut *self.network.faults();
        let mut happens = |chance: u32| chance > 0 && rng.u32(..1000) < chance;
        let (drops_request, drops_reply) = (happens(plan.drop_request), happens(plan.drop_reply));
        let (again, fail_fast) = (happens(plan.duplicate), happens(plan.fail_fast));
        // Most messages are quick, a few are not.
        let mut delay = || {
            let longest = if rng.u32(..4) == 0 { plan.delay } else { plan.delay / 8 };
            plan.delay_all + rng.u64(..=longest)
        };
        Fate {
            request: delay(),
            reply: delay(),
            drops_request,
            drops_reply,
            again: again.then(|| delay() + 1),
            fail_fast,
        }
    }

    fn receives(&self, view: &View) {
        let mut received = self.received.lock().unwrap();
        let states = received.states.entry(view.generation).or_default();
        if !states.contains(&state_of(view)) {
            states.push(state_of(view));
        }
    }

    fn deliver(&self, notice: Notice) {
        if let Notice::Changed { view, .. } = &notice {
            self.receives(view);
        }
        // Its replica may have crashed.
        let _ = self.notices.send(notice);
    }

    fn push(self: &Arc<Self>, notice: Notice) {
        let (rng, plan) = &mut *self.network.faults();
        if self.is_cut() || (plan.drop_push > 0 && rng.u32(..1000) < plan.drop_push) {
            return;
        }
        match rng.u64(..=plan.delay_push) {
            0 => self.deliver(notice),
            delay => {
                let line = self.clone();
                tokio::spawn(async move {
                    sleep(ms(delay)).await;
                    if !line.is_cut() {
                        line.deliver(notice);
                    }
                });
            }
        }
    }

    /// Does an operation on the backend, and lets the checker see it.
    fn at_backend<T: HasViews>(
        &self,
        what: &'static str,
        act: impl FnOnce(&MemoryBackend, &mut Checker) -> T,
    ) -> T {
        let checker = &mut *self.network.checker();
        let before = checker.violations.len();
        let answer = act(&self.network.backend, checker);
        for view in answer.views() {
            checker.saw(view);
            self.network.trace(|| format!("r{} {what}: {}", self.replica, brief(view)));
        }
        for violation in &checker.violations[before..] {
            self.network.trace(|| format!("VIOLATION {violation}"));
        }
        answer
    }

    fn trace_batch(&self, batch: &Batch) {
        for report in &batch.reports {
            self.network.trace(|| {
                let Batch { seq, seen, .. } = batch;
                format!("r{} batch {seq}, seen {seen}: {report:?}", self.replica)
            });
        }
    }
}
