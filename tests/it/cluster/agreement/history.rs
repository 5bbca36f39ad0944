//! What a history is made of.
//!
//! Everything lasts either no time or an hour, and is either new or much older, so that it does
//! not matter how long a step takes.

use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tower_breaker::backend::{
    Count, Failures, Geometry, Move, OpenTerms, OverrideChange, Probed, RecordState, Shares,
};
use tower_breaker::event::{Reason, Tally};
use tower_breaker::overrides::{OverrideRecord, OverrideState};

use super::side::SENDERS;
use crate::support::s;

pub(super) const HOUR: Duration = s(3_600);

/// Circuits 0 and 1 are of group 0, circuit 2 is of group 1.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Sync(Sync),
    Transition {
        circuit: usize,
        from: When,
        to: Move,
    },
    Acquire {
        circuit: usize,
        generation: When,
        nonce: u64,
    },
    Settle {
        circuit: usize,
        generation: When,
        nonce: u64,
        result: Probed,
    },
    Restore {
        circuit: usize,
        restore: Restore,
    },
    SetOverride {
        circuit: usize,
        change: OverrideChange,
    },
    /// The backend loses everything.
    Forget,
}

#[derive(Clone, Debug)]
pub(super) struct Sync {
    pub(super) sender: usize,
    pub(super) group: usize,
    /// With the number of the last batch.
    pub(super) again: bool,
    /// Back to which cursor, among those of all senders.
    pub(super) since: Option<usize>,
    /// Back to which version.
    pub(super) seen: Option<usize>,
    /// Of each circuit of the group.
    pub(super) reports: [Option<Sketch>; 2],
    pub(super) asked: [bool; 2],
}

/// A report, but for what only the backend knows.
#[derive(Clone, Debug)]
pub(super) struct Sketch {
    pub(super) generation: When,
    pub(super) window: Option<Geometry>,
    pub(super) counts: Vec<Count>,
    pub(super) failures: Vec<Failures>,
    pub(super) last_success: Option<Duration>,
    pub(super) vote: Option<Duration>,
    pub(super) shares: Shares,
    pub(super) attention: Option<Proposal>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Proposal {
    RollCall(When),
    Quiet(When),
}

#[derive(Clone, Debug)]
pub(super) struct Restore {
    pub(super) ahead: Ahead,
    pub(super) revision: u64,
    pub(super) state: RecordState,
    pub(super) contributors: Vec<String>,
    pub(super) record: Option<OverrideRecord>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Ahead {
    Minutes(u64),
    Years,
}

/// Which generation, or which roll call, a step names.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    Now,
    Before(usize),
    Never,
}

/// A change that always happens.
pub(super) fn end() -> Step {
    Step::SetOverride { circuit: 0, change: OverrideChange::Clear }
}

pub(super) fn history() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..60)
}

fn step() -> impl Strategy<Value = Step> {
    let circuit = || 0..3_usize;
    prop_oneof![
        120 => sync().prop_map(Step::Sync),
        20 => (circuit(), when(), to())
            .prop_map(|(circuit, from, to)| Step::Transition { circuit, from, to }),
        60 => (circuit(), when(), 0..5_u64).prop_map(|(circuit, generation, nonce)| {
            Step::Acquire { circuit, generation, nonce }
        }),
        50 => (circuit(), when(), 0..5_u64, probed()).prop_map(
            |(circuit, generation, nonce, result)| {
                Step::Settle { circuit, generation, nonce, result }
            }
        ),
        10 => (circuit(), restore())
            .prop_map(|(circuit, restore)| Step::Restore { circuit, restore }),
        10 => (circuit(), change())
            .prop_map(|(circuit, change)| Step::SetOverride { circuit, change }),
        3 => Just(Step::Forget),
    ]
}

fn sync() -> impl Strategy<Value = Sync> {
    let batch = (0..SENDERS.len(), 0..2_usize, prop::bool::weighted(0.1));
    let seen = (option::of(0..4_usize), option::of(0..3_usize));
    let circuits = ([option::of(sketch()), option::of(sketch())], any::<[bool; 2]>());
    (batch, seen, circuits).prop_map(|((sender, group, again), (since, seen), (reports, asked))| {
        Sync { sender, group, again, since, seen, reports, asked }
    })
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let window = |millis, buckets| Just(Some(Geometry { millis, buckets }));
    let evidence = (
        prop_oneof![Just(None), window(36_000_000, 10), window(360_000_000, 60)],
        vec(count(), 0..3),
        vec(failures(), 0..3),
        prop_oneof![4 => Just(None), 1 => age().prop_map(Some)],
    );
    let shares = prop_oneof![Just(Shares::None), Just(Shares::Count), Just(Shares::Return)];
    (when(), evidence, option::of(lasts()), shares, option::of(proposal())).prop_map(
        |(generation, (window, counts, failures, last_success), vote, shares, attention)| {
            let counts = if window.is_some() { counts } else { Vec::new() };
            Sketch { generation, window, counts, failures, last_success, vote, shares, attention }
        },
    )
}

fn count() -> impl Strategy<Value = Count> {
    (age(), 0..9_u64, 0..4_u64, 0..3_u64).prop_map(|(age, calls, failures, slow_calls)| Count {
        age,
        calls,
        failures,
        slow_calls,
    })
}

fn failures() -> impl Strategy<Value = Failures> {
    (age(), 0..4_u64).prop_map(|(age, number)| Failures { age, number })
}

/// Far from the ends of all windows.
fn age() -> impl Strategy<Value = Duration> {
    prop_oneof![
        2 => Just(Duration::ZERO),
        1 => Just(s(20)),
        1 => Just(s(600)),
        1 => Just(20 * HOUR),
        1 => Just(1_000 * HOUR),
    ]
}

fn proposal() -> impl Strategy<Value = Proposal> {
    prop_oneof![
        2 => when().prop_map(Proposal::RollCall),
        1 => when().prop_map(Proposal::Quiet),
    ]
}

fn when() -> impl Strategy<Value = When> {
    prop_oneof![
        8 => Just(When::Now),
        2 => (0..2_usize).prop_map(When::Before),
        1 => Just(When::Never),
    ]
}

fn lasts() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), Just(HOUR)]
}

fn terms() -> impl Strategy<Value = OpenTerms> {
    let interval = prop_oneof![4 => Just(Duration::ZERO), 1 => Just(HOUR)];
    let lease = prop_oneof![1 => Just(Duration::ZERO), 4 => Just(HOUR)];
    (interval, 0..4_u32, 0..4_u64, lease, 0..4_u64).prop_map(
        |(interval, reopenings, probes, lease, successes_to_close)| OpenTerms {
            interval,
            reopenings,
            probes,
            lease,
            successes_to_close,
        },
    )
}

fn to() -> impl Strategy<Value = Move> {
    let tally = |failures| Tally {
        calls: 100,
        failures,
        slow_calls: 3,
        consecutive_failures: failures / 2,
        ..Tally::default()
    };
    prop_oneof![
        3 => (terms(), 0..100_u64, error()).prop_map(move |(terms, failures, last_error)| Move::Open {
            terms,
            reason: Reason::SlowCallRate,
            tally: tally(failures),
            last_error,
        }),
        1 => Just(Move::Closed { reason: Reason::Override }),
    ]
}

fn probed() -> impl Strategy<Value = Probed> {
    prop_oneof![
        3 => Just(Probed::Passed),
        1 => Just(Probed::Released),
        1 => (terms(), error()).prop_map(|(terms, last_error)| {
            Probed::Failed { terms, reason: Reason::ProbeExpired, last_error }
        }),
    ]
}

/// The text of a failure, which may be too long.
fn error() -> impl Strategy<Value = Option<Arc<str>>> {
    prop_oneof![
        2 => Just(None),
        1 => "\\PC{0,20}".prop_map(|text| Some(text.into())),
        1 => (200..300_usize).prop_map(|n| Some("é\n".repeat(n / 3).into())),
    ]
}

fn restore() -> impl Strategy<Value = Restore> {
    let ahead = prop_oneof![8 => (0..3_u64).prop_map(Ahead::Minutes), 1 => Just(Ahead::Years)];
    let state = prop_oneof![
        Just(RecordState::Closed),
        (terms(), lasts()).prop_map(|(terms, remaining)| RecordState::Open { terms, remaining }),
        terms().prop_map(|terms| {
            RecordState::HalfOpen { terms, passed: 1, out: 1, next_expiry: Some(HOUR) }
        }),
    ];
    (ahead, 0..9_u64, state, vec("[a-c]", 0..10), option::of(override_record())).prop_map(
        |(ahead, revision, state, contributors, record)| Restore {
            ahead,
            revision,
            state,
            contributors,
            record,
        },
    )
}

fn change() -> impl Strategy<Value = OverrideChange> {
    prop_oneof![
        2 => override_record().prop_map(OverrideChange::Set),
        1 => Just(OverrideChange::Clear),
        1 => Just(OverrideChange::Reset),
    ]
}

fn override_record() -> impl Strategy<Value = OverrideRecord> {
    let state = prop_oneof![Just(OverrideState::ForcedOpen), Just(OverrideState::MetricsOnly)];
    (state, ".{0,6}", option::of(".{0,6}"), option::of(lasts())).prop_map(
        |(state, reason, actor, remaining)| OverrideRecord { state, reason, actor, remaining },
    )
}
