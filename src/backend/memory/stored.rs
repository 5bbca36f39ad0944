//! What is stored of one circuit: its record, and its override.

use super::record::Record;
use super::time::{DAY, cut, left, micros, millis};
use crate::backend::{Overridden, OverrideRecord, View};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Stored {
    pub(super) record: Option<Record>,
    overridden: Option<StoredOverride>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct StoredOverride {
    version: u64,
    record: Option<OverrideRecord>,
    /// When it was written.
    since: u64,
    /// When it ends, if it does by itself.
    until: Option<u64>,
}

impl Stored {
    /// Drops what has expired, and cuts what lasts longer than it can.
    pub(super) fn refresh(&mut self, now: u64) {
        self.record = self.record.take().filter(|record| !record.is_expired(now));
        self.overridden = self.overridden.take().filter(|stored| !stored.is_expired(now));
        if let Some(record) = &mut self.record {
            record.cut(now);
        }
        if let Some(stored) = &mut self.overridden {
            stored.cut(now);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the record, which is made if there is none.
    pub(super) fn record(&mut self) -> &mut Record {
        self.record.get_or_insert_with(Record::first)
    }

    pub(super) fn generation(&self) -> u64 {
        self.record.as_ref().map_or(View::FIRST, |record| record.generation)
    }

    pub(super) fn set_override(&mut self, record: Option<OverrideRecord>, now: u64) {
        let version = self.version().saturating_add(1).max(millis(now));
        self.overridden = Some(StoredOverride::new(version, record, now));
    }

    /// Writes back what is older here. Returns whether something is.
    pub(super) fn restore(&mut self, view: &View, now: u64) -> bool {
        let rank = self.record.as_ref().map_or((View::FIRST, 0), |r| (r.generation, r.revision));
        let is_older = rank < view.rank();
        if is_older {
            self.record = Some(Record::restored(view, now));
        }
        let Overridden { version, record } = &view.overridden;
        let is_forgotten = self.version() < *version;
        if is_forgotten {
            self.overridden = Some(StoredOverride::new(*version, record.clone(), now));
        }
        is_older || is_forgotten
    }

    /// Returns the view. `answered` counts the replicas that have seen a version of the group.
    pub(super) fn view(&self, answered: impl Fn(u64) -> u64, now: u64) -> View {
        let overridden = self.overridden.as_ref().map(|stored| stored.shown(now));
        let mut view = View { overridden: overridden.unwrap_or_default(), ..View::default() };
        let Some(record) = &self.record else { return view };
        (view.generation, view.revision) = (record.generation, record.revision);
        (view.state, view.reason) = (record.state.shown(now), record.reason);
        view.tally = record.tally;
        view.contributors.clone_from(&record.contributors);
        view.last_error.clone_from(&record.last_error);
        if let Some(evidence) = record.evidence() {
            view.tally = evidence.streak(now);
            view.votes = evidence.votes(now);
            view.suspect = evidence.suspect(answered, now);
        }
        view
    }

    fn version(&self) -> u64 {
        self.overridden.as_ref().map_or(0, |stored| stored.version)
    }
}

impl StoredOverride {
    fn new(version: u64, record: Option<OverrideRecord>, now: u64) -> Self {
        let length = record.as_ref().and_then(|record| record.remaining);
        let until = length.map(|length| now.saturating_add(micros(length)));
        Self { version, record, since: now, until }
    }

    /// The version of an override that has ended is kept for a day, so that no replica restores
    /// what was before it.
    fn is_expired(&self, now: u64) -> bool {
        let ended = match (&self.record, self.until) {
            (None, _) => self.since,
            (Some(_), Some(until)) => until,
            (Some(_), None) => return false,
        };
        ended.saturating_add(DAY) <= now
    }

    fn cut(&mut self, now: u64) {
        let length = self.record.as_ref().and_then(|record| record.remaining);
        if let (Some(until), Some(length)) = (&mut self.until, length) {
            cut(until, micros(length), now);
        }
    }

    fn shown(&self, now: u64) -> Overridden {
        let in_force = |_: &&OverrideRecord| self.until.is_none_or(|until| until > now);
        let record = self.record.as_ref().filter(in_force).map(|record| OverrideRecord {
            remaining: self.until.map(|until| left(until, now)),
            ..record.clone()
        });
        Overridden { version: self.version, record }
    }
}
