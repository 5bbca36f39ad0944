//! What a backend says of circuits, for a service without a store.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::backend::{BackendError, Impairment, Listing, RecordState, View};
use crate::clock;
use crate::event::{BackendStatus, Transition};
use crate::machine::State;
use crate::name::CircuitName;
use crate::timestamp::Timestamp;

/// How many transitions wait for the hub, which takes them at least once a second.
const MOST_MOVED: usize = 1_024;

/// The circuits that are not plain, as far as they are known.
#[derive(Debug)]
pub(super) struct Views {
    circuits: BTreeMap<CircuitName, Viewed>,
    status: BackendStatus,
    /// When all were read, or could not be.
    read: Option<Timestamp>,
    /// What reads have found to have moved, for the hub, also of reads that others caused.
    moved: VecDeque<(CircuitName, Transition)>,
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

    /// Returns how long the override in force, if it ends by itself, has left.
    pub(super) fn left(&self) -> Option<Duration> {
        let left = self.view.overridden.record.as_ref()?.remaining?;
        Some(left.saturating_sub(self.age()))
    }

    /// Returns the view without an override whose time is over.
    pub(super) fn by_now(&self) -> Self {
        let mut viewed = self.clone();
        if self.left().is_some_and(|left| left.is_zero()) {
            viewed.view.overridden.record = None;
        }
        viewed
    }

    /// Returns the state that replicas show by now.
    pub(super) fn state(&self) -> State {
        if self.left().is_some_and(|left| left.is_zero()) {
            self.view.state.state()
        } else {
            self.view.shown_state()
        }
    }

    /// Returns how long the state has lasted, if the view says it: an open record does, until its
    /// time is over.
    pub(super) fn since(&self) -> Option<Duration> {
        match &self.view.state {
            RecordState::Open { terms, remaining }
                if self.view.overridden.record.is_none() && !remaining.is_zero() =>
            {
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
        Self {
            circuits: BTreeMap::new(),
            status: BackendStatus::Connecting,
            read: None,
            moved: VecDeque::new(),
        }
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
        self.circuits.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&CircuitName, &Viewed)> {
        self.circuits.iter()
    }

    /// Returns how long it is until the next override ends by itself.
    pub(super) fn next_end(&self) -> Option<Duration> {
        let left = self.circuits.values().filter_map(Viewed::left);
        left.filter(|left| !left.is_zero()).min()
    }

    /// Takes what reads have found to have moved. Only the hub does.
    pub(super) fn take_moved(&mut self) -> VecDeque<(CircuitName, Transition)> {
        std::mem::take(&mut self.moved)
    }

    /// Takes over what was read since `asked`.
    pub(super) fn replace(
        &mut self,
        read: Result<Listing, BackendError>,
        impairments: Vec<Impairment>,
        asked: Timestamp,
    ) {
        let is_first = self.read.replace(clock::now()).is_none();
        let listing = match read {
            Ok(listing) => listing,
            Err(error) => {
                self.status = BackendStatus::Degraded { reason: error.to_string() };
                return;
            }
        };
        self.status = status(&listing, impairments);
        let gone = |(name, viewed): (&CircuitName, &Viewed)| {
            // What was pushed meanwhile is newer than the list.
            (viewed.at < asked && !listing.contains_key(name)).then(|| name.clone())
        };
        let gone: Vec<_> = self.circuits.iter().filter_map(gone).collect();
        let gone = gone.into_iter().map(|name| (name, View::default()));
        let read = listing.into_iter().filter_map(|(name, view)| Some((name, view.ok()?)));
        let changes: Vec<_> = gone.chain(read).collect();
        for (name, view) in changes {
            let transition = self.put(&name, view);
            if let Some(transition) = transition.filter(|_| !is_first) {
                self.moved.push_back((name, transition));
            }
        }
        let most = self.moved.len().saturating_sub(MOST_MOVED);
        self.moved.drain(..most);
    }

    /// Takes over a view, and returns what has changed by it.
    pub(super) fn put(&mut self, name: &CircuitName, view: View) -> Option<Transition> {
        let new = Viewed::new(view);
        let plain = new.view.is_plain();
        let Some(before) = self.circuits.get_mut(name) else {
            if plain {
                return None;
            }
            let transition = new.view.transition_since(&View::default());
            self.circuits.insert(name.clone(), new);
            return transition;
        };
        // A record that has vanished is older than any, and still true.
        if new.view.revision != 0 && new.rank() < before.rank() {
            return None;
        }
        let transition = new.view.transition_since(&before.view);
        if plain {
            self.circuits.remove(name);
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
