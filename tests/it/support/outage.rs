//! "The backend becomes unreachable while the circuit is …": the set-up, for every kind of backend.

use tokio::time::sleep;
use tower_breaker::circuit::Permit;
use tower_breaker::event::Origin;
use tower_breaker::{Circuit, State};

use super::{assert_state, ms, trip, wait_for};

/// Has a handle of the circuit that its replica shares with the others.
pub(crate) trait HasCircuit {
    fn circuit(&self) -> &Circuit;
}

impl HasCircuit for Circuit {
    fn circuit(&self) -> &Circuit {
        self
    }
}

impl<T: HasCircuit> HasCircuit for &T {
    fn circuit(&self) -> &Circuit {
        (*self).circuit()
    }
}

/// What a circuit is doing when its backend becomes unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum While {
    Closed,
    Open,
    /// Open, and the interval is over: the next call asks for a probe slot.
    ProbeDue,
    /// Half-open, with a probe of the first replica in flight.
    Probing,
}

/// Brings a closed circuit into a phase that all its replicas know of. Returns the probe in flight,
/// if the phase has one.
pub(crate) async fn bring_to(phase: While, replicas: &[impl HasCircuit]) -> Option<Permit> {
    let first = replicas[0].circuit();
    if phase == While::Closed {
        for replica in replicas {
            assert_state(replica.circuit(), State::Closed);
        }
        return None;
    }
    trip(first);
    wait_for("an open circuit everywhere", || {
        replicas.iter().all(|replica| {
            let snapshot = replica.circuit().snapshot();
            snapshot.state == State::Open
                && snapshot.origin == Origin::Cluster
                && !snapshot.detached
        })
    })
    .await;
    if phase == While::Open {
        return None;
    }
    let waits = replicas.iter().filter_map(|replica| replica.circuit().snapshot().retry_after);
    sleep(waits.max().unwrap_or_default()).await;
    if phase == While::ProbeDue {
        return None;
    }
    let permit = probe(first).await;
    assert!(permit.is_probe());
    assert_state(first, State::HalfOpen);
    Some(permit)
}

/// Makes the backend unreachable with `cut`, when the circuit of all replicas is in a phase.
/// Returns the probe in flight, if the phase has one.
pub(crate) async fn unreachable_while(
    phase: While,
    replicas: &[impl HasCircuit],
    cut: impl FnOnce(),
) -> Option<Permit> {
    let probe = bring_to(phase, replicas).await;
    cut();
    probe
}

/// Waits until every circuit decides without the backend.
pub(crate) async fn until_detached(replicas: &[impl HasCircuit]) {
    let is_detached = |replica: &_| HasCircuit::circuit(replica).snapshot().detached;
    wait_for("detached circuits", || replicas.iter().all(is_detached)).await;
}

/// Asks for a permit until there is one.
pub(crate) async fn probe(circuit: &Circuit) -> Permit {
    loop {
        match circuit.acquire().await {
            Ok(permit) => return permit,
            Err(_) => sleep(ms(5)).await,
        }
    }
}
