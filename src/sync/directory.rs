//! What is known of circuits that this process has not made.
//!
//! A circuit is made when a call needs it. If its group was read shortly before, its state is known
//! without asking the backend again: it is one of those that are not plain, or it is closed.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::backend::{Group, RecordState, View};
use crate::name::CircuitName;
use crate::timestamp::Timestamp;

/// A group that was read longer ago than this is read again for a new circuit.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// Circuits of one group that are kept. With more of them, new circuits ask the backend.
const MOST: usize = 1_000;

/// The circuits of all groups that are not closed, quiet and without override.
#[derive(Debug)]
pub(super) struct Directory {
    groups: Vec<Listed>,
}

#[derive(Debug, Default)]
struct Listed {
    /// When the group was read to its end.
    read: Option<Timestamp>,
    views: HashMap<CircuitName, (View, Timestamp)>,
    /// Circuits whose change was published and not read yet.
    changed: HashSet<CircuitName>,
    /// There were more circuits than are kept, until the group is read from its beginning.
    is_partial: bool,
}

impl Directory {
    pub(super) fn new() -> Self {
        Self { groups: Group::all().map(|_| Listed::default()).collect() }
    }

    /// The view of a circuit, and when it was true. `None`: the backend must be asked.
    pub(super) fn find(&self, name: &CircuitName, now: Timestamp) -> Option<(View, Timestamp)> {
        let listed = &self.groups[usize::from(Group::of(name).number())];
        let read = listed.read.filter(|read| now.since(*read) < GOOD_FOR)?;
        if listed.changed.contains(name) {
            return None;
        }
        Some(listed.views.get(name).cloned().unwrap_or_else(|| (View::default(), read)))
    }

    pub(super) fn learn(&mut self, group: Group, name: &CircuitName, view: &View, at: Timestamp) {
        let listed = self.of(group);
        listed.changed.remove(name);
        if is_plain(view) {
            listed.views.remove(name);
        } else if listed.views.len() < MOST || listed.views.contains_key(name) {
            listed.views.insert(name.clone(), (view.clone(), at));
        } else {
            listed.forget();
        }
    }

    /// The group was read to its end.
    pub(super) fn complete(&mut self, group: Group, at: Timestamp) {
        let listed = self.of(group);
        listed.read = (!listed.is_partial).then_some(at);
    }

    /// The group was read from its beginning: circuits that were not in it are plain.
    pub(super) fn retain(&mut self, group: Group, seen: &HashSet<CircuitName>) {
        let listed = self.of(group);
        listed.views.retain(|name, _| seen.contains(name));
        listed.is_partial = seen.len() >= MOST;
    }

    /// A change was published.
    pub(super) fn changed(&mut self, group: Group, name: &CircuitName) {
        let listed = self.of(group);
        if listed.changed.len() < MOST {
            listed.changed.insert(name.clone());
        } else {
            listed.forget();
        }
    }

    /// Something may have been missed.
    pub(super) fn doubt(&mut self) {
        for listed in &mut self.groups {
            listed.read = None;
        }
    }

    fn of(&mut self, group: Group) -> &mut Listed {
        &mut self.groups[usize::from(group.number())]
    }
}

impl Listed {
    fn forget(&mut self) {
        *self = Self { is_partial: true, ..Self::default() };
    }
}

fn is_plain(view: &View) -> bool {
    view.state == RecordState::Closed && view.suspect.is_none() && view.overridden.record.is_none()
}
