//! Reports: what is counted, in which window, and whose vote it is.

use tower_breaker::backend::{Delta, Geometry, Report};
use tower_breaker::event::Tally;

use super::World;
use super::fixtures::{TERMS, name, open, report};
use crate::support::{ms, s};

pub(super) async fn a_report_that_is_sent_again_is_not_counted(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    one.report(&name, &report("a", 1, 1, 2)).await.unwrap();
    one.report(&name, &report("a", 2, 1, 3)).await.unwrap();
    for again in [0, 1, 2] {
        let view = other.report(&name, &report("a", again, 1, 50)).await.unwrap();
        assert_eq!((view.tally.failures, view.tally.consecutive_failures), (5, 5));
    }
    let view = other.report(&name, &report("b", 1, 1, 4)).await.unwrap();
    assert_eq!((view.tally.failures, view.tally.consecutive_failures), (9, 9));
}

pub(super) async fn windows_slide_and_are_counted_separately(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    let window = Geometry { millis: 400, buckets: 4 };
    let sliding = |seq, failures| Report { window: Some(window), ..report("a", seq, 1, failures) };
    let steady = one.report(&name, &report("b", 1, 1, 1)).await.unwrap();
    assert_eq!(steady.tally.failures, 1);
    let view = one.report(&name, &sliding(1, 5)).await.unwrap();
    assert_eq!((view.tally.failures, view.tally.consecutive_failures), (5, 6));
    world.wait(ms(400)).await;
    let view = one.report(&name, &sliding(2, 2)).await.unwrap();
    assert_eq!((view.tally.calls, view.tally.failures), (2, 2));
    let steady = one.report(&name, &report("b", 0, 1, 0)).await.unwrap();
    assert_eq!((steady.tally.failures, steady.tally.consecutive_failures), (1, 8));
}

pub(super) async fn a_success_ends_the_streak_unless_failures_follow_it(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    let streak = async |seq, streak, succeeded| {
        let delta = Delta { calls: 1, streak, succeeded, ..Delta::default() };
        let report = Report { delta, window: None, ..report("a", seq, 1, 0) };
        one.report(&name, &report).await.unwrap().tally
    };
    assert_eq!(streak(1, 2, false).await.consecutive_failures, 2);
    assert_eq!(streak(2, 3, true).await.consecutive_failures, 5);
    assert_eq!(streak(3, 0, false).await.consecutive_failures, 5);
    let tally = streak(4, 0, true).await;
    // Without a window nothing else is counted.
    assert_eq!(tally, Tally::default());
}

pub(super) async fn shares_add_up_to_the_total(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let shared = |replica, seq, n| Report { shares: true, ..report(replica, seq, 1, n) };
    one.report(&name, &shared("a", 1, 2)).await.unwrap();
    other.report(&name, &shared("b", 1, 30)).await.unwrap();
    let view = one.report(&name, &shared("a", 2, 5)).await.unwrap();
    let mut failures: Vec<_> = view.shares.iter().map(|share| share.failures).collect();
    failures.sort_unstable();
    assert_eq!((failures, view.tally.failures), (vec![7, 30], 37));
    let streaks: u64 = view.shares.iter().map(|share| share.consecutive_failures).sum();
    assert_eq!(streaks, view.tally.consecutive_failures);

    let success = Delta { calls: 1, succeeded: true, ..Delta::default() };
    let view = other.report(&name, &Report { delta: success, ..shared("b", 2, 0) }).await.unwrap();
    assert_eq!(view.tally, Tally { calls: 38, failures: 37, ..Tally::default() });
    assert!(view.shares.iter().all(|share| share.consecutive_failures == 0));
}

pub(super) async fn votes_count_until_they_expire_or_are_withdrawn(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let vote = |replica, seq, vote| Report { vote, ..report(replica, seq, 1, 1) };
    assert_eq!(one.report(&name, &vote("a", 1, Some(s(60)))).await.unwrap().votes, 1);
    assert_eq!(one.report(&name, &vote("b", 1, Some(s(60)))).await.unwrap().votes, 2);
    assert_eq!(one.report(&name, &vote("c", 1, Some(ms(50)))).await.unwrap().votes, 3);
    world.wait(ms(50)).await;
    assert_eq!(other.load(&name).await.unwrap().votes, 2);
    assert_eq!(one.report(&name, &vote("b", 2, None)).await.unwrap().votes, 1);
    let opened = one.transition(&name, 1, &open(TERMS)).await.unwrap();
    assert_eq!(opened.votes, 0);
}
