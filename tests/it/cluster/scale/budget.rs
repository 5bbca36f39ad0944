//! The cost of a replica has a bound, whatever its circuits do, and none of them starves.

use tokio::time::sleep;
use tower_breaker::backend::MemoryBackend;
use tower_breaker::{Circuit, Outcome, Policy, State, Store};

use crate::support::replica::Replica;
use crate::support::traffic::{Fault, Traffic, Verb};
use crate::support::*;

/// Settles a call of each circuit, of which this fraction fails.
fn call_each(circuits: &[Circuit], failures: f64, rng: &mut fastrand::Rng) {
    for circuit in circuits {
        if let Ok(permit) = circuit.try_acquire() {
            let failed = rng.f64() < failures;
            permit.settle(if failed { Outcome::failure() } else { Outcome::Success });
        }
    }
}

/// Circuits that nothing opens but an operator.
fn counting() -> Policy {
    Policy::only().failure_count(1_000_000).build().unwrap()
}

fn circuits(store: &Store, number: usize) -> Vec<Circuit> {
    (0..number).map(|n| store.circuit(n.to_string())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_healthy_circuit_beside_failing_ones_is_not_forgotten() {
    let backend = MemoryBackend::new();
    let line = Traffic::without_pushes(&backend);
    let store = Store::builder().default_policy(counting()).backend(line).build();
    let failing = circuits(&store, 100);
    let healthy = store.circuit("healthy");
    let operator = Store::builder().backend(backend).build().circuit("healthy");
    let mut rng = fastrand::Rng::with_seed(1);
    // As many failures as 2 % of a hundred calls a second on each circuit.
    for _ in 0..10 * 60 * 10 {
        call_each(&failing, 0.2, &mut rng);
        sleep(ms(100)).await;
    }
    operator.disable("a change").await.unwrap();
    let start = now();
    while healthy.state() == State::Closed && now() - start < s(1800) {
        call_each(&failing, 0.2, &mut rng);
        sleep(ms(100)).await;
    }
    let lag = now() - start;
    assert!(lag <= s(10), "the change came after {lag:?}");
}

#[tokio::test(start_paused = true)]
async fn refused_probes_wait_for_a_push_and_do_not_poll() {
    const REPLICAS: usize = 20;
    const SECONDS: u64 = 20;
    let backend = MemoryBackend::new();
    let policy = || fragile().open_for(s(1)).probe_lease(s(3600));
    let join = |_| Replica::join(&Traffic::over(&backend), policy());
    let replicas: Vec<_> = (0..REPLICAS).map(join).collect();
    sleep(s(1)).await;
    trip(&replicas[0].circuit);
    sleep(s(2)).await;
    // The only probe, which hangs.
    let probe = replicas[0].circuit.acquire().await.unwrap();
    assert!(probe.is_probe());
    sleep(s(1)).await;
    let before: u64 = replicas.iter().map(|r| r.line.commands_of(Verb::Acquire)).sum();
    for _ in 0..SECONDS * 100 {
        for replica in &replicas {
            rejected(&replica.circuit);
        }
        sleep(ms(10)).await;
    }
    let after: u64 = replicas.iter().map(|r| r.line.commands_of(Verb::Acquire)).sum();
    let each = (after - before) / REPLICAS as u64;
    assert!(each <= SECONDS, "{each} refused leases for each replica in {SECONDS} s");
    // The next replica's turn comes at once, by a push.
    drop(probe);
    sleep(ms(100)).await;
    let admitted = replicas.iter().filter(|replica| replica.circuit.try_acquire().is_ok()).count();
    sleep(ms(100)).await;
    let then = replicas.iter().filter(|replica| replica.circuit.try_acquire().is_ok()).count();
    assert_eq!(admitted + then, 1, "one slot, which one of them gets");
}

type Fleet = Vec<(Traffic, Store, Vec<Circuit>)>;

fn set_all(fleet: &Fleet, fault: &Fault) {
    for (line, ..) in fleet {
        line.set(fault.clone());
    }
}

fn call_all(fleet: &Fleet, failures: f64, rng: &mut fastrand::Rng) {
    for (.., circuits) in fleet {
        call_each(circuits, failures, rng);
    }
}

/// Replicas with this many circuits each, all known.
async fn fleet(replicas: usize, number: usize) -> Fleet {
    let backend = MemoryBackend::new();
    let joined = (0..replicas).map(|_| {
        let line = Traffic::over(&backend);
        let store = Store::builder().default_policy(counting()).backend(line.clone()).build();
        let circuits = circuits(&store, number);
        (line, store, circuits)
    });
    let joined = joined.collect();
    sleep(s(30)).await;
    joined
}

#[tokio::test(start_paused = true)]
async fn the_return_after_an_outage_costs_no_more_than_the_budget() {
    let fleet = fleet(5, 400).await;
    set_all(&fleet, &Fault::Pauses);
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..100 {
        call_all(&fleet, 0.02, &mut rng);
        sleep(ms(100)).await;
    }
    set_all(&fleet, &Fault::None);
    wait_for("an answer", || fleet.iter().any(|(_, store, _)| !store.backend().is_degraded()))
        .await;
    let back = fleet[0].0.second();
    sleep(s(5)).await;
    let count = |second| fleet.iter().map(|(line, ..)| line.commands_in(second)).sum::<u64>();
    let busiest = (back..back + 5).map(count).max().unwrap();
    // For each replica its budget, a burst of one command for each group, and heartbeats.
    assert!(busiest <= 5 * (50 + 32 + 2), "{busiest} commands in a second");
    for (_, store, circuits) in &fleet {
        assert!(!store.backend().is_degraded());
        let detached = circuits.iter().filter(|circuit| circuit.snapshot().detached).count();
        assert_eq!(detached, 0, "of {}", circuits.len());
    }
}

#[tokio::test(start_paused = true)]
async fn failures_are_not_queued_behind_successes_after_an_outage() {
    const BUSY: usize = 5000;
    let backend = MemoryBackend::new();
    let line = Traffic::over(&backend);
    let store = Store::builder().default_policy(counting()).backend(line.clone()).build();
    let busy = circuits(&store, BUSY);
    let policy = || Policy::only().failure_count(10).time_window(s(600)).build().unwrap();
    let ours = store.circuit_with("failing", policy());
    let other = Store::builder().backend(backend).build().circuit_with("failing", policy());
    let mut rng = fastrand::Rng::with_seed(1);
    sleep(s(60)).await;
    // The backend answers, but not these commands.
    line.set_for(Verb::Sync, Fault::Pauses);
    for second in 0..20 {
        call_each(&busy, 0.0, &mut rng);
        if second == 10 {
            times(5, fail, &ours);
        }
        sleep(s(1)).await;
    }
    line.set_for(Verb::Sync, Fault::None);
    times(5, fail, &other);
    let start = now();
    while ours.state() == State::Closed && now() - start < s(300) {
        call_each(&busy, 0.0, &mut rng);
        sleep(ms(100)).await;
    }
    let took = now() - start;
    assert!(took <= s(5), "the failures arrived after {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_short_stall_detaches_nothing() {
    let fleet = fleet(2, 100).await;
    let mut rng = fastrand::Rng::with_seed(1);
    set_all(&fleet, &Fault::Pauses);
    for _ in 0..40 {
        call_all(&fleet, 0.1, &mut rng);
        sleep(ms(10)).await;
        for (_, store, circuits) in &fleet {
            assert!(!store.backend().is_degraded());
            let detached = circuits.iter().filter(|circuit| circuit.snapshot().detached).count();
            assert_eq!(detached, 0, "of {}", circuits.len());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_healthy_fleet_sends_nothing_but_heartbeats() {
    const SECONDS: u64 = 30;
    let fleet = fleet(10, 100).await;
    let before: u64 = fleet.iter().map(|(line, ..)| line.commands()).sum();
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..SECONDS * 10 {
        call_all(&fleet, 0.0, &mut rng);
        sleep(ms(100)).await;
    }
    let after: u64 = fleet.iter().map(|(line, ..)| line.commands()).sum();
    let a_second = (after - before) / SECONDS;
    assert!(a_second <= 30, "{a_second} commands a second");
}
