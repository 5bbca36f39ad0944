//! Lives of whole clusters, drawn from seeds: replicas that share a ledger over a network that delays,
//! loses, repeats and cuts; that crash and are replaced; whose ledger forgets. What must never be is
//! looked at with every operation at the ledger and every call (`support/checker.rs`,
//! `support/sim.rs`); what must come is looked at here, once nothing goes wrong any more.
//!
//! A seed that fails is told with the command that replays it, with a trace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use tower_breaker::State;
use tower_breaker::backend::RecordState;

use crate::support::checker::Stats;
use crate::support::network::brief;
use crate::support::schedule::Schedule;
use crate::support::sim::{Replica, World};
use crate::support::*;

const SCHEDULES: u64 = 10_000;
const THREADS: u64 = 2;
const REPLAY: &str = "cargo test --features test-util --test it cluster_sim -- --nocapture";

#[test]
fn whatever_a_network_and_crashes_do_a_cluster_keeps_its_promises() {
    if let Some(seed) = variable("CLUSTER_SIM_SEED") {
        let (wrong, _) = live(seed, true);
        assert!(wrong.is_empty(), "{wrong:#?}");
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
                let (wrong, lived) = live(seed, false);
                stats.add(lived);
                if !wrong.is_empty() {
                    failed.push((seed, wrong));
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
    for (seed, wrong) in &failed {
        println!("{wrong:#?}\nTo see it: CLUSTER_SIM_SEED={seed} {REPLAY}");
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
}

#[expect(clippy::disallowed_methods, reason = "of the tests, not of the crate")]
fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{value}`")))
}

/// Lives the life of a seed. What was wrong with it, and what has happened.
fn live(seed: u64, trace: bool) -> (Vec<String>, Stats) {
    let schedule = Schedule::draw(seed);
    if trace {
        println!("{schedule:#?}");
    }
    paused(async move {
        fastrand::seed(seed);
        let world = World::new(schedule, trace).await;
        let mut cluster = Cluster::new(world);
        cluster.trouble().await;
        cluster.recover().await;
        let checker = cluster.world.network.checker();
        (checker.wrong.clone(), checker.stats)
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

    async fn trouble(&mut self) {
        let end = now() + self.world.schedule.trouble;
        while now() < end {
            sleep(ms(self.rng.u64(50..900))).await;
            let Schedule { partitions, crashes, forgets, hands, .. } = self.world.schedule;
            let upstream = 3;
            let all = [upstream, partitions, partitions, crashes, forgets, hands];
            let mut draw = self.rng.u32(..all.iter().sum::<u32>());
            let kind = all.iter().position(|&chance| {
                let hit = draw < chance;
                draw = draw.saturating_sub(chance);
                hit
            });
            let at = self.any();
            match kind {
                Some(0) => self.world.set_up(self.rng.bool()),
                Some(1) => self.replicas[at].line.cut(),
                Some(2) => self.replicas[at].line.heal(self.rng.bool()),
                Some(3) => self.replace(at),
                Some(4) => self.world.network.forget(),
                Some(5) => self.hand(at),
                _ => {}
            }
        }
    }

    fn replace(&mut self, at: usize) {
        let new = self.world.start(at);
        std::mem::replace(&mut self.replicas[at], new).crash();
    }

    fn hand(&mut self, at: usize) {
        let circuit = &self.replicas[at].circuit;
        let name = format!("r{at}");
        self.world.network.trace(|| format!("{name}: by hand"));
        drop(match self.rng.u32(..6) {
            0 => circuit.force_open(name),
            1 => circuit.force_closed(name),
            2 => circuit.disable(name),
            3 => circuit.metrics_only(name),
            _ => circuit.reset(),
        });
    }

    async fn recover(&mut self) {
        let told = self.rng.bool();
        self.world.calm_down();
        for replica in &self.replicas {
            replica.line.heal(told);
        }
        let agree = |world: &World, replicas: &[Replica]| {
            let view = world.ledger();
            replicas.iter().all(|replica| replica.agrees(&view))
        };
        let bound = self.world.schedule.bound();
        self.within(bound, "all agree with the ledger", agree).await;
        let by_hand = self.world.ledger().overridden.record.is_some();
        if by_hand || self.world.schedule.hands > 0 {
            // A hand that a replica has not told of yet would come last.
            sleep(s(3)).await;
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
            self.world.set_up(false);
            let shut = |replica: &Replica| {
                matches!(replica.circuit.state(), State::Open | State::HalfOpen)
            };
            let all_shut = |world: &World, all: &[Replica]| {
                let shared = world.ledger().state != RecordState::Closed;
                all.iter().all(shut) && (shared || world.schedule.quorum > 1)
            };
            self.within(bound, "open everywhere", all_shut).await;
        }
        self.world.set_up(true);
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
                let ledger = brief(&self.world.ledger());
                let what = format!("not {what} within {bound:?}: {ledger}, {states:#?}");
                return self.world.network.wrong(what);
            }
            sleep(ms(100)).await;
        }
        self.world.network.trace(|| format!("{what}, after {:?}", since.elapsed()));
    }
}
