//! One circuit, between the machine and the backend: a pure reducer.
//!
//! A [`CircuitSync`] takes [inputs](Input) (answers and pushes of the backend, what happened in
//! this process) and changes the machine accordingly. It says what is to be sent: one
//! [command](Command) at a time, and [reports](CircuitSync::report). It neither waits nor reads a
//! clock.
//!
//! Laws:
//!
//! 1. **Answers are the truth, pushes are hints.** A push that is newer is followed at once, and
//!    replaced by the next answer to something that was sent after it, whatever that says. Only an
//!    answer is restored.
//! 2. Answers come in any order, late and twice. The newest generation and revision is in force,
//!    but an answer that contradicts the known view of the same rank is believed: an operator may
//!    have edited the record. Overrides have an order of their own.
//! 3. A new generation ends what this replica has found out by itself. A view of the generation
//!    that is known already does not: least of all does "closed" end what this replica has opened.
//! 4. Every result is in one report, or of a generation that is over.
//! 5. What could not be sent stays in the outbox until it is superseded.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::unreported::Unreported;
use crate::backend::{
    Attention, BackendError, Geometry, Lease, Move, OverrideChange, OverrideRecord, Probed,
    RecordState, View,
};
use crate::machine::{Event, Machine, Mark, Transition, Verdict};
use crate::policy::Policy;
use crate::timestamp::Timestamp;

/// What the circuit knows of the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SyncState {
    /// Nothing yet. First calls wait for it, no longer than the deadline.
    Unknown,
    /// The circuit follows the record.
    Synced,
    /// The circuit decides without the backend.
    Detached(Detached),
}

/// Why a circuit is detached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Detached {
    /// Its first view did not arrive in time, or the backend cannot be reached.
    Unreachable,
    /// The backend refuses operations on this circuit, or grants no leases. It is tried again then.
    Refused { error: BackendError, retry: Timestamp },
}

/// A circuit that the backend refuses is tried again after about so long.
const REFUSED_AGAIN: Duration = Duration::from_secs(10);

/// The same if its operations are not answered, while those on others are.
const UNANSWERED_AGAIN: Duration = Duration::from_secs(1);

impl Detached {
    /// The backend refuses the circuit. `draw` is from 0 to 1, so that circuits do not try again in
    /// step.
    pub(super) fn refused(error: BackendError, now: Timestamp, draw: f64) -> Self {
        let wait = if error.is_unavailable() { UNANSWERED_AGAIN } else { REFUSED_AGAIN };
        Self::Refused { error, retry: now.after(wait.mul_f64(0.5 + draw)) }
    }
}

/// What happened to a circuit, apart from the results of its calls.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    /// The backend has answered something that was sent at `asked`. The view was true at `at`.
    Answer { view: &'a View, asked: Timestamp, at: Timestamp, totals: Totals },
    /// The backend has published a view.
    Push(&'a View),
    /// The answer to a command.
    Done { command: &'a Command, result: Result<&'a View, &'a BackendError>, asked: Timestamp },
    /// The circuit's group is read to its end: what is known is current.
    Current,
    /// The backend cannot be reached, or refuses this circuit.
    Detach(Detached),
    /// Time has passed.
    Tick,
}

/// Whether a view has the totals of this circuit's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Totals {
    Absent,
    Present,
}

/// How fast the replica goes, and how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How often a circuit near a threshold reports.
    pub(crate) near: Duration,
    /// How often other suspect circuits do.
    pub(crate) far: Duration,
    /// After so long, a roll call counts as answered.
    pub(crate) settling: Duration,
    /// How many replicas are live.
    pub(crate) live: u64,
}

/// What an input works on, besides the circuit's own part.
pub(crate) struct Context<'a> {
    pub(crate) machine: &'a mut Machine,
    pub(crate) policy: &'a Policy,
    pub(crate) pace: Pace,
    pub(crate) now: Timestamp,
    /// The last failure in this process, as text.
    pub(crate) last_error: Option<Arc<str>>,
    pub(crate) effects: &'a mut Effects,
}

/// What an input has caused in this process.
#[derive(Default)]
pub(crate) struct Effects {
    /// A phase began: results of the phase before are stale.
    pub(crate) new_phase: bool,
    pub(crate) events: Vec<Event>,
    /// The events are of the first view: for observers nothing has changed.
    pub(crate) is_first_view: bool,
    /// Answers to those who await an override.
    pub(crate) confirmations: Vec<Confirmation>,
}

impl Effects {
    /// A phase of the machine began, and observers see the transition, if there is one.
    pub(super) fn began(&mut self, transition: Option<Transition>) {
        self.new_phase = true;
        self.events.extend(transition.map(Event::Transition));
    }
}

/// The answer to one who awaits an override. Sending it wakes a task, so it waits for the end of
/// the lock.
pub(crate) struct Confirmation {
    pub(super) waiter: oneshot::Sender<Result<(), BackendError>>,
    pub(super) result: Result<(), BackendError>,
}

impl Confirmation {
    pub(crate) fn send(self) {
        // Callers need not wait for it.
        let _ = self.waiter.send(self.result);
    }
}

/// What is to be sent, apart from reports.
#[derive(Debug)]
pub(crate) enum Command {
    /// The backend has lost this view.
    Restore(Box<View>),
    Settle(Settled),
    Override(OverrideChange),
    Transition {
        from: u64,
        to: Move,
    },
}

/// A probe of the cluster that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) lease: Lease,
    pub(crate) probed: Probed,
    pub(super) verdict: Verdict,
}

/// An override that was changed here, and that the backend has not acknowledged.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "the change itself, with what belongs to it")]
pub(super) struct Change {
    pub(super) change: OverrideChange,
    /// When it was changed: what remains of its time counts from here.
    pub(super) at: Timestamp,
    /// The version that was known then. A newer one supersedes it.
    pub(super) version: u64,
    /// An earlier one, which was under way when this one was made.
    pub(super) overtakes: Option<OverrideChange>,
    pub(super) waiter: Option<oneshot::Sender<Result<(), BackendError>>>,
    pub(super) sent: bool,
}

/// Whether there is an override.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Absent,
    Present,
}

/// A view that was published, and that no answer has confirmed. Its override and the rest of it
/// may be of different pushes.
#[derive(Clone, Debug)]
pub(super) struct Hint {
    pub(super) view: View,
    pub(super) at: Timestamp,
    pub(super) override_at: Timestamp,
}

/// Arrives when the backend has stored an override, or will not.
pub(crate) type Acknowledgement = oneshot::Receiver<Result<(), BackendError>>;

/// What waits to be sent.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Outbox {
    pub(super) restore: bool,
    pub(super) restored: Option<Timestamp>,
    pub(super) settled: Vec<Settled>,
    pub(super) change: Option<Change>,
    /// In the generation that is known.
    pub(super) proposal: Option<Move>,
    /// A command is under way.
    pub(super) busy: bool,
    /// After an error, nothing is sent before this.
    pub(super) not_before: Timestamp,
    pub(super) attention: Option<Attention>,
    /// The local evidence is worth a report at once.
    pub(super) alarm: bool,
    /// Totals that meet a condition are to be read again, with the shares of the replicas.
    pub(super) shares: bool,
}

/// A circuit's part in a cluster, behind the engine's lock.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct CircuitSync {
    pub(super) state: SyncState,
    /// The newest answer. Its times count from `at`, those of its override from `override_at`.
    pub(super) known: View,
    pub(super) at: Timestamp,
    pub(super) override_at: Timestamp,
    pub(super) hint: Option<Hint>,
    /// What the machine follows: the hint if there is one, else what is known.
    pub(super) followed: View,
    pub(super) followed_at: Timestamp,
    pub(super) followed_override_at: Timestamp,
    pub(super) unreported: Unreported,
    /// Opened by this replica's own evidence, in the generation that is followed.
    pub(super) trip: Option<Move>,
    /// When its open phase ends in this replica.
    pub(super) trip_until: Timestamp,
    /// The generation that was followed when this replica's own evidence last opened the circuit.
    pub(super) opened_in: Option<u64>,
    /// The version of the override that the machine follows; `None` after a change that was made
    /// here.
    pub(super) override_followed: Option<(u64, Presence)>,
    /// How often in a row it was refused: since a lease or a command was answered.
    pub(super) refusals: u32,
    pub(super) voted: bool,
    pub(super) outbox: Outbox,
    pub(super) asking: bool,
    /// When the last report was made, and which roll call it answered.
    pub(super) reported: Timestamp,
    pub(super) answered_roll: u64,
    /// When the totals last were at the level of suspicion.
    pub(super) suspected: Timestamp,
    pub(super) near: bool,
    pub(super) alarmed: bool,
    /// A streak of this length is worth the next report at once.
    pub(super) next_alarm: u64,
    /// When the totals are to be read again, because a roll call is not answered yet.
    pub(super) read_again: Option<Timestamp>,
    /// Roll calls in a row that were called for nothing, the last of them, and when the next one may
    /// be.
    pub(super) vain_rolls: u32,
    pub(super) vain_roll: u64,
    pub(super) next_roll: Timestamp,
    pub(super) next_shares: Timestamp,
}

impl CircuitSync {
    pub(crate) fn new(policy: &Policy) -> Self {
        Self {
            state: SyncState::Unknown,
            known: View::default(),
            at: Timestamp::default(),
            override_at: Timestamp::default(),
            hint: None,
            followed: View::default(),
            followed_at: Timestamp::default(),
            followed_override_at: Timestamp::default(),
            unreported: Unreported::new(Geometry::of(policy)),
            trip: None,
            trip_until: Timestamp::default(),
            opened_in: None,
            override_followed: Some((0, Presence::Absent)),
            refusals: 0,
            voted: false,
            outbox: Outbox::default(),
            asking: false,
            reported: Timestamp::default(),
            answered_roll: 0,
            suspected: Timestamp::default(),
            near: false,
            alarmed: false,
            next_alarm: 0,
            read_again: None,
            vain_rolls: 0,
            vain_roll: 0,
            next_roll: Timestamp::default(),
            next_shares: Timestamp::default(),
        }
    }

    /// The one way in.
    pub(crate) fn on(&mut self, input: Input<'_>, cx: &mut Context<'_>) {
        match input {
            Input::Answer { view, asked, at, totals } => {
                self.answered(view, asked, at, cx);
                if totals == Totals::Present {
                    self.judge(view, cx);
                }
            }
            Input::Push(view) => self.pushed(view, cx),
            Input::Done { command, result, asked } => self.done(command, result, asked, cx),
            Input::Current => self.attach(cx),
            Input::Detach(why) => self.detach(why, cx),
            Input::Tick => self.tick(cx),
        }
    }

    pub(crate) fn is_unknown(&self) -> bool {
        self.state == SyncState::Unknown
    }

    /// The generation in which leases are asked for.
    pub(crate) fn generation(&self) -> u64 {
        self.followed.generation
    }

    /// Adds the result of a call while the circuit is closed.
    pub(crate) fn record(&mut self, mark: Mark, now: Timestamp) {
        self.unreported.record(mark, now);
    }

    /// Adds `n` successes while the circuit is closed, the last of them at `at`.
    pub(crate) fn successes(&mut self, n: u64, at: Timestamp) {
        self.unreported.successes(n, at);
    }

    /// Sets whether the local evidence is alarming, with its streak. It is worth a report at once
    /// when it becomes so, and whenever the streak has doubled; in between the interval holds.
    ///
    /// Returns whether it is worth one now.
    pub(crate) fn set_alarmed(&mut self, alarmed: bool, streak: u64) -> bool {
        let crossed = alarmed && (!self.alarmed || streak >= self.next_alarm);
        if crossed {
            self.outbox.alarm = true;
            self.next_alarm = streak.saturating_mul(2).max(1);
        }
        self.alarmed = alarmed;
        crossed
    }

    /// Whether a success has ended a streak of which the backend knows.
    pub(crate) fn ends_known_streak(&self) -> bool {
        self.unreported.ends_known_streak()
    }

    /// Whether the record is closed.
    pub(crate) fn follows_closed(&self) -> bool {
        self.followed.state == RecordState::Closed
    }

    /// Whether all calls are reported.
    pub(crate) fn is_suspect(&self) -> bool {
        self.followed.suspect.is_some()
    }

    /// Drops the evidence, because it has led to an open phase, or is of another window.
    pub(crate) fn drop_evidence(&mut self, policy: &Policy) {
        self.unreported = Unreported::new(Geometry::of(policy));
        (self.outbox.alarm, self.alarmed) = (false, false);
    }

    /// Another policy is in force. What was counted in another window is dropped.
    pub(crate) fn set_policy(&mut self, policy: &Policy) {
        if self.unreported.window() != Geometry::of(policy) {
            self.drop_evidence(policy);
        }
    }

    /// Whether the circuit may ask for a lease now: one request at a time.
    pub(crate) fn begin_asking(&mut self, machine: &Machine) -> Option<u64> {
        let free = machine.asks_backend() && !self.asking;
        free.then(|| {
            self.asking = true;
            self.generation()
        })
    }

    pub(crate) fn end_asking(&mut self) {
        self.asking = false;
    }

    pub(crate) fn is_asking(&self) -> bool {
        self.asking
    }

    /// The view that the machine follows, as the backend would describe it now.
    pub(super) fn current(&self, now: Timestamp) -> View {
        aged(&self.followed, now.since(self.followed_at), now.since(self.followed_override_at))
    }

    /// The newest answer, as the backend would give it now.
    pub(super) fn known_now(&self, now: Timestamp) -> View {
        aged(&self.known, now.since(self.at), now.since(self.override_at))
    }
}

/// The view so much later.
fn aged(view: &View, by: Duration, override_by: Duration) -> View {
    let mut view = view.clone();
    if let RecordState::Open { remaining, .. } = &mut view.state {
        *remaining = remaining.saturating_sub(by);
    }
    if let Some(OverrideRecord { remaining: Some(remaining), .. }) = &mut view.overridden.record {
        *remaining = remaining.saturating_sub(override_by);
    }
    view
}
