//! A cluster in one thread, on a clock that stands still: replicas, their callers, an upstream, and a
//! network. All that is drawn is drawn from a seed; the same seed is the same life.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, advance, sleep, timeout};
use tower_breaker::backend::{Geometry, RecordState, View};
use tower_breaker::circuit::{Permit, Snapshot};
use tower_breaker::event::{Origin, Tally};
use tower_breaker::{Circuit, CircuitName, Outcome, Policy, State, Store};

use super::faulty::Faulty;
use super::network::{self, Network, Plan};
use super::schedule::Schedule;
use super::{ms, now};

/// How long a call may wait for the ledger, and what it may take beyond that.
const DEADLINE: Duration = ms(50);
const SLACK: Duration = ms(20);

/// A replica whose ledger is back decides alone until it has loaded its circuits; so it does at its
/// start, if that fails.
const REJOINING: Duration = ms(1500);

/// What all who take part in a schedule share.
pub(crate) struct World {
    pub(crate) schedule: Schedule,
    pub(crate) network: Arc<Network>,
    name: CircuitName,
    up: AtomicBool,
    calm: AtomicBool,
    /// Nobody calls any more.
    quiet: AtomicBool,
    probing: Mutex<Vec<Probing>>,
    starts: AtomicU64,
}

/// A probe's call that is under way.
#[derive(Clone, Copy, Debug)]
struct Probing {
    replica: usize,
    start: u64,
    generation: u64,
    since: Instant,
    /// The replica has no ledger.
    detached: bool,
}

/// One start of one process of the service.
pub(crate) struct Replica {
    pub(crate) line: Faulty,
    store: Store,
    pub(crate) circuit: Circuit,
    seen: Arc<Seen>,
    callers: Vec<AbortHandle>,
    /// What it opens alone is a vote.
    votes: bool,
}

/// What a replica has really seen.
#[derive(Debug, Default)]
struct Seen {
    name: String,
    start: u64,
    generation: AtomicU64,
    /// Calls that were let pass while it was closed.
    calls: AtomicU64,
    /// Those of them that failed.
    failures: AtomicU64,
    /// Calls that succeeded and were not let pass while it was closed.
    passed: AtomicU64,
    /// When the ledger was found again, or first.
    connected: Mutex<Option<Instant>>,
    /// Its own path to the upstream is broken.
    broken: AtomicBool,
}

impl World {
    pub(crate) async fn new(schedule: Schedule, trace: bool) -> Arc<Self> {
        // A ledger's buckets begin at round times: let every life begin at one.
        advance(ms(1_000 - network::millis() % 1_000)).await;
        let network = Network::new(schedule.seed ^ 0x5eed, trace);
        network.set_plan(schedule.plan);
        Arc::new(Self {
            schedule,
            network,
            name: CircuitName::new("sim").unwrap(),
            up: AtomicBool::new(true),
            calm: AtomicBool::new(false),
            quiet: AtomicBool::new(false),
            probing: Mutex::default(),
            starts: AtomicU64::new(0),
        })
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.network.trace(|| format!("the upstream is up: {up}"));
        self.up.store(up, Ordering::Relaxed);
    }

    /// Nothing goes wrong from here on.
    pub(crate) fn calm_down(&self) {
        self.network.trace(|| "all is calm".into());
        self.network.set_plan(Plan { delay: 8, ..Plan::default() });
        self.calm.store(true, Ordering::Relaxed);
    }

    /// Nobody calls from here on.
    pub(crate) fn fall_quiet(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }

    /// What the ledger has counted.
    pub(crate) fn totals(&self, window: Geometry) -> Tally {
        self.network.totals(&self.name, window)
    }

    /// What the ledger knows.
    pub(crate) fn ledger(&self) -> View {
        self.network.load(&self.name)
    }

    /// Starts a replica, and its callers.
    pub(crate) fn start(self: &Arc<Self>, index: usize) -> Replica {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        let seen = Arc::new(Seen { start, name: format!("r{index}.{start}"), ..Seen::default() });
        self.network.trace(|| format!("{} starts", seen.name));
        let line = Faulty::new(index, start, self.network.clone());
        let (network, ear) = (self.network.clone(), line.clone());
        let connected = seen.clone();
        connected.connect();
        let store = Store::builder()
            .on_backend(move |status| {
                connected.connect();
                network.trace(|| format!("r{index}: {status}"));
            })
            .backend(line.clone())
            .replica(&seen.name)
            .report_interval(self.schedule.report_interval)
            .default_policy(self.policy(index))
            .on_change(move |_, event| ear.changed(event))
            .build();
        let circuit = store.circuit(self.name.clone());
        // How many draws it took to find an engine in the pool depends on other tests.
        fastrand::seed(self.schedule.seed ^ start << 32);
        let caller = |n| {
            let rng = fastrand::Rng::with_seed(self.schedule.seed ^ start << 16 ^ n);
            let (world, circuit, seen) = (self.clone(), circuit.clone(), seen.clone());
            let caller = Caller { world, index, circuit, store: store.clone(), seen, rng };
            tokio::spawn(caller.run()).abort_handle()
        };
        let callers = (1..=self.schedule.callers).map(caller).collect();
        let votes = self.schedule.quorum > 1;
        Replica { line, store, circuit, seen, callers, votes }
    }

    fn policy(&self, index: usize) -> Policy {
        match &self.schedule.other_policy {
            Some(other) if index % 2 == 1 => other.clone(),
            _ => self.schedule.policy.clone(),
        }
    }

    /// Sees that no more probe than may, over the whole cluster.
    fn probe(self: &Arc<Self>, mut new: Probing) -> InFlight {
        let mut probing = self.probing.lock().unwrap();
        let round = self.network.checker().round(new.generation);
        let (lease, most) = match round {
            Some((generation, terms)) if !new.detached => {
                new.generation = generation;
                (terms.lease, terms.probes)
            }
            _ => (self.schedule.lease, 1),
        };
        probing.push(new);
        let alike = |probe: &&Probing| {
            probe.generation == new.generation
                && probe.detached == new.detached
                && (!new.detached || probe.replica == new.replica)
                // The ledger's leases begin before the replica hears of them.
                && probe.since + lease > new.since + DEADLINE + ms(1)
        };
        let leased = || self.network.checker().leases_of(new.start, new.generation, Duration::ZERO);
        if !new.detached && self.schedule.forgets == 0 && leased() == 0 {
            self.network.wrong(format!("a probe without a lease: {new:?}"));
        }
        let out = probing.iter().filter(alike).count() as u64;
        if out > most && self.schedule.counts_probes() {
            self.network.wrong(format!("{out} probes under way of {most}: {probing:?}"));
        }
        InFlight { world: self.clone(), probing: new }
    }
}

/// Until it is dropped, a probe's call is under way.
struct InFlight {
    world: Arc<World>,
    probing: Probing,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut probing = self.world.probing.lock().unwrap();
        let Probing { replica, since, .. } = self.probing;
        let place = probing.iter().position(|p| p.replica == replica && p.since == since);
        probing.swap_remove(place.unwrap());
    }
}

impl Replica {
    /// Gone, without a word to anybody.
    pub(crate) fn crash(self) {
        self.line.kill();
        for caller in &self.callers {
            caller.abort();
        }
    }

    pub(crate) fn brief(&self) -> String {
        let snapshot = self.circuit.snapshot();
        let (state, generation, origin) = (snapshot.state, snapshot.generation, snapshot.origin);
        format!("{} {state} {generation} {origin:?} {}", self.seen.name, self.store.backend())
    }

    /// Calls that were let pass while it was closed, and how many of them failed.
    pub(crate) fn counted(&self) -> (u64, u64) {
        let Seen { calls, failures, .. } = &*self.seen;
        (calls.load(Ordering::Relaxed), failures.load(Ordering::Relaxed))
    }

    pub(crate) fn break_path(&self, broken: bool) {
        self.seen.broken.store(broken, Ordering::Relaxed);
    }

    /// Whether it is where the ledger is.
    pub(crate) fn agrees(&self, view: &View) -> bool {
        let snapshot = self.circuit.snapshot();
        if let Some(setting) = &view.overridden.record {
            return snapshot.state == setting.state.state();
        }
        // What a replica has opened alone it keeps, while the ledger has nothing against it.
        let alone = snapshot.origin == Origin::Local && snapshot.state != State::Closed;
        let voting = self.votes && alone && view.state == RecordState::Closed;
        // A replica that has opened alone meanwhile has counted on.
        let there = view.generation == View::FIRST || snapshot.generation >= view.generation;
        voting || (there && snapshot.state == network::state_of(view))
    }
}

impl Seen {
    fn connect(&self) {
        *self.connected.lock().unwrap() = Some(now());
    }

    fn is_rejoining(&self) -> bool {
        self.connected.lock().unwrap().is_some_and(|since| since.elapsed() < REJOINING)
    }
}

/// Somebody who calls the upstream, again and again.
struct Caller {
    world: Arc<World>,
    index: usize,
    circuit: Circuit,
    store: Store,
    seen: Arc<Seen>,
    rng: fastrand::Rng,
}

impl Caller {
    async fn run(mut self) {
        while !self.world.quiet.load(Ordering::Relaxed) {
            let pause = self.rng.u64(..self.world.schedule.pause);
            sleep(ms(pause)).await;
            if let Some(permit) = self.ask().await {
                self.call(permit).await;
            }
            self.look();
        }
    }

    fn happens(&mut self, chance: u32) -> bool {
        self.rng.u32(..1000) < chance
    }

    async fn ask(&mut self) -> Option<Permit> {
        let (at_once, cancelled) = (self.world.schedule.at_once, self.world.schedule.cancelled);
        if self.happens(at_once) {
            return self.circuit.try_acquire().ok();
        }
        if self.happens(cancelled) {
            let patience = ms(self.rng.u64(..30));
            return timeout(patience, self.circuit.acquire()).await.ok()?.ok();
        }
        let since = now();
        let answer = self.circuit.acquire().await;
        let took = since.elapsed();
        if took > DEADLINE + SLACK {
            self.world.network.wrong(format!("{} has waited {took:?}", self.seen.name));
        }
        answer.ok()
    }

    async fn call(&mut self, permit: Permit) {
        let snapshot = self.circuit.snapshot();
        let alone = self.is_alone(&snapshot);
        let Schedule { long, cancelled, lease, background, .. } = self.world.schedule;
        let probing = match snapshot.state {
            State::Closed => {
                self.seen.calls.fetch_add(1, Ordering::Relaxed);
                self.world.network.checker().made(&self.seen.name);
                None
            }
            // Whose leave this is cannot be known from outside.
            State::HalfOpen if !alone && self.seen.is_rejoining() => None,
            State::HalfOpen if alone || snapshot.origin == Origin::Cluster => {
                let (replica, start, since) = (self.index, self.seen.start, now());
                Some(Probing {
                    replica,
                    start,
                    generation: snapshot.generation,
                    since,
                    detached: alone,
                })
            }
            State::Open | State::ForcedOpen => {
                self.world.network.wrong(format!("{} calls: {snapshot:?}", self.seen.name));
                None
            }
            _ => None,
        };
        self.world.network.trace(|| format!("{} calls: {probing:?}", self.seen.name));
        let under_way = probing.map(|probing| self.world.probe(probing));
        let calm = self.world.calm.load(Ordering::Relaxed);
        let lasts = if !calm && self.happens(long) {
            self.rng.u64(..2 * u64::try_from(lease.as_millis()).unwrap())
        } else {
            self.rng.u64(..60)
        };
        sleep(ms(lasts)).await;
        drop(under_way);
        if self.happens(cancelled) {
            return drop(permit);
        }
        let calm = self.world.calm.load(Ordering::Relaxed);
        let well = self.world.is_up()
            && !self.seen.broken.load(Ordering::Relaxed)
            && (calm || !self.happens(background));
        if !well && snapshot.state == State::Closed {
            self.seen.failures.fetch_add(1, Ordering::Relaxed);
        }
        if well && snapshot.state != State::Closed {
            self.seen.passed.fetch_add(1, Ordering::Relaxed);
        }
        permit.settle(if well { Outcome::Success } else { Outcome::failure() });
    }

    /// What must hold of a replica at any time.
    fn look(&self) {
        let (seen, network) = (&self.seen, &self.world.network);
        let snapshot = self.circuit.snapshot();
        let before = seen.generation.swap(snapshot.generation, Ordering::Relaxed);
        if before > snapshot.generation {
            network.wrong(format!("{} went back from {before}: {snapshot:?}", seen.name));
        }
        self.look_at_leases(&snapshot);
        let told = network.checker().passed.get(&seen.start).copied().unwrap_or_default();
        let passed = seen.passed.load(Ordering::Relaxed);
        if told > passed {
            network.wrong(format!("{} has told of {told} good probes of {passed}", seen.name));
        }
    }
}

impl Caller {
    /// Whether it decides alone: all its circuits, or this one.
    fn is_alone(&self, snapshot: &Snapshot) -> bool {
        if snapshot.detached {
            self.seen.connect();
        }
        snapshot.detached || self.store.backend().is_degraded()
    }

    /// A replica does not count on a lease for longer than the ledger does.
    fn look_at_leases(&self, snapshot: &Snapshot) {
        let alone = self.is_alone(snapshot) || self.seen.is_rejoining();
        let shared = snapshot.state == State::HalfOpen && snapshot.origin == Origin::Cluster;
        if alone || !shared || self.world.schedule.forgets > 0 {
            return;
        }
        let checker = self.world.network.checker();
        let Some((round, _)) = checker.round(snapshot.generation) else { return };
        // It may be waiting for an answer, or to try again, when a lease runs out.
        let ago = DEADLINE + self.world.schedule.report_interval + SLACK;
        let (held, out) = (snapshot.probes_out, checker.leases_of(self.seen.start, round, ago));
        drop(checker);
        if held > out {
            let what = format!("{} counts on {held} leases of {out}", self.seen.name);
            self.world.network.wrong(what);
        }
    }
}
