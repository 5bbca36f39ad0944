//! Records and their generations: what creates one, what changes it, and which change wins.

use std::time::Duration;

use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Attention, Lease, Move, OpenTerms, OverrideChange, Probed, RecordState, Report, View,
};
use tower_breaker::event::Reason;

use super::World;
use super::fixtures::{
    EXPIRED, SHORT, TERMS, failed, name, open, override_record, probe, report, streak, success,
};
use crate::support::{ms, s};

pub(super) async fn an_absent_record_is_closed_and_only_evidence_creates_it(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    assert_eq!(one.load(&name).await, View::default());
    let (lease, view) = one.acquire_probe(&name, View::FIRST, 1).await.unwrap();
    assert_eq!((lease, view), (None, View::default()));
    let lease = Lease { generation: 1, nonce: 1, remaining: s(1) };
    assert_eq!(one.settle_probe(&name, lease, &Probed::Passed).await.unwrap(), View::default());
    let quiet = Some(Attention::Quiet { after: 0 });
    for nothing in [
        report(&name, 1, 0),
        report(&name, 7, 2),
        success(&name, s(1)),
        Report { attention: quiet, ..report(&name, 1, 0) },
    ] {
        assert_eq!(one.report(&nothing).await, View::default(), "{nothing:?}");
    }

    let view = one.report(&report(&name, 1, 2)).await;
    assert_eq!((view.generation, view.tally.failures), (View::FIRST, 2));
    assert!(other.load(&name).await.revision > 0);
}

pub(super) async fn the_loser_of_two_transitions_gets_the_view_of_the_winner(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let winner = open(OpenTerms { interval: s(60), ..TERMS });
    let loser = Move::Closed { reason: Reason::Override };
    let won = one.transition(&name, 1, &winner).await.unwrap();
    let second = other.transition(&name, 1, &loser).await.unwrap();
    assert_eq!((won.generation, won.revision), (second.generation, second.revision));
    assert_eq!(second.reason, Some(Reason::FailureRate));
    assert_eq!(won.tally.consecutive_failures, 3);
    assert!(matches!(second.state, RecordState::Open { terms, .. } if terms.probes == 2));
}

pub(super) async fn a_circuit_is_open_for_as_long_as_the_backend_says(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let terms = OpenTerms { interval: ms(300), ..TERMS };
    let opened = one.transition(&name, 1, &open(terms)).await.unwrap();
    for replica in [&one, &other] {
        let (lease, view) = replica.acquire_probe(&name, opened.generation, 1).await.unwrap();
        assert_eq!(lease, None);
        let RecordState::Open { remaining, .. } = view.state else { panic!("{view:?}") };
        assert!(remaining <= ms(300) && remaining > Duration::ZERO);
    }
    world.wait(ms(300)).await;
    let view = other.load(&name).await;
    assert_eq!(view.state, RecordState::Open { terms, remaining: Duration::ZERO });
    let lease = probe(&*other, &name, opened.generation, 1).await;
    assert!(lease.generation > opened.generation);
}

pub(super) async fn an_operation_of_another_generation_changes_nothing(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    one.report(&report(&name, 1, 3)).await;
    let closed = Move::Closed { reason: Reason::Override };
    let now = one.transition(&name, 1, &closed).await.unwrap();
    for old in [0, 1, now.generation - 1, now.generation + 1] {
        let attention = Some(Attention::RollCall { after: 0 });
        let report = Report { attention, vote: Some(s(60)), ..report(&name, old, 3) };
        assert_eq!(one.report(&report).await, now);
        assert_eq!(one.transition(&name, old, &open(TERMS)).await.unwrap(), now);
        let (lease, view) = one.acquire_probe(&name, old, 1).await.unwrap();
        assert_eq!((lease, view), (None, now.clone()));
        let lease = Lease { generation: old, nonce: 1, remaining: s(1) };
        assert_eq!(one.settle_probe(&name, lease, &Probed::Passed).await.unwrap(), now);
    }
}

pub(super) async fn generations_grow_even_after_the_record_was_deleted(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    let mut last = 1;
    for _ in 0..5 {
        let now = one.load(&name).await.generation;
        let view = one.transition(&name, now, &open(TERMS)).await.unwrap();
        assert!(view.generation > last);
        last = view.generation;
    }
    // Several generations in one millisecond may be ahead of the time.
    world.wait(ms(10)).await;
    world.forget().await;
    let view = one.transition(&name, 1, &open(TERMS)).await.unwrap();
    assert!(view.generation > last);
}

pub(super) async fn a_plain_circuit_vanishes_and_leaves_no_record(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let attention = Some(Attention::RollCall { after: 0 });
    let short = Report { window: Some(SHORT), attention, ..report(&name, 1, 3) };
    assert!(one.report(&short).await.suspect.is_some());
    world.wait(EXPIRED).await;
    assert_eq!(other.load(&name).await, View::default());
    // What comes later begins with nothing.
    let view = one.report(&streak(&name, Duration::ZERO, 1)).await;
    assert_eq!((view.generation, view.suspect), (View::FIRST, None));
    assert_eq!((view.tally.failures, view.tally.consecutive_failures), (0, 1));
}

pub(super) async fn an_open_record_names_the_replicas_that_had_failed(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    one.report(&report(&name, 1, 1)).await;
    one.named("healthy").report(&success(&name, s(1))).await;
    other.named("a \"name\"").report(&report(&name, 1, 1)).await;
    let opened = one.transition(&name, 1, &open(TERMS)).await.unwrap();
    let sorted = |view: &View| {
        let mut names = view.contributors.clone();
        names.sort();
        names
    };
    assert_eq!(sorted(&opened), ["a \"name\"", "one"]);
    world.wait(TERMS.interval).await;
    let lease = probe(&*other, &name, opened.generation, 1).await;
    assert_eq!(sorted(&one.load(&name).await), sorted(&opened));
    let result = failed(TERMS);
    assert_eq!(sorted(&one.settle_probe(&name, lease, &result).await.unwrap()), sorted(&opened));
    let reset = one.set_override(&name, &OverrideChange::Reset).await.unwrap();
    assert_eq!(reset.contributors, [""; 0]);
}

pub(super) async fn at_most_eight_contributors_are_named_the_last_first(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    for n in 0..20 {
        one.named(&format!("{n}")).report(&report(&name, 1, 1)).await;
        world.wait(ms(2)).await;
    }
    let opened = one.transition(&name, 1, &open(TERMS)).await.unwrap();
    assert_eq!(opened.contributors, ["19", "18", "17", "16", "15", "14", "13", "12"]);
}

pub(super) async fn two_names_never_share_a_record(world: impl World) {
    world.forget().await;
    let (one, other) = world.replicas();
    let long = "x".repeat(CircuitName::MAX_BYTES);
    let longest = long[1..].to_owned() + "y";
    let names: Vec<_> = [
        "a",
        "a:o",
        "a:c",
        "o:a",
        "c:a",
        "a:",
        ":a",
        "a%3Ao",
        "a%3ao",
        "a%253Ao",
        "a o",
        "a%20o",
        "a+o",
        "a\no",
        "a\r\no",
        "a\to",
        "a{o}",
        "{a}",
        "a\"o",
        "a\\o",
        "a\0",
        "A",
        "ä",
        "a\u{308}",
        " a",
        "a ",
        &long,
        &long[1..],
        &longest,
    ]
    .map(|name| CircuitName::new(name.to_owned()).unwrap())
    .into();
    for (n, name) in (0..).zip(&names) {
        // Records of one half, overrides of the other.
        if n % 2 == 0 {
            let terms = OpenTerms { interval: s(60), reopenings: n, ..TERMS };
            one.transition(name, 1, &open(terms)).await.unwrap();
        } else {
            let mut record = override_record(None);
            record.reason = n.to_string();
            one.set_override(name, &OverrideChange::Set(record)).await.unwrap();
        }
    }
    for (n, name) in (0..).zip(&names) {
        let view = other.load(name).await;
        let is_open =
            matches!(view.state, RecordState::Open { terms, .. } if terms.reopenings == n);
        let reason = view.overridden.record.map(|record| record.reason);
        let expected = (n % 2 == 0, (n % 2 == 1).then(|| n.to_string()));
        assert_eq!((is_open, reason), expected, "{name:?}");
    }
}
