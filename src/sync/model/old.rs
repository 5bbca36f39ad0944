//! The rules of the first design, as far as the model can put them in place of the new ones: it
//! must find that they are wrong.

use std::time::Duration;

use super::world::circuit;
use crate::backend::{Batch, Probed, RecordState, Records, View};
use crate::sync::circuit::Settled;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Old {
    /// The new rules.
    No,
    /// Failures add up over replicas, whatever succeeded between them.
    StreaksAdd,
    /// What was pushed is trusted like what was answered.
    PushesAreAnswers,
    /// A replica that starts again is another voter.
    VotesById,
    /// The end of an open interval is an absolute time.
    UntilStays,
    /// Reports carry no age.
    NoAges,
    /// A failed probe counts only while its lease lasts.
    LateFailuresDrop,
}

impl Old {
    /// Makes a batch what a replica of the first design would have sent.
    pub(super) fn send(self, batch: &mut Batch) {
        match self {
            Self::StreaksAdd => {
                batch.reports.iter_mut().for_each(|report| report.last_success = None);
            }
            Self::NoAges => {
                for report in &mut batch.reports {
                    report.counts.iter_mut().for_each(|count| count.age = Duration::ZERO);
                    report.failures.iter_mut().for_each(|failures| failures.age = Duration::ZERO);
                }
            }
            Self::VotesById => batch.sender.name.clone_from(&batch.sender.id),
            _ => {}
        }
    }

    /// Whether the backend ignores a result.
    pub(super) fn drops(self, settled: &Settled, records: &Records, now: u64) -> bool {
        let failed = matches!(settled.probed, Probed::Failed { .. });
        if self != Self::LateFailuresDrop || !failed {
            return false;
        }
        // In another generation it gets the lease that it has, if that is still out.
        let mut copy = records.clone();
        let name = circuit();
        let circuits = copy.group_of(&name, now);
        let ((lease, _), _) = circuits.acquire_probe(&name, 0, settled.lease.nonce, now);
        lease.is_none()
    }

    /// Makes a view what a backend of the first design would have answered.
    pub(super) fn answer(self, view: &mut View, until: &mut Option<(u64, u64)>, now: u64) {
        let RecordState::Open { remaining, .. } = &mut view.state else { return };
        if self != Self::UntilStays {
            return;
        }
        let ends = now.saturating_add(u64::try_from(remaining.as_micros()).unwrap_or(u64::MAX));
        match until {
            Some((generation, until)) if *generation == view.generation => {
                *remaining = Duration::from_micros(until.saturating_sub(now));
            }
            _ => *until = Some((view.generation, ends)),
        }
    }
}
