//! What is explored.

use std::time::Duration;

use super::old::Old;
use super::search::{ALL, explore, walk};
use super::world::{Fault, Pushes, Scenario, Wire};
use crate::backend::{OpenTerms, Overridden, OverrideChange, OverrideRecord, RecordState, View};
use crate::machine::OverrideState;
use crate::policy::{Policy, PolicyBuilder};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn policy(change: impl FnOnce(PolicyBuilder) -> PolicyBuilder) -> Policy {
    let all = Policy::only().no_window().jitter(0.0).consecutive_failures(2).open_for(SECOND);
    change(all.probes(1).successes_to_close(1).probe_lease(SECOND)).build().expect("a policy")
}

/// How many states of a scenario are explored: `MODEL_STATES`, or what takes a few seconds.
fn states() -> usize {
    variable("MODEL_STATES").unwrap_or(20_000)
}

/// How many random walks there are: `MODEL_WALKS`, or what takes a few seconds.
fn walks() -> u64 {
    variable("MODEL_WALKS").unwrap_or(3_000)
}

#[expect(clippy::disallowed_methods, reason = "a setting of the test")]
fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Two replicas, two failures in a row, no faults.
fn scenario(name: &'static str) -> Scenario {
    Scenario {
        name,
        policy: policy(|it| it),
        replicas: 2,
        calls: 4,
        ticks: 2,
        faults: 0,
        changes: 0,
        lengths: vec![2 * MS, 250 * MS],
        kinds: Vec::new(),
        overrides: Vec::new(),
        forged: Vec::new(),
        pushes: Pushes::AtOnce,
        wire: Wire::AtOnce,
        begins_open: false,
        old: Old::No,
        depth: 12,
        states: states(),
    }
}

#[track_caller]
fn holds(scenario: &Scenario) {
    let explored = explore(scenario);
    println!("{}: {} states, all to depth {}", scenario.name, explored.states, explored.depth);
    if let Some(violation) = explored.violation {
        panic!("{violation}");
    }
}

#[track_caller]
fn fails(scenario: &Scenario, with: &str) {
    let explored = explore(scenario);
    println!("{}: {} states, all to depth {}", scenario.name, explored.states, explored.depth);
    let violation = explored.violation.expect("the checker finds what is wrong with the old rule");
    println!("{violation}");
    assert!(violation.contains(with), "{violation}");
}

fn forced(state: OverrideState) -> OverrideChange {
    let (reason, actor) = (format!("{state:?}"), None);
    OverrideChange::Set(OverrideRecord { state, reason, actor, remaining: None })
}

fn forged(generation: u64, state: RecordState) -> View {
    View { generation, revision: 1, state, ..View::default() }
}

fn forged_views() -> Vec<View> {
    let terms =
        OpenTerms { interval: 3 * SECOND, probes: 1, lease: SECOND, ..OpenTerms::default() };
    let open = RecordState::Open { terms, remaining: 3 * SECOND };
    let (version, record) = (
        u64::MAX,
        Some(OverrideRecord {
            state: OverrideState::ForcedOpen,
            reason: "forged".to_owned(),
            actor: None,
            remaining: None,
        }),
    );
    vec![
        forged(u64::MAX, open),
        forged(u64::MAX, RecordState::Closed),
        forged(2, open),
        View { overridden: Overridden { version, record }, ..View::default() },
    ]
}

#[test]
fn totals_open_only_what_failed_so_often_in_the_true_order() {
    holds(&Scenario {
        policy: policy(|it| it.consecutive_failures(3)),
        calls: 5,
        ..scenario("totals")
    });
}

#[test]
fn losses_duplicates_and_late_messages_count_nothing_twice() {
    let kinds = vec![Fault::LoseRequest, Fault::LoseAnswer, Fault::Late, Fault::Duplicate];
    let wire = Wire::Requests(2);
    holds(&Scenario { kinds, wire, faults: 2, calls: 3, ..scenario("messages") });
}

#[test]
fn pushes_in_any_order_change_nothing_in_the_end() {
    let (pushes, wire) = (Pushes::AnyTime, Wire::Both(2));
    holds(&Scenario { pushes, wire, calls: 3, ..scenario("pushes") });
}

#[test]
fn probes_of_one_round_stay_within_their_slots() {
    let kinds = vec![Fault::LoseAnswer, Fault::Late, Fault::Crash];
    let (calls, faults, ticks) = (4, 2, 2);
    let lengths = vec![60 * MS, 900 * MS, 1100 * MS];
    let policy = policy(|it| it.successes_to_close(2));
    let wire = Wire::Requests(2);
    let probes =
        Scenario { policy, calls, ticks, faults, lengths, kinds, wire, ..scenario("probes") };
    holds(&Scenario { begins_open: true, ..probes });
}

#[test]
fn a_forged_push_is_gone_with_the_next_answer() {
    let kinds = vec![Fault::Forge];
    let forged = forged_views();
    holds(&Scenario { kinds, forged, faults: 2, calls: 2, ..scenario("forged") });
}

#[test]
fn a_backend_that_loses_everything_is_followed_again() {
    let kinds = vec![Fault::Empty, Fault::Failover, Fault::Crash];
    let lengths = vec![2 * MS, 1100 * MS];
    holds(&Scenario { kinds, faults: 2, calls: 3, lengths, ..scenario("lost") });
}

#[test]
fn a_clock_that_jumps_freezes_nothing() {
    let kinds = vec![Fault::ClockBack, Fault::ClockForward];
    let lengths = vec![2 * MS, 1100 * MS];
    let clocks = Scenario { kinds, faults: 2, lengths, ..scenario("clocks") };
    holds(&clocks);
    holds(&Scenario { begins_open: true, ..clocks });
}

#[test]
fn a_replica_that_was_detached_returns() {
    let kinds = vec![Fault::Detach, Fault::LoseAnswer];
    let lengths = vec![2 * MS, 1100 * MS];
    let wire = Wire::Requests(1);
    let detached = Scenario { kinds, wire, faults: 2, lengths, ..scenario("detached") };
    holds(&detached);
    holds(&Scenario { begins_open: true, ..detached });
}

#[test]
fn an_override_reaches_the_backend_and_its_operator_hears_the_truth() {
    let kinds = vec![Fault::LoseRequest, Fault::LoseAnswer, Fault::Detach];
    let overrides =
        vec![forced(OverrideState::ForcedOpen), OverrideChange::Clear, OverrideChange::Reset];
    let wire = Wire::Requests(2);
    let overrides = Scenario {
        kinds,
        wire,
        overrides,
        faults: 1,
        changes: 2,
        calls: 2,
        ..scenario("overrides")
    };
    holds(&overrides);
    holds(&Scenario { begins_open: true, ..overrides });
}

#[test]
fn a_walk_through_everything_ends_in_agreement() {
    let overrides = vec![
        forced(OverrideState::ForcedOpen),
        forced(OverrideState::ForcedClosed),
        OverrideChange::Clear,
        OverrideChange::Reset,
    ];
    let all = Scenario {
        replicas: 3,
        policy: policy(|it| it.consecutive_failures(3).successes_to_close(2)),
        kinds: ALL.to_vec(),
        forged: forged_views(),
        overrides,
        calls: 30,
        faults: 8,
        ticks: 30,
        changes: 2,
        lengths: vec![2 * MS, 60 * MS, 250 * MS, 1100 * MS],
        pushes: Pushes::AnyTime,
        wire: Wire::Both(4),
        ..scenario("everything")
    };
    let explored = walk(&all, walks(), 120);
    println!("{} walks of {} steps", explored.states, explored.depth);
    if let Some(violation) = explored.violation {
        panic!("{violation}");
    }
}

#[test]
fn the_checker_finds_streaks_that_add_up_without_successes() {
    fails(
        &Scenario { old: Old::StreaksAdd, states: 60_000, ..scenario("finding 1") },
        "consecutive failures",
    );
}

#[test]
fn the_checker_finds_pushes_that_are_trusted() {
    let (kinds, forged) = (vec![Fault::Forge], forged_views());
    let old = Old::PushesAreAnswers;
    fails(&Scenario { old, kinds, forged, faults: 1, ..scenario("finding 4") }, "never had");
}

#[test]
fn the_checker_finds_votes_of_one_replica_that_starts_again() {
    let kinds = vec![Fault::Crash];
    let policy = policy(|it| it.quorum(2).consecutive_failures(1));
    let old = Old::VotesById;
    let (calls, ticks) = (2, 0);
    fails(
        &Scenario { old, kinds, policy, calls, ticks, faults: 1, ..scenario("finding 6") },
        "are needed",
    );
}

#[test]
fn the_checker_finds_an_interval_that_grows_with_the_clock() {
    let (kinds, old) = (vec![Fault::ClockBack], Old::UntilStays);
    let begins_open = true;
    fails(&Scenario { old, kinds, begins_open, faults: 1, ..scenario("finding 7") }, "remain of");
}

#[test]
fn the_checker_finds_evidence_without_an_age() {
    let (kinds, old, wire) = (vec![Fault::LoseRequest], Old::NoAges, Wire::Requests(1));
    let lengths = vec![61 * SECOND];
    fails(&Scenario { old, wire, kinds, lengths, faults: 1, ..scenario("finding 8") }, "counts");
}

#[test]
fn the_checker_finds_a_failed_probe_that_is_dropped() {
    let (old, wire) = (Old::LateFailuresDrop, Wire::Requests(2));
    let lengths = vec![900 * MS, 200 * MS];
    let begins_open = true;
    fails(&Scenario { lengths, wire, begins_open, old, ..scenario("finding 11") }, "has failed");
}
