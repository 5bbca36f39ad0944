//! The circuits of one group: what every operation on them does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::evidence::Evidence;
use super::index::Index;
use super::starts::Starts;
use super::stored::Stored;
use super::time::{DAY, millis};
use crate::backend::{
    BackendError, Batch, Changes, Lease, Move, Notice, OverrideChange, Probed, Report, View,
};
use crate::machine::Reason;
use crate::name::CircuitName;

/// The circuits of one group. An operation answers from its arguments; `now` is in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Circuits {
    stored: BTreeMap<CircuitName, Stored>,
    index: Index,
    starts: Starts,
}

impl Circuits {
    pub(crate) fn new(epoch: u64) -> Self {
        Self { stored: BTreeMap::new(), index: Index::new(epoch), starts: Starts::default() }
    }

    pub(crate) fn sync(&mut self, batch: &Batch, now: u64) -> (Changes, Vec<Notice>) {
        let seen = self.index.seen(batch.since, batch.seen);
        let answers = self.starts.seen(&batch.sender.id)..seen;
        let is_new = self.starts.record(&batch.sender.id, batch.seq, seen, now);
        let mut notices = Vec::new();
        for report in batch.reports.iter().filter(|_| is_new) {
            notices.extend(self.report(&batch.sender.name, report, &answers, now));
        }

        let page = self.index.after(batch.since);
        let reports: BTreeMap<_, _> = batch.reports.iter().map(|r| (&r.circuit, r)).collect();
        let reported = batch.reports.iter().map(|report| &report.circuit);
        let mut shown = BTreeSet::new();
        let mut views = Vec::new();
        for circuit in page.circuits.iter().chain(reported).chain(&batch.circuits) {
            if shown.insert(circuit) {
                let view = self.view_for(circuit, reports.get(circuit).copied(), now);
                views.push((circuit.clone(), view));
            }
        }
        if !page.more {
            self.bury(now);
        }
        let (cursor, restarted, more) = (page.cursor, page.restarted, page.more);
        (Changes { cursor, restarted, more, views, refused: Vec::new() }, notices)
    }

    pub(crate) fn transition(
        &mut self,
        circuit: &CircuitName,
        from: u64,
        to: &Move,
        now: u64,
    ) -> (View, Option<Notice>) {
        let stored = self.stored(circuit, now);
        let wins = stored.generation() == from;
        if wins {
            stored.record().go(to, now);
        }
        self.answer(circuit, wins, now)
    }

    pub(crate) fn acquire_probe(
        &mut self,
        circuit: &CircuitName,
        generation: u64,
        nonce: u64,
        now: u64,
    ) -> ((Option<Lease>, View), Option<Notice>) {
        let mut moved = false;
        let lease = self.stored(circuit, now).record.as_mut().and_then(|record| {
            let granted = record.lease(nonce, now);
            if granted.is_some() || record.generation != generation {
                return granted;
            }
            moved = record.half_open(now);
            record.acquire(nonce, now)
        });
        let (view, notice) = self.answer(circuit, moved, now);
        ((lease, view), notice)
    }

    pub(crate) fn settle_probe(
        &mut self,
        circuit: &CircuitName,
        lease: Lease,
        result: &Probed,
        now: u64,
    ) -> (View, Option<Notice>) {
        let record = self.stored(circuit, now).record.as_mut();
        let changed = record.is_some_and(|record| record.settle(lease, result, now));
        self.answer(circuit, changed, now)
    }

    /// # Errors
    ///
    /// If the view is more than a day ahead of the clock.
    pub(crate) fn restore(
        &mut self,
        circuit: &CircuitName,
        view: &View,
        now: u64,
    ) -> Result<(View, Option<Notice>), BackendError> {
        if view.generation.max(view.overridden.version) > millis(now.saturating_add(DAY)) {
            return Err(BackendError::refused(
                "the view is more than a day ahead of the backend's clock",
            ));
        }
        let changed = self.stored(circuit, now).restore(view, now);
        Ok(self.answer(circuit, changed, now))
    }

    pub(crate) fn set_override(
        &mut self,
        circuit: &CircuitName,
        change: &OverrideChange,
        now: u64,
    ) -> (View, Option<Notice>) {
        let stored = self.stored(circuit, now);
        match change {
            OverrideChange::Set(record) => stored.set_override(Some(record.clone()), now),
            OverrideChange::Clear => stored.set_override(None, now),
            OverrideChange::Reset => {
                stored.set_override(None, now);
                stored.record().close(Reason::Override, now);
            }
        }
        self.answer(circuit, true, now)
    }

    /// Adds a report of a batch that answers the roll calls with these ids, but for the first of
    /// the range. Returns what its proposal has changed.
    fn report(
        &mut self,
        name: &str,
        report: &Report,
        answers: &Range<u64>,
        now: u64,
    ) -> Option<Notice> {
        let version = self.index.next_version(now);
        let stored = self.stored(&report.circuit, now);
        let is_first = stored.record.is_none() && report.generation == View::FIRST;
        if is_first && Evidence::is_in(report) {
            stored.record();
        }
        let record = stored.record.as_mut()?;
        let evidence = record.evidence_of(report.generation)?;
        evidence.add(name, report, now);
        evidence.answer(answers, now);
        let changed = report.attention.is_some_and(|a| evidence.attend(a, version, now));
        if changed {
            record.revision = record.revision.saturating_add(1);
        }
        record.keep(Evidence::lasts(report), now);
        changed.then(|| self.changed(&report.circuit, now))
    }

    /// Returns what is stored of a circuit now.
    fn stored(&mut self, circuit: &CircuitName, now: u64) -> &mut Stored {
        let stored = self.stored.entry(circuit.clone()).or_default();
        stored.refresh(now);
        stored
    }

    /// Returns the view, and what to publish if the circuit has changed.
    fn answer(&mut self, circuit: &CircuitName, changed: bool, now: u64) -> (View, Option<Notice>) {
        let notice = changed.then(|| self.changed(circuit, now));
        (self.view(circuit, now), notice)
    }

    fn changed(&mut self, circuit: &CircuitName, now: u64) -> Notice {
        let (previous, version) = self.index.change(circuit, now);
        let view = Box::new(self.view(circuit, now));
        Notice::Changed { circuit: circuit.clone(), view, previous, version }
    }

    /// The view, with the totals that a report asks for.
    fn view_for(&mut self, circuit: &CircuitName, report: Option<&Report>, now: u64) -> View {
        let mut view = self.view(circuit, now);
        let record = self.stored.get(circuit).and_then(|stored| stored.record.as_ref());
        let evidence = record.and_then(|record| record.evidence());
        if let (Some(report), Some(evidence)) = (report, evidence) {
            (view.tally, view.shares) = evidence.totals(report, now);
        }
        view
    }

    pub(super) fn view(&mut self, circuit: &CircuitName, now: u64) -> View {
        let stored = self.stored(circuit, now);
        if stored.is_empty() {
            self.stored.remove(circuit);
            return View::default();
        }
        self.stored[circuit].view(|version| self.starts.have_seen(version), now)
    }

    /// Removes what has expired of a few circuits, and these from the index.
    fn bury(&mut self, now: u64) {
        for circuit in self.index.sample(now) {
            if self.stored(&circuit, now).is_empty() {
                self.stored.remove(&circuit);
                self.index.remove(&circuit);
            }
        }
    }
}
