//! What a replica makes of the totals that it reads.
//!
//! ```text
//!   quiet ── failures at half of what could trip: roll call ──► suspect
//!     ▲                                                           │
//!     └── below that for a window ────────────────────────────────┤
//!                                                                 │ the totals meet a condition:
//!                                                                 ▼ roll call, if the last is old
//!                            every live replica has answered, or the settling time is over
//!                                                                 │ and they met it then
//!                                                                 ▼
//!                                                          propose to open
//! ```
//!
//! Totals trip only when they are whole: the batch that answers a roll call has everything that its
//! replica counted before. Consecutive failures count up to the first answer alone, because what
//! came after it is not known of every replica. Other totals are those of the moment, so a roll call
//! serves no longer than a few report intervals.

use super::circuit::{CircuitSync, Context};
use super::outbound::{horizon, terms};
use crate::backend::{Attention, Move, OpenTerms, RecordState, Roll, View};
use crate::machine::Tally;
use crate::policy::Policy;
use crate::timestamp::{Timestamp, nanos};

/// After a roll call that did not lead to a trip, the next one waits for twice as long as before,
/// up to so many doublings.
const MOST_DOUBLINGS: u32 = 5;

/// What follows from the totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// They are far below anything.
    Quiet,
    /// They are to be watched.
    Suspicious,
    /// They meet a condition, as far as they are known.
    Meets,
}

impl CircuitSync {
    /// Judges the totals of a view that was just applied.
    pub(super) fn judge(&mut self, view: &View, cx: &mut Context<'_>) {
        let current = view.generation == self.followed.generation
            && view.state == RecordState::Closed
            && self.followed.state == RecordState::Closed;
        if !current || cx.machine.state().is_overridden() {
            return;
        }
        self.near = cx.policy.is_near(view.tally);
        if self.trip.is_some() && view.votes >= cx.policy.quorum() {
            self.outbox.proposal.clone_from(&self.trip);
            return;
        }
        let known = view.suspect.map_or(0, |roll| roll.id);
        if let Some(roll) = view.suspect {
            // Replicas with other policies may find suspicious what this one does not.
            let called = cx.now.as_nanos().saturating_sub(nanos(roll.age));
            self.suspected = self.suspected.max(Timestamp::from_nanos(called));
        }
        match (verdict(view.tally, cx.policy), view.suspect) {
            (Verdict::Quiet, None) => {}
            (Verdict::Quiet, Some(_)) => {
                self.vain_rolls = 0;
                if cx.now.since(self.suspected) >= horizon(cx.policy) {
                    self.outbox.attention = Some(Attention::Quiet { after: known });
                }
            }
            (Verdict::Suspicious, Some(_)) => self.suspected = cx.now,
            (Verdict::Suspicious | Verdict::Meets, None) => {
                self.suspected = cx.now;
                self.call_roll(known, cx);
            }
            (Verdict::Meets, Some(roll)) => {
                self.suspected = cx.now;
                self.judge_roll(view, roll, cx);
            }
        }
    }

    /// The totals meet a condition: they are judged if a roll call has made them whole.
    fn judge_roll(&mut self, view: &View, roll: Roll, cx: &mut Context<'_>) {
        let settling = cx.pace.settling;
        if roll.age > settling + cx.pace.near * 2 {
            return self.call_roll(roll.id, cx);
        }
        if roll.answered < cx.pace.live && roll.age < settling {
            self.read_again = Some(cx.now.after(settling.saturating_sub(roll.age)));
            return;
        }
        let tally = Tally { consecutive_failures: roll.consecutive_failures, ..view.tally };
        let Some(reason) = cx.policy.judge(tally) else {
            // It grew to that only after the roll call.
            if std::mem::replace(&mut self.vain_roll, roll.id) != roll.id {
                self.vain_rolls += 1;
            }
            return self.call_roll(roll.id, cx);
        };
        let reason = if cx.policy.quorum() == 1 {
            Some(reason)
        } else if view.shares.is_empty() {
            self.read_shares(cx);
            return;
        } else {
            cx.policy.judge_shared(tally, &view.shares)
        };
        if let Some(reason) = reason {
            let interval = cx.policy.open_interval(0, None, fastrand::u64(..));
            let terms = OpenTerms { reopenings: 0, ..terms(cx.policy, cx.machine, interval) };
            let last_error = cx.last_error.clone();
            self.outbox.proposal = Some(Move::Open { terms, reason, tally, last_error });
        }
    }

    /// Proposes a roll call, unless the last ones were in vain and it is too soon.
    fn call_roll(&mut self, after: u64, cx: &mut Context<'_>) {
        if self.next_roll > cx.now {
            self.read_again = Some(self.next_roll);
            return;
        }
        self.outbox.attention = Some(Attention::RollCall { after });
        if self.vain_rolls > 0 {
            let wait = cx.pace.settling * (1 << self.vain_rolls.min(MOST_DOUBLINGS));
            self.next_roll = cx.now.after(wait);
        }
    }

    /// Reads the shares of all replicas with the next report, but not with each.
    fn read_shares(&mut self, cx: &mut Context<'_>) {
        if self.next_shares <= cx.now {
            self.next_shares = cx.now.after(cx.pace.far);
            self.outbox.shares = true;
        } else {
            self.read_again = Some(self.next_shares);
        }
    }
}

fn verdict(tally: Tally, policy: &Policy) -> Verdict {
    if policy.judge(tally).is_some() {
        Verdict::Meets
    } else if policy.suspects(tally) {
        Verdict::Suspicious
    } else {
        Verdict::Quiet
    }
}
