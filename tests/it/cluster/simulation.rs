//! Histories of whole clusters, drawn from seeds. Replicas share a backend over a network that
//! delays, drops, repeats and cuts; they crash and are replaced; the backend loses its records.
//!
//! What must never happen is checked with every operation on the backend and with every call
//! (`support/checker.rs`, `support/sim/`). What must happen is checked here, once the faults end.
//!
//! A failing seed is printed with the command that replays it with a trace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use tower_breaker::State;
use tower_breaker::backend::RecordState;

use crate::support::checker::Stats;
use crate::support::faulty::Gap;
use crate::support::network::brief;
use crate::support::schedule::Schedule;
use crate::support::sim::{Replica, World};
use crate::support::*;

const SCHEDULES: u64 = 10_000;
const THREADS: u64 = 2;
const REPLAY: &str = "cargo test --features test-util --test it cluster::simulation -- --nocapture";

#[test]
fn a_cluster_keeps_its_promises_under_network_faults_and_crashes() {
    if let Some(seed) = variable("CLUSTER_SIM_SEED") {
        let (violations, _) = play(seed, true);
        assert!(violations.is_empty(), "{violations:#?}");
        return;
    }
    let schedules = variable("CLUSTER_SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let next = AtomicU64::new(0);
    let (failed, stats) = std::thread::scope(|scope| {
        let work = || {
            let (mut failed, mut stats) = (Vec::new(), Stats::default());
            while failed.len() < 4 {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= schedules {
                    break;
                }
                let (violations, happened) = play(seed, false);
                stats.add(happened);
                if !violations.is_empty() {
                    failed.push((seed, violations));
                }
            }
            (failed, stats)
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let mut all = (Vec::new(), Stats::default());
        for thread in threads {
            let (failed, stats) = thread.join().unwrap();
            all.0.extend(failed);
            all.1.add(stats);
        }
        all
    });
    println!("{schedules} schedules: {stats:?}");
    for (seed, violations) in &failed {
        println!("{violations:#?}\nreplay it with CLUSTER_SIM_SEED={seed} {REPLAY}");
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
}

#[expect(clippy::disallowed_methods, reason = "a setting of the test")]
fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{value}`")))
}

/// Plays the history of a seed. Returns the violations, and what happened.
fn play(seed: u64, trace: bool) -> (Vec<String>, Stats) {
    let schedule = Schedule::draw(seed);
    if trace {
        println!("{schedule:#?}");
    }
    paused(async move {
        fastrand::seed(seed);
        let world = World::new(schedule, trace).await;
        let mut cluster = Cluster::new(world);
        cluster.meet_faults().await;
        cluster.recover().await;
        let mut checker = cluster.world.network.checker();
        checker.stats.opened_by_own = checker.order.opened_by_own;
        checker.stats.opened_by_totals = checker.order.opened_by_totals;
        (checker.violations.clone(), checker.stats)
    })
}

struct Cluster {
    world: Arc<World>,
    replicas: Vec<Replica>,
    rng: fastrand::Rng,
}

impl Cluster {
    fn new(world: Arc<World>) -> Self {
        let rng = fastrand::Rng::with_seed(world.schedule.seed ^ 0x7e11);
        let replicas = (0..world.schedule.replicas).map(|index| world.start(index)).collect();
        Self { world, replicas, rng }
    }

    fn any(&mut self) -> usize {
        self.rng.usize(..self.replicas.len())
    }

    async fn meet_faults(&mut self) {
        let end = now() + self.world.schedule.trouble;
        while now() < end {
            sleep(ms(self.rng.u64(50..900))).await;
            let Schedule { is_healthy, partitions, crashes, forgets, overrides, .. } =
                self.world.schedule;
            let upstream = if is_healthy { 0 } else { 3 };
            let all = [upstream, partitions, partitions, crashes, forgets, overrides];
            let mut draw = self.rng.u32(..all.iter().sum::<u32>().max(1));
            let kind = all.iter().position(|&chance| {
                let hit = draw < chance;
                draw = draw.saturating_sub(chance);
                hit
            });
            let at = self.any();
            match kind {
                Some(0) => self.world.set_upstream_up(self.rng.bool()),
                Some(1) => self.replicas[at].line.cut(),
                Some(2) => self.replicas[at].line.heal(Gap::draw(&mut self.rng)),
                Some(3) => self.replace(at),
                Some(4) => self.world.network.forget(),
                Some(5) => self.set_override(at),
                _ => {}
            }
        }
    }

    fn replace(&mut self, at: usize) {
        let new = self.world.start(at);
        std::mem::replace(&mut self.replicas[at], new).crash();
    }

    fn set_override(&mut self, at: usize) {
        let circuit = &self.replicas[at].circuit;
        let name = format!("r{at}");
        self.world.network.trace(|| format!("{name}: an operator acts"));
        drop(match self.rng.u32(..6) {
            0 => circuit.force_open(name),
            1 => circuit.force_closed(name),
            2 => circuit.disable(name),
            3 => circuit.metrics_only(name),
            _ => circuit.reset(),
        });
    }

    async fn recover(&mut self) {
        let gap = Gap::draw(&mut self.rng);
        self.world.end_faults();
        for replica in &self.replicas {
            replica.line.heal(gap);
        }
        let agree = |world: &World, replicas: &[Replica]| {
            let view = world.view();
            let detached = |replica: &Replica| replica.circuit.snapshot().detached;
            replicas.iter().all(|replica| replica.agrees(&view) && !detached(replica))
        };
        let bound = self.world.schedule.bound();
        self.within(bound, "all agree with the backend", agree).await;
        let overridden = self.world.view().overridden.record.is_some();
        if overridden || self.world.schedule.overrides > 0 {
            // An override that a replica has not sent yet would replace this one, and a request from
            // before that is not answered may still detach a circuit.
            sleep(s(5)).await;
            self.within(bound, "all agree with the backend", agree).await;
            let at = self.any();
            drop(self.replicas[at].circuit.force_open("at last"));
            let forced = |replica: &Replica| replica.circuit.state() == State::ForcedOpen;
            self.within(s(4), "forced open everywhere", |_, all| all.iter().all(forced)).await;
            sleep(s(1)).await;
            let at = self.any();
            drop(self.replicas[at].circuit.reset());
            let free = |replica: &Replica| !replica.circuit.state().is_overridden();
            self.within(s(4), "reset everywhere", |_, all| all.iter().all(free)).await;
        }
        if self.rng.bool() {
            self.world.set_upstream_up(false);
            let opened = |replica: &Replica| {
                matches!(replica.circuit.state(), State::Open | State::HalfOpen)
            };
            let all_opened = |world: &World, all: &[Replica]| {
                let shared = world.view().state != RecordState::Closed;
                all.iter().all(opened) && (shared || world.schedule.quorum > 1)
            };
            self.within(bound, "open everywhere", all_opened).await;
        }
        self.world.set_upstream_up(true);
        let closed = |replica: &Replica| replica.circuit.state() == State::Closed;
        let all_closed = |world: &World, replicas: &[Replica]| {
            replicas.iter().all(closed) && agree(world, replicas)
        };
        self.within(bound, "closed everywhere", all_closed).await;
    }

    async fn within(
        &self,
        bound: Duration,
        what: &str,
        mut holds: impl FnMut(&World, &[Replica]) -> bool,
    ) {
        let since = now();
        while !holds(&self.world, &self.replicas) {
            if since.elapsed() > bound {
                let states: Vec<_> = self.replicas.iter().map(Replica::brief).collect();
                let backend = brief(&self.world.view());
                let what = format!("not {what} within {bound:?}: {backend}, {states:#?}");
                return self.world.network.violation(what);
            }
            sleep(ms(100)).await;
        }
        self.world.network.trace(|| format!("{what}, after {:?}", since.elapsed()));
    }
}
