//! Reports: what is counted, in which window, and whose vote it is.

use std::time::Duration;

use tower_breaker::backend::{Attention, Count, Geometry, Report, Shares, View};
use tower_breaker::event::Tally;

use super::World;
use super::fixtures::{TERMS, elsewhere, failed_calls, name, open, report, streak, success};
use crate::support::{ms, s};

pub(super) async fn a_batch_that_is_sent_again_adds_nothing(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let first = one.batch([report(&name, 1, 2)]);
    let second = one.batch([report(&name, 1, 3)]);
    for batch in [&first, &second, &second, &first] {
        one.send(batch).await;
    }
    let mut again = second.clone();
    again.reports[0] = Report {
        vote: Some(s(60)),
        last_success: Some(Duration::ZERO),
        attention: Some(Attention::RollCall { after: 0 }),
        ..report(&name, 1, 50)
    };
    let view = other.send(&again).await;
    assert_eq!((view.tally.failures, view.tally.consecutive_failures), (5, 5));
    assert_eq!((view.votes, view.suspect), (0, None));
    // Numbers are of one start in one group.
    let view = other.report(&report(&name, 1, 4)).await;
    assert_eq!((view.tally.failures, view.tally.consecutive_failures), (9, 9));
    let other_group = elsewhere(&name);
    let mut batch = first;
    batch.reports[0].circuit = other_group;
    assert_eq!(one.send(&batch).await.tally.failures, 2);
}

pub(super) async fn evidence_counts_at_the_moment_it_is_from(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    let window = Some(Geometry { millis: 3_000, buckets: 10 });
    let sliding = |counts| Report { window, counts, ..report(&name, 1, 0) };
    let slow = Count { calls: 50, slow_calls: 7, ..failed_calls(ms(2_000), 0) };
    let old = [failed_calls(ms(3_001), 1_000), failed_calls(Duration::MAX, 1_000)];
    let counts = [failed_calls(Duration::ZERO, 1), slow, old[0], old[1]];
    let Tally { calls, failures, slow_calls, .. } = one.report(&sliding(counts.into())).await.tally;
    assert_eq!((calls, failures, slow_calls), (51, 1, 7));
    world.wait(ms(1_000)).await;
    let Tally { calls, failures, slow_calls, .. } = one.report(&sliding(Vec::new())).await.tally;
    assert_eq!((calls, failures, slow_calls), (1, 1, 0));
}

pub(super) async fn failures_older_than_the_window_add_nothing(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    one.report(&report(&name, 1, 1)).await;
    let windows = [(Some(Geometry { millis: 5_000, buckets: 5 }), s(5)), (None, Report::HORIZON)];
    for (window, horizon) in windows {
        for age in [horizon, Duration::MAX] {
            let view = one.report(&Report { window, ..streak(&name, age, 1_000) }).await;
            assert_eq!(view.tally.consecutive_failures, 1, "{age:?}");
        }
    }
}

pub(super) async fn evidence_that_is_too_old_creates_no_record(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    let old = Report {
        counts: vec![failed_calls(s(3_600), 9)],
        failures: streak(&name, s(3_600), 9).failures,
        ..report(&name, 1, 0)
    };
    assert_eq!(one.report(&old).await, View::default());
}

pub(super) async fn windows_slide_and_are_counted_separately(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let window = Some(Geometry { millis: 1_000, buckets: 4 });
    let sliding = |failures| Report { window, ..report(&name, 1, failures) };
    let steady = other.report(&report(&name, 1, 1)).await;
    assert_eq!(steady.tally.failures, 1);
    let view = one.report(&sliding(5)).await;
    assert_eq!((view.tally.failures, view.tally.consecutive_failures), (5, 6));
    world.wait(ms(1_000)).await;
    let view = one.report(&sliding(2)).await;
    let Tally { calls, failures, consecutive_failures, .. } = view.tally;
    assert_eq!((calls, failures, consecutive_failures), (2, 2, 2));
    let steady = other.report(&report(&name, 1, 0)).await;
    assert_eq!(steady.tally.failures, 1);
    // Without a window nothing but the streak is counted.
    let view = other.report(&Report { window: None, ..report(&name, 1, 1) }).await;
    let streak = Tally { consecutive_failures: 3, ..Tally::default() };
    assert_eq!(view.tally, streak);
}

pub(super) async fn a_success_ends_the_streak_of_all_but_not_failures_after_it(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let (third, fourth) = (one.named("three"), one.named("four"));
    let streak = |age, number| streak(&name, age, number);
    one.report(&streak(s(30), 2)).await;
    let view = other.report(&streak(s(10), 3)).await;
    assert_eq!(view.tally.consecutive_failures, 5);
    let view = third.report(&success(&name, s(20))).await;
    assert_eq!(view.tally.consecutive_failures, 3);
    // What happened before the success and arrives after it does not count either.
    let view = fourth.report(&streak(s(25), 100)).await;
    assert_eq!(view.tally.consecutive_failures, 3);
    // Nor does an older success take away what a newer one has left.
    let view = third.report(&success(&name, s(40))).await;
    assert_eq!(view.tally.consecutive_failures, 3);
    // In one report, the failures come after the success.
    let both = Report { last_success: Some(s(8)), ..streak(s(5), 7) };
    assert_eq!(one.report(&both).await.tally.consecutive_failures, 7);
    let view = other.report(&success(&name, Duration::ZERO)).await;
    assert_eq!(view.tally.consecutive_failures, 0);
    world.wait(ms(5)).await;
    let view = one.report(&streak(Duration::ZERO, 1)).await;
    assert_eq!(view.tally.consecutive_failures, 1);
}

pub(super) async fn a_streak_of_many_moments_is_never_longer_than_it_was(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    for second in 1..=200 {
        one.report(&streak(&name, s(1_000 - second), 1)).await;
    }
    let view = one.report(&streak(&name, s(1_000), 1)).await;
    assert_eq!(view.tally.consecutive_failures, 201);
    // After this success there were a hundred failures, and what is counted is close to it.
    let view = one.report(&success(&name, ms(899_500))).await;
    let left = view.tally.consecutive_failures;
    assert!((60..=100).contains(&left), "{left}");
}

pub(super) async fn shares_add_up_to_the_total(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let shared = |shares, n| Report { shares, ..report(&name, 1, n) };
    one.report(&shared(Shares::Count, 2)).await;
    let view = other.report(&shared(Shares::Count, 30)).await;
    assert_eq!(view.shares, []);
    // A replica that restarts has one share.
    let view = one.restarted().report(&shared(Shares::Return, 5)).await;
    let mut failures: Vec<_> = view.shares.iter().map(|share| share.failures).collect();
    failures.sort_unstable();
    assert_eq!((failures, view.tally.failures), (vec![7, 30], 37));
    let streaks: u64 = view.shares.iter().map(|share| share.consecutive_failures).sum();
    assert_eq!((streaks, view.tally.consecutive_failures), (37, 37));

    // A success of one replica ends every share of the streak.
    let success = Report { shares: Shares::Return, ..success(&name, Duration::ZERO) };
    let view = one.report(&success).await;
    assert!(view.shares.iter().all(|share| share.consecutive_failures == 0), "{view:?}");
    assert_eq!(view.shares.iter().map(|share| share.failures).sum::<u64>(), 37);
}

pub(super) async fn votes_count_until_they_expire_or_are_withdrawn(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let third = one.named("three");
    let vote = |vote| Report { vote, ..report(&name, 1, 1) };
    assert_eq!(one.report(&vote(Some(s(60)))).await.votes, 1);
    assert_eq!(other.report(&vote(Some(s(60)))).await.votes, 2);
    assert_eq!(third.report(&vote(Some(ms(500)))).await.votes, 3);
    world.wait(ms(500)).await;
    assert_eq!(other.load(&name).await.votes, 2);
    assert_eq!(other.report(&vote(None)).await.votes, 1);
    let opened = one.transition(&name, 1, &open(TERMS)).await.unwrap();
    assert_eq!(opened.votes, 0);
}

pub(super) async fn a_replica_that_restarts_again_and_again_is_one_voter(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let vote = Report { vote: Some(s(60)), ..report(&name, 1, 1) };
    for _ in 0..10 {
        assert_eq!(one.restarted().report(&vote).await.votes, 1);
    }
    assert_eq!(other.report(&vote).await.votes, 2);
}
