//! A healthy circuit beside a hundred that fail, of a replica to which no change is pushed and whose
//! batches lose answers: how long changes of the circuit take to arrive.

use std::sync::Arc;
use std::time::Duration;

use tower_breaker::backend::MemoryBackend;
use tower_breaker::{Circuit, Outcome, Policy, State, Store};
use tower_breaker_benches::watched::Watched;

use super::fleet::LATENCY;
use super::support::{ms, now, s};

const FAILING: usize = 100;

/// Returns how long each of so many changes took, in seconds. Of so many answers of each group, one
/// is lost; of 0, none.
pub(crate) async fn measure(changes: usize, lost_one_of: u64) -> Vec<f64> {
    let backend = MemoryBackend::new();
    let shared = Arc::new(backend.clone());
    let line = Watched::without_pushes(shared, LATENCY);
    // Nothing opens them but an operator.
    let policy = Policy::only().failure_count(1_000_000).build().expect("a policy");
    let store = Store::builder().default_policy(policy).backend(line.clone()).build();
    let failing: Vec<_> = (0..FAILING).map(|n| store.circuit(n.to_string())).collect();
    let healthy = store.circuit("healthy");
    let operators = Store::builder().backend(backend).build();
    let operator = operators.circuit("healthy");
    let mut rng = fastrand::Rng::with_seed(1);
    call(&failing, s(60), &mut rng).await;
    line.lose_one_of(lost_one_of);
    let mut took = Vec::new();
    for change in 0..changes {
        call(&failing, Duration::from_millis(rng.u64(1_000..10_000)), &mut rng).await;
        let (to, stored) = match change % 2 {
            0 => (State::Disabled, operator.disable("a change").await),
            _ => (State::Closed, operator.reset().await),
        };
        let start = now();
        while stored.is_ok() && healthy.state() != to && now() - start < s(600) {
            call(&failing, ms(10), &mut rng).await;
        }
        took.push((now() - start).as_secs_f64());
    }
    took
}

/// Two failures a second of each circuit, and eight successes.
async fn call(failing: &[Circuit], time: Duration, rng: &mut fastrand::Rng) {
    let start = now();
    while now() - start < time {
        for circuit in failing {
            if rng.u8(..10) == 0
                && let Ok(permit) = circuit.try_acquire()
            {
                let fails = rng.u8(..5) == 0;
                permit.settle(if fails { Outcome::failure() } else { Outcome::Success });
            }
        }
        tokio::time::sleep(ms(10)).await;
    }
}
