//! What a backend says of circuits, for a service without a store.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::backend::{BackendError, Impairment, Listing, RecordState, View};
use crate::clock;
use crate::event::{BackendStatus, Transition};
use crate::name::CircuitName;
use crate::timestamp::Timestamp;

/// The circuits that are not plain, as far as they are known.
#[derive(Debug)]
pub(super) struct Views {
    views: BTreeMap<CircuitName, Viewed>,
    status: BackendStatus,
    /// When all were read, or could not be.
    read: Option<Timestamp>,
}

/// A view, and when it was true.
#[derive(Clone, Debug)]
pub(super) struct Viewed {
    pub(super) view: View,
    at: Timestamp,
}

impl Viewed {
    pub(super) fn new(view: View) -> Self {
        Self { view, at: clock::now() }
    }

    /// Returns how long ago the view was true.
    pub(super) fn age(&self) -> Duration {
        clock::now().since(self.at)
    }

    /// Returns how long the state has lasted, if the view says it: an open record does.
    pub(super) fn since(&self) -> Option<Duration> {
        match &self.view.state {
            RecordState::Open { terms, remaining } if self.view.overridden.record.is_none() => {
                Some(terms.interval.saturating_sub(*remaining).saturating_add(self.age()))
            }
            _ => None,
        }
    }

    fn rank(&self) -> (u64, u64, u64) {
        let (generation, revision) = self.view.rank();
        (generation, revision, self.view.overridden.version)
    }
}

impl Default for Views {
    fn default() -> Self {
        Self { views: BTreeMap::new(), status: BackendStatus::Connecting, read: None }
    }
}

impl Views {
    /// Returns how long ago all were read, or could not be.
    pub(super) fn age(&self) -> Option<Duration> {
        self.read.map(|at| clock::now().since(at))
    }

    pub(super) fn status(&self) -> &BackendStatus {
        &self.status
    }

    pub(super) fn get(&self, name: &str) -> Option<&Viewed> {
        self.views.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&CircuitName, &Viewed)> {
        self.views.iter()
    }

    /// Takes over what was read since `asked`, and returns the names that may have changed.
    pub(super) fn replace(
        &mut self,
        read: Result<Listing, BackendError>,
        impairments: Vec<Impairment>,
        asked: Timestamp,
    ) -> Vec<(CircuitName, Option<Transition>)> {
        self.read = Some(clock::now());
        let listing = match read {
            Ok(listing) => listing,
            Err(error) => {
                self.status = BackendStatus::Degraded { reason: error.to_string() };
                return Vec::new();
            }
        };
        self.status = status(&listing, impairments);
        let gone = |(name, viewed): (&CircuitName, &Viewed)| {
            // What was pushed meanwhile is newer than the list.
            (viewed.at < asked && !listing.contains_key(name)).then(|| name.clone())
        };
        let gone: Vec<_> = self.views.iter().filter_map(gone).collect();
        let gone = gone.into_iter().map(|name| (name, View::default()));
        let read = listing.into_iter().filter_map(|(name, view)| Some((name, view.ok()?)));
        let changes: Vec<_> = gone.chain(read).collect();
        changes
            .into_iter()
            .map(|(name, view)| {
                let transition = self.put(&name, view);
                (name, transition)
            })
            .collect()
    }

    /// Takes over a view, and returns what has changed by it.
    pub(super) fn put(&mut self, name: &CircuitName, view: View) -> Option<Transition> {
        let new = Viewed::new(view);
        let plain = new.view.is_plain();
        let Some(before) = self.views.get_mut(name) else {
            // Its history shows how it got here.
            let transition = new.view.transition_since(&View::default());
            if !plain {
                self.views.insert(name.clone(), new);
            }
            return transition;
        };
        // A record that has vanished is older than any, and still true.
        if new.view.revision != 0 && new.rank() < before.rank() {
            return None;
        }
        let transition = new.view.transition_since(&before.view);
        if plain {
            self.views.remove(name);
        } else {
            *before = new;
        }
        transition
    }
}

fn status(listing: &Listing, mut what: Vec<Impairment>) -> BackendStatus {
    let mut refused = listing.values().filter_map(|view| view.as_ref().err());
    if let Some(cause) = refused.next().map(ToString::to_string) {
        what.push(Impairment::CircuitsDetached { circuits: refused.count() + 1, cause });
    }
    if what.is_empty() { BackendStatus::Connected } else { BackendStatus::Impaired { what } }
}
