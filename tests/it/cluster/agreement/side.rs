//! A backend, as a history is played to it.

use tokio::sync::broadcast::Receiver;
use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Attention, Backend, BackendError, Batch, Group, Lease, Notice, Report, Sender, View,
};
use tower_breaker::event::Tally;

use super::history::{Ahead, HOUR, Proposal, Restore, Sketch, Step, Sync, When};
use super::shown::{Answer, GROUPS, Known};
use crate::support::s;

/// Name and id: one replica has two starts.
pub(super) const SENDERS: [(&str, &str); 4] =
    [("one", "1"), ("one", "2"), ("two", "3"), ("three", "4")];

pub(super) struct Side<'a> {
    backend: &'a dyn Backend,
    notices: Receiver<Notice>,
    names: &'a [CircuitName; 3],
    pub(super) known: Known<'a>,
    /// By sender and group: the number of the last batch, and whether it had reports.
    sent: [[(u64, bool); 2]; SENDERS.len()],
}

impl<'a> Side<'a> {
    pub(super) fn new(backend: &'a dyn Backend, names: &'a [CircuitName; 3]) -> Self {
        let (notices, known) = (backend.subscribe(), Known::new(names));
        Self { backend, notices, names, known, sent: Default::default() }
    }

    /// Returns the next notices: so many, or fewer if there are no more.
    pub(super) async fn receive(&mut self, number: usize) -> Vec<Notice> {
        let mut received = Vec::new();
        while received.len() < number {
            match tokio::time::timeout(s(5), self.notices.recv()).await {
                Ok(notice) => received.push(notice.unwrap()),
                Err(_) => break,
            }
        }
        received
    }

    /// Returns the notices of a backend that sends them at once.
    pub(super) fn published(&mut self) -> Vec<Notice> {
        std::iter::from_fn(|| self.notices.try_recv().ok()).collect()
    }

    pub(super) async fn play(&mut self, step: &Step) -> Result<Answer, BackendError> {
        let (backend, names) = (self.backend, self.names);
        match step {
            Step::Sync(sync) => {
                let batch = self.batch(sync);
                let first = GROUPS.iter().position(|group| *group == sync.group).unwrap();
                let changes = backend.sync(Group::of(&names[first]), &batch).await?;
                Ok(Answer::Changes(sync.group, changes))
            }
            Step::Transition { circuit, from, to } => {
                let from = self.known.generation(*circuit, *from);
                let view = backend.transition(&names[*circuit], from, to).await?;
                Ok(Answer::View(*circuit, view))
            }
            Step::Acquire { circuit, generation, nonce } => {
                let generation = self.known.generation(*circuit, *generation);
                let answer = backend.acquire_probe(&names[*circuit], generation, *nonce).await?;
                Ok(Answer::Leased(*circuit, answer.0, answer.1))
            }
            Step::Settle { circuit, generation, nonce, result } => {
                let generation = self.known.generation(*circuit, *generation);
                let lease = Lease { generation, nonce: *nonce, remaining: HOUR };
                let view = backend.settle_probe(&names[*circuit], lease, result).await?;
                Ok(Answer::View(*circuit, view))
            }
            Step::Restore { circuit, restore } => {
                let view = self.restored(*circuit, restore);
                let view = backend.restore(&names[*circuit], &view).await?;
                Ok(Answer::View(*circuit, view))
            }
            Step::SetOverride { circuit, change } => {
                let view = backend.set_override(&names[*circuit], change).await?;
                Ok(Answer::View(*circuit, view))
            }
            Step::Forget => {
                self.known.forget();
                Ok(Answer::Nothing)
            }
        }
    }

    fn batch(&mut self, sync: &Sync) -> Batch {
        let (name, id) = SENDERS[sync.sender];
        let circuits = (0..3).filter(|circuit| GROUPS[*circuit] == sync.group);
        let reports: Vec<_> = circuits
            .clone()
            .zip(&sync.reports)
            .filter_map(|(circuit, sketch)| Some(self.report(circuit, sketch.as_ref()?)))
            .collect();
        let asked = circuits.zip(sync.asked).filter(|(_, asked)| *asked);
        let sent = &mut self.sent[sync.sender][sync.group];
        // Only a batch of reports can add something twice.
        if !(sync.again && sent.1 && !reports.is_empty()) {
            *sent = (sent.0 + 1, !reports.is_empty());
        }
        Batch {
            sender: Sender { name: name.to_owned(), id: id.to_owned() },
            seq: sent.0,
            since: sync.since.map(|n| self.known.cursor(sync.group, n)).unwrap_or_default(),
            seen: sync.seen.map(|n| self.known.version(sync.group, n)).unwrap_or_default(),
            reports,
            circuits: asked.map(|(circuit, _)| self.names[circuit].clone()).collect(),
        }
    }

    fn report(&self, circuit: usize, sketch: &Sketch) -> Report {
        let attention = sketch.attention.map(|proposal| match proposal {
            Proposal::RollCall(when) => {
                Attention::RollCall { after: self.known.roll(circuit, when) }
            }
            Proposal::Quiet(when) => Attention::Quiet { after: self.known.roll(circuit, when) },
        });
        let Sketch { generation, window, counts, failures, last_success, vote, shares, .. } =
            sketch.clone();
        Report {
            circuit: self.names[circuit].clone(),
            generation: self.known.generation(circuit, generation),
            window,
            counts,
            failures,
            last_success,
            vote,
            shares,
            attention,
        }
    }

    fn restored(&self, circuit: usize, restore: &Restore) -> View {
        let mut view = View::default();
        view.generation = match restore.ahead {
            Ahead::Minutes(n) => self.known.generation(circuit, When::Now) + n * 60_000,
            Ahead::Years => 1 << 52,
        };
        view.revision = restore.revision;
        view.state = restore.state;
        view.tally = Tally {
            calls: 7,
            failures: 6,
            slow_calls: 5,
            consecutive_failures: 4,
            ..Tally::default()
        };
        view.contributors.clone_from(&restore.contributors);
        view.overridden.version =
            self.known.override_version(circuit) + u64::from(restore.record.is_some());
        view.overridden.record.clone_from(&restore.record);
        view
    }
}
