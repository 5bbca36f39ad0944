//! A cluster in one thread, on a paused clock: replicas, their callers, an upstream, and a network.
//! Everything random is drawn from a seed, so that a seed replays the same history.

mod caller;
mod replica;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::advance;
use tower_breaker::backend::{Geometry, View};
use tower_breaker::event::Tally;
use tower_breaker::{CircuitName, Policy, Store};

use self::caller::{Caller, InFlight, Probing};
pub(crate) use self::replica::Replica;
use self::replica::Seen;
use super::faulty::Faulty;
use super::ms;
use super::network::{self, Network, Plan};
use super::schedule::Schedule;

/// How long a call may wait for the backend, and how much later it may notice.
const DEADLINE: Duration = ms(50);
const SLACK: Duration = ms(20);

/// How long a replica stays detached after the backend answers again, until it has loaded its
/// circuits. The same holds after its start, if the first load fails.
const REJOINING: Duration = ms(1500);

/// What all participants of a schedule share.
pub(crate) struct World {
    pub(crate) schedule: Schedule,
    pub(crate) network: Arc<Network>,
    name: CircuitName,
    upstream_is_up: AtomicBool,
    faults_ended: AtomicBool,
    callers_stopped: AtomicBool,
    probing: Mutex<Vec<Probing>>,
    starts: AtomicU64,
}

impl World {
    pub(crate) async fn new(schedule: Schedule, trace: bool) -> Arc<Self> {
        // The buckets of a backend begin at round times: begin every history at one.
        advance(ms(1_000 - network::millis() % 1_000)).await;
        let network = Network::new(schedule.seed ^ 0x5eed, trace);
        network.set_plan(schedule.plan);
        network.checker().order.set_proof(schedule.proof());
        Arc::new(Self {
            schedule,
            network,
            name: CircuitName::new("sim").unwrap(),
            upstream_is_up: AtomicBool::new(true),
            faults_ended: AtomicBool::new(false),
            callers_stopped: AtomicBool::new(false),
            probing: Mutex::default(),
            starts: AtomicU64::new(0),
        })
    }

    fn upstream_is_up(&self) -> bool {
        self.upstream_is_up.load(Ordering::Relaxed)
    }

    pub(crate) fn set_upstream_up(&self, up: bool) {
        self.network.trace(|| format!("the upstream is up: {up}"));
        self.upstream_is_up.store(up, Ordering::Relaxed);
    }

    /// Nothing goes wrong from here on.
    pub(crate) fn end_faults(&self) {
        self.network.trace(|| "the faults end".into());
        self.network.set_plan(Plan { delay: 8, ..Plan::NONE });
        self.faults_ended.store(true, Ordering::Relaxed);
    }

    /// No caller starts a call from here on.
    pub(crate) fn stop_callers(&self) {
        self.callers_stopped.store(true, Ordering::Relaxed);
    }

    /// What the backend has counted.
    pub(crate) fn totals(&self, window: Geometry) -> Tally {
        self.network.totals(&self.name, window)
    }

    /// Has all replicas report what they hold.
    pub(crate) fn call_roll(&self) {
        self.network.call_roll(&self.name);
    }

    /// The circuit as the backend describes it.
    pub(crate) fn view(&self) -> View {
        self.network.load(&self.name)
    }

    /// Starts a replica and its callers.
    pub(crate) fn start(self: &Arc<Self>, index: usize) -> Replica {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        let seen = Arc::new(Seen { start, name: format!("r{index}.{start}"), ..Seen::default() });
        self.network.trace(|| format!("{} starts", seen.name));
        self.network.checker().order.starts(start, self.policy(index));
        let line = Faulty::new(index, start, self.network.clone());
        let (network, observer) = (self.network.clone(), line.clone());
        let connected = seen.clone();
        connected.connect();
        let store = Store::builder()
            .on_backend(move |status| {
                connected.connect();
                network.trace(|| format!("r{index}: {status}"));
            })
            .backend(line.clone())
            .replica(format!("r{index}"))
            .report_interval(self.schedule.report_interval)
            .default_policy(self.policy(index))
            .on_change(move |_, event| observer.changed(event))
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

    /// Begins a probe, and checks that the whole cluster has no more of them than the policy
    /// allows.
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
                // A lease begins at the backend before the replica receives it.
                && probe.since + lease > new.since + DEADLINE + ms(1)
        };
        let leased = || self.network.checker().leases_of(new.start, new.generation, Duration::ZERO);
        if !new.detached && self.schedule.forgets == 0 && leased() == 0 {
            self.network.violation(format!("a probe without a lease: {new:?}"));
        }
        let out = probing.iter().filter(alike).count() as u64;
        if out > most && self.schedule.counts_probes() {
            self.network.violation(format!("{out} probes in flight of {most}: {probing:?}"));
        }
        InFlight { world: self.clone(), probing: new }
    }
}
