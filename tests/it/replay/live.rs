//! A replay does what a live circuit does.

use std::time::Duration;

use proptest::prelude::*;
use tower_breaker::Policy;
use tower_breaker::event::Transition;
use tower_breaker::replay::{Calls, Replay};

use super::fixtures::{Call, Ending, play, trace};
use crate::machine::random_histories::rules;
use crate::support::paused;

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        6 => Just(Ending::Success),
        4 => Just(Ending::Failure),
        1 => Just(Ending::Ignored),
        3 => Just(Ending::Cancelled),
    ]
}

/// Calls that start up to 100 ms apart and run for up to 400 ms, some of them at the same time.
fn calls() -> impl Strategy<Value = Vec<Call>> {
    let apart = prop_oneof![3 => Just(0_u64), 6 => 0..30_u64, 1 => 0..900_u64];
    let took = prop_oneof![3 => Just(0_u64), 6 => 0..120_u64, 1 => 0..800_u64];
    prop::collection::vec((apart, took, ending()), 1..200).prop_map(|calls| {
        let mut start = Duration::from_secs(2);
        let call = |(apart, took, ending)| {
            start += Duration::from_millis(apart);
            let took = Duration::from_millis(took);
            Call { at: start + took, took, ending }
        };
        calls.into_iter().map(call).collect()
    })
}

fn replayed(policy: Policy, lines: &str) -> (Vec<(Duration, Transition)>, Calls, Calls) {
    let replayed = Replay::new(policy).read(lines.as_bytes()).unwrap();
    let circuit = &replayed.policies[0].circuits[0];
    assert_eq!((replayed.shortened, circuit.more_transitions), (0, 0));
    let transitions = circuit.transitions.iter();
    let transitions = transitions.map(|timed| (timed.at, timed.transition.clone())).collect();
    (transitions, circuit.admitted, circuit.rejected)
}

/// At least 1500 cases, and more with `PROPTEST_CASES`.
fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    ProptestConfig { cases: config.cases.max(1_500), max_local_rejects: u32::MAX, ..config }
}

proptest! {
    #![proptest_config(config())]

    /// `src/replay/tests.rs` does the same with slow-call rates: running calls are counted in slices
    /// of absolute time, which only a test of the crate can align.
    #[test]
    fn a_replay_has_the_transitions_of_a_live_circuit_at_the_same_times(
        (_, policy) in rules().prop_filter("no slow-call rate", |(_, policy)| {
            policy.slow_call_rate().is_none()
        }),
        mut calls in calls(),
    ) {
        let lines = trace(&mut calls);
        let (transitions, admitted, rejected) = replayed(policy.clone(), &lines);
        prop_assert_eq!(admitted.all() + rejected.all(), calls.len() as u64);
        let live = paused(play(policy, &calls, |store| store.circuit("live")));
        prop_assert_eq!(transitions, live);
    }
}
