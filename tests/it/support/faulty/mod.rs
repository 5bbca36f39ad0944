//! A replica's line to the ledger, that does what networks do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{broadcast, oneshot};
use tokio::time::sleep;
use tower_breaker::backend::{
    Answer, Backend, BackendError, Lease, MemoryBackend, Move, Notice, OverrideRecord, Probed,
    Report, View,
};
use tower_breaker::event::{Event, Origin, Reason};
use tower_breaker::{CircuitName, State};

use super::checker::Checker;
use super::ms;
use super::network::{Network, at_once, brief, state_of};

/// One replica's line to the ledger. Clones are the same line.
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
    /// Its replica is gone.
    dead: AtomicBool,
    notices: broadcast::Sender<Notice>,
    heard: Mutex<Heard>,
}

/// What a replica can know.
#[derive(Debug, Default)]
struct Heard {
    /// Every state of every generation that has come through to it.
    states: BTreeMap<u64, Vec<State>>,
    /// The generation that it has gone to.
    at: u64,
}

/// What befalls one message.
struct Fate {
    request: u64,
    reply: u64,
    request_lost: bool,
    reply_lost: bool,
    again: Option<u64>,
    fail_fast: bool,
}

impl Faulty {
    pub(crate) fn new(replica: usize, start: u64, network: Arc<Network>) -> Self {
        let mut told = network.ledger.subscribe();
        let line = Line {
            replica,
            start,
            network,
            cut: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            notices: broadcast::channel(1024).0,
            heard: Mutex::default(),
        };
        let faulty = Self { line: Arc::new(line) };
        let line = faulty.line.clone();
        tokio::spawn(async move {
            while let Ok(notice) = told.recv().await {
                if line.dead.load(Ordering::Relaxed) {
                    return;
                }
                line.push(notice);
            }
        });
        faulty
    }

    /// Its replica's circuit has changed. It goes to what the ledger says now, or said later than what
    /// it has gone to before.
    pub(crate) fn changed(&self, event: &Event) {
        let (network, replica) = (&self.line.network, self.line.replica);
        let Event::Transition(transition) = event else { return };
        let (to, origin) = (transition.to, transition.origin);
        network.trace(|| format!("r{replica}: {transition} {} {origin:?}", transition.generation));
        // An open interval of the cluster's ends by itself where the ledger is lost.
        let by_itself = transition.reason == Reason::IntervalOver;
        if origin == Origin::Local || to.is_overridden() {
            return;
        }
        let heard = &mut *self.line.heard.lock().unwrap();
        let mut later = heard.states.range(heard.at..);
        match later.find(|(_, states)| states.contains(&to)) {
            Some((generation, _)) => heard.at = *generation,
            None if by_itself => {}
            None => network.wrong(format!("r{replica} went back: {transition}, at {}", heard.at)),
        }
    }

    /// Nothing passes any more, either way.
    pub(crate) fn cut(&self) {
        self.line.network.trace(|| format!("r{} is cut off", self.line.replica));
        self.line.cut.store(true, Ordering::Relaxed);
    }

    /// Everything passes again. `told` is whether the replica hears that it may have missed something.
    pub(crate) fn heal(&self, told: bool) {
        if self.line.cut.swap(false, Ordering::Relaxed) {
            self.line.network.trace(|| format!("r{} is back, told: {told}", self.line.replica));
            if told {
                self.line.tell(Notice::Gap);
            }
        }
    }

    /// Its replica is gone, without a word.
    pub(crate) fn kill(&self) {
        self.cut();
        self.line.dead.store(true, Ordering::Relaxed);
    }

    /// Sends what is to be done, and waits for what comes of it.
    fn send<T: Told + Send + 'static>(
        &self,
        what: &'static str,
        may_repeat: bool,
        act: impl Fn(&Line) -> T + Send + Sync + 'static,
    ) -> Answer<'static, T> {
        let line = self.line.clone();
        let fate = line.fate();
        let (tell, hears) = oneshot::channel();
        tokio::spawn(async move {
            let answer = line.carry(what, &fate, &act).await;
            match answer {
                Some(answer) => {
                    if let Some(view) = answer.view() {
                        line.hears(view);
                    }
                    // Nobody may be waiting.
                    let _ = tell.send(Ok(answer));
                }
                None if fate.fail_fast => {
                    let _ = tell.send(Err(BackendError::unavailable("connection reset")));
                }
                None => drop(tell),
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
            match hears.await {
                Ok(answer) => answer,
                // Lost: nobody says so.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

impl Line {
    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Carries a request there and its answer back; `None` where one of them is lost.
    async fn carry<T>(
        &self,
        what: &str,
        fate: &Fate,
        act: &(impl Fn(&Self) -> T + Sync),
    ) -> Option<T> {
        sleep(ms(fate.request)).await;
        if fate.request_lost || self.is_cut() {
            self.network.trace(|| format!("r{} {what}: lost", self.replica));
            return None;
        }
        let answer = act(self);
        sleep(ms(fate.reply)).await;
        if fate.reply_lost || self.is_cut() {
            self.network.trace(|| format!("r{} {what}: reply lost", self.replica));
            return None;
        }
        Some(answer)
    }

    fn fate(&self) -> Fate {
        let (rng, plan) = &mut *self.network.weather();
        let mut happens = |chance: u32| chance > 0 && rng.u32(..1000) < chance;
        let (request_lost, reply_lost) = (happens(plan.lose_request), happens(plan.lose_reply));
        let (again, fail_fast) = (happens(plan.duplicate), happens(plan.fail_fast));
        // Most are quick, a few are not.
        let mut delay = || {
            let longest = if rng.u32(..4) == 0 { plan.delay } else { plan.delay / 8 };
            plan.delay_all + rng.u64(..=longest)
        };
        Fate {
            request: delay(),
            reply: delay(),
            request_lost,
            reply_lost,
            again: again.then(|| delay() + 1),
            fail_fast,
        }
    }

    fn hears(&self, view: &View) {
        let mut heard = self.heard.lock().unwrap();
        let states = heard.states.entry(view.generation).or_default();
        if !states.contains(&state_of(view)) {
            states.push(state_of(view));
        }
    }

    fn tell(&self, notice: Notice) {
        if let Notice::View(_, view) = &notice {
            self.hears(view);
        }
        // Its replica may have gone.
        let _ = self.notices.send(notice);
    }

    fn push(self: &Arc<Self>, notice: Notice) {
        let (rng, plan) = &mut *self.network.weather();
        if self.is_cut() || (plan.lose_push > 0 && rng.u32(..1000) < plan.lose_push) {
            return;
        }
        match rng.u64(..=plan.delay_push) {
            0 => self.tell(notice),
            delay => {
                let line = self.clone();
                tokio::spawn(async move {
                    sleep(ms(delay)).await;
                    if !line.is_cut() {
                        line.tell(notice);
                    }
                });
            }
        }
    }

    /// Does an operation at the ledger, in sight of the checker.
    fn at_ledger<T>(
        &self,
        what: &'static str,
        act: impl FnOnce(&MemoryBackend, &mut Checker) -> (T, View),
    ) -> (T, View) {
        let checker = &mut *self.network.checker();
        let wrong = checker.wrong.len();
        let (answer, view) = act(&self.network.ledger, checker);
        checker.saw(&view);
        self.network.trace(|| format!("r{} {what}: {}", self.replica, brief(&view)));
        for wrong in &checker.wrong[wrong..] {
            self.network.trace(|| format!("WRONG {wrong}"));
        }
        (answer, view)
    }
}

/// What a ledger answers.
trait Told {
    fn view(&self) -> Option<&View>;
}

impl Told for View {
    fn view(&self) -> Option<&View> {
        Some(self)
    }
}

impl Told for (Option<Lease>, View) {
    fn view(&self) -> Option<&View> {
        Some(&self.1)
    }
}

impl Told for () {
    fn view(&self) -> Option<&View> {
        None
    }
}

/// Nothing is sent before the law on cancellation allows: what is dropped happens once or not at all,
/// and within the time that a message takes. What would harm if it came twice, an override, is sent
/// once, as the law says; everything else has to bear it.
impl Backend for Faulty {
    fn load<'a>(&'a self, circuit: &'a CircuitName) -> Answer<'a, View> {
        let circuit = circuit.clone();
        self.send("load", true, move |line| {
            line.at_ledger("load", |ledger, _| ((), at_once(ledger.load(&circuit)))).1
        })
    }

    fn report<'a>(&'a self, circuit: &'a CircuitName, report: &'a Report) -> Answer<'a, View> {
        let (circuit, report) = (circuit.clone(), report.clone());
        self.send("report", true, move |line| {
            line.network.trace(|| {
                let Report { seq, generation, delta, vote, .. } = &report;
                format!("r{} report {seq} of {generation}: {delta:?} {vote:?}", line.replica)
            });
            let act = |ledger: &MemoryBackend, checker: &mut Checker| {
                let view = at_once(ledger.report(&circuit, &report));
                checker.reported(&report, &view);
                ((), view)
            };
            line.at_ledger("report", act).1
        })
    }

    fn transition<'a>(
        &'a self,
        circuit: &'a CircuitName,
        from: u64,
        to: &'a Move,
    ) -> Answer<'a, View> {
        let (circuit, to) = (circuit.clone(), *to);
        self.send("transition", true, move |line| {
            line.network.trace(|| format!("r{} transition {from} to {to:?}", line.replica));
            let act = |ledger: &MemoryBackend, checker: &mut Checker| {
                checker.proposed(from, to);
                ((), at_once(ledger.transition(&circuit, from, &to)))
            };
            line.at_ledger("transition", act).1
        })
    }

    fn acquire_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        generation: u64,
        nonce: u64,
    ) -> Answer<'a, (Option<Lease>, View)> {
        let circuit = circuit.clone();
        // Asked again at once: what is asked again after its settling has another nonce.
        let again = self.line.fate().again.is_some();
        self.send("acquire", false, move |line| {
            line.at_ledger("acquire", |ledger, checker| {
                if again {
                    at_once(ledger.acquire_probe(&circuit, generation, nonce));
                }
                let (lease, view) = at_once(ledger.acquire_probe(&circuit, generation, nonce));
                line.network.trace(|| format!("r{} in {generation}: {lease:?}", line.replica));
                checker.granted(line.start, lease);
                (lease, view)
            })
        })
    }

    fn settle_probe<'a>(
        &'a self,
        circuit: &'a CircuitName,
        lease: Lease,
        result: &'a Probed,
    ) -> Answer<'a, View> {
        let (circuit, probed) = (circuit.clone(), *result);
        self.send("settle", true, move |line| {
            line.network.trace(|| format!("r{} settle {lease:?} {probed:?}", line.replica));
            let act = |ledger: &MemoryBackend, checker: &mut Checker| {
                let view = at_once(ledger.settle_probe(&circuit, lease, &probed));
                checker.settled(line.start, lease, probed, &view);
                ((), view)
            };
            line.at_ledger("settle", act).1
        })
    }

    fn restore<'a>(&'a self, circuit: &'a CircuitName, view: &'a View) -> Answer<'a, View> {
        let (circuit, view) = (circuit.clone(), view.clone());
        self.send("restore", true, move |line| {
            line.network.trace(|| format!("r{} restores {}", line.replica, brief(&view)));
            let act = |ledger: &MemoryBackend, checker: &mut Checker| {
                let told = at_once(ledger.restore(&circuit, &view));
                checker.stats.restored += u64::from(told.generation == view.generation);
                ((), told)
            };
            line.at_ledger("restore", act).1
        })
    }

    fn set_override<'a>(
        &'a self,
        circuit: &'a CircuitName,
        setting: Option<&'a OverrideRecord>,
    ) -> Answer<'a, View> {
        let (circuit, setting) = (circuit.clone(), setting.cloned());
        self.send("impose", false, move |line| {
            line.network.trace(|| format!("r{} imposes {setting:?}", line.replica));
            let act = |ledger: &MemoryBackend, _: &mut _| {
                ((), at_once(ledger.set_override(&circuit, setting.as_ref())))
            };
            line.at_ledger("impose", act).1
        })
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.line.notices.subscribe()
    }

    fn ping(&self) -> Answer<'_, ()> {
        self.send("ping", false, |_| ())
    }
}
