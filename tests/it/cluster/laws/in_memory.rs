//! What takes minutes: only of the backend in memory, whose time can be moved.

use std::time::Duration;

use tower_breaker::backend::{
    Group, Move, OpenTerms, OverrideChange, RecordState, Report, Roster, View,
};
use tower_breaker::event::Reason;

use super::fixtures::{TERMS, name, names, open, override_record, report};
use super::history::entries;
use super::{InMemory, World};
use crate::support::{ms, paused, s};

const HOUR: Duration = s(3_600);

#[test]
fn ten_thousand_replicas_that_came_and_went_leave_nothing() {
    paused(async {
        let world = InMemory::new();
        let (one, other) = world.replicas();
        for n in 0..10_100 {
            one.named(&format!("{n}")).live().await;
        }
        assert_eq!(one.replicas().await.unwrap().len(), 10_000);
        world.wait(Roster::FORGET + ms(1)).await;
        assert_eq!(other.live().await, 1);
        assert_eq!(other.replicas().await.unwrap().len(), 1);
    });
}

#[test]
fn a_cluster_that_is_watched_no_more_says_so() {
    paused(async {
        let world = InMemory::new();
        let (one, other) = world.replicas();
        let watched = async || one.heartbeat(&one.beat()).await.unwrap().watched;
        other.watch().await.unwrap();
        world.wait(s(14)).await;
        assert!(watched().await);
        world.wait(s(1)).await;
        assert!(!watched().await);
    });
}

#[test]
fn a_closed_record_outlives_the_interval_that_it_ended() {
    paused(async {
        let world = InMemory::new();
        let ((one, other), name) = (world.replicas(), name());
        let terms = OpenTerms { interval: s(600), ..TERMS };
        let opened = one.transition(&name, 1, &open(terms)).await.unwrap();
        let closed = Move::Closed { reason: Reason::Override };
        let closed = one.transition(&name, opened.generation, &closed).await.unwrap();
        world.wait(s(599)).await;
        assert_eq!(other.load(&name).await.generation, closed.generation);
        world.wait(s(1)).await;
        assert_eq!(other.load(&name).await, View::default());
    });
}

#[test]
fn an_open_record_outlives_its_interval_by_an_hour() {
    paused(async {
        let world = InMemory::new();
        let ((one, other), name) = (world.replicas(), name());
        one.transition(&name, 1, &open(TERMS)).await.unwrap();
        world.wait(HOUR).await;
        assert!(matches!(other.load(&name).await.state, RecordState::Open { .. }));
        world.wait(TERMS.interval).await;
        assert_eq!(other.load(&name).await, View::default());
    });
}

#[test]
fn an_override_never_expires_before_its_time() {
    paused(async {
        let world = InMemory::new();
        let ((one, other), names) = (world.replicas(), names(2));
        let set = |remaining| OverrideChange::Set(override_record(remaining));
        one.set_override(&names[0], &set(None)).await.unwrap();
        one.set_override(&names[1], &set(Some(1_000 * HOUR))).await.unwrap();
        world.wait(999 * HOUR).await;
        for name in &names {
            assert!(other.load(name).await.overridden.record.is_some());
        }
        world.wait(HOUR).await;
        assert!(other.load(&names[1]).await.overridden.record.is_none());
        world.wait(24 * HOUR).await;
        assert_eq!(other.load(&names[1]).await, View::default());
        assert_eq!(other.load(&names[0]).await.overridden.record, Some(override_record(None)));
    });
}

#[test]
fn answers_to_a_roll_call_are_counted_for_two_seconds() {
    paused(async {
        let world = InMemory::new();
        let ((one, _), name) = (world.replicas(), name());
        one.call_roll(&name, 0).await.unwrap();
        let since = one.end(Group::of(&name)).await;
        let mut batch = one.batch([report(&name, 1, 0)]);
        (batch.since, batch.seen) = (since, since.version);
        assert_eq!(one.send(&batch).await.suspect.unwrap().answered, 1);
        world.wait(ms(1_999)).await;
        assert_eq!(one.load(&name).await.suspect.unwrap().answered, 1);
        world.wait(ms(1)).await;
        assert_eq!(one.load(&name).await.suspect.unwrap().answered, 0);
    });
}

#[test]
fn a_vote_lasts_an_hour_at_most() {
    paused(async {
        let world = InMemory::new();
        let ((one, _), name) = (world.replicas(), name());
        one.report(&Report { vote: Some(24 * HOUR), ..report(&name, 1, 1) }).await;
        world.wait(s(3_599)).await;
        assert_eq!(one.load(&name).await.votes, 1);
        world.wait(s(1)).await;
        assert_eq!(one.load(&name).await.votes, 0);
    });
}

#[test]
fn an_entry_of_the_history_is_kept_for_a_day_and_outlives_the_record() {
    paused(async {
        let world = InMemory::new();
        let ((one, other), name) = (world.replicas(), name());
        one.transition(&name, 1, &open(TERMS)).await.unwrap();
        world.wait(2 * HOUR).await;
        assert_eq!(other.load(&name).await, View::default());
        let closed = one.set_override(&name, &OverrideChange::Reset).await.unwrap();
        world.wait(s(22 * 3_600 - 1)).await;
        let both = entries(&*other, &name).await;
        assert_eq!(
            (both.len(), both[0].ago, both[1].ago),
            (2, s(24 * 3_600 - 1), s(22 * 3_600 - 1))
        );
        world.wait(s(1)).await;
        let last = entries(&*other, &name).await;
        assert_eq!((last.len(), last[0].transition.generation), (1, closed.generation));
        world.wait(2 * HOUR).await;
        assert_eq!(entries(&*other, &name).await, []);
    });
}
