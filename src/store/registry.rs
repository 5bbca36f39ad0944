//! The map of circuits: how they are found, made, and given their policy.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::mapref::entry::Entry as Slot;

use super::configured::Configured;
use super::entry::{Ask, Chosen, Circuits, Entry};
use super::keys::Keys;
use super::member::Member;
use super::settings::{LatencySettings, Settings, StoreObserver};
use crate::circuit::{Circuit, Observer, Width};
use crate::clock;
use crate::event::{BackendStatus, Feed, StoreEvent, log};
use crate::machine::Event;
use crate::name::CircuitName;
use crate::policy::Policy;
use crate::sync::{self, Handle};

/// The circuits of a store, and what it needs to make more.
pub(super) struct Registry {
    pub(super) circuits: Circuits,
    pub(super) default_policy: Policy,
    pub(super) policies: HashMap<CircuitName, Policy>,
    configured: Configured,
    /// Policies that were set while the store was in use.
    pub(super) set_policies: Mutex<HashMap<CircuitName, Policy>>,
    pub(super) critical: HashSet<CircuitName>,
    pub(super) observers: Vec<StoreObserver>,
    pub(super) disabled: bool,
    latency: LatencySettings,
    pub(super) replicator: Option<Arc<Handle>>,
    pub(super) keys: Keys,
    pub(super) feed: Arc<Feed>,
    /// The recording that runs.
    #[cfg(feature = "replay")]
    pub(super) recording: Mutex<Option<Arc<crate::replay::Tape>>>,
}

/// Whether the cluster shares a circuit, if there is a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    Cluster,
    Process,
}

/// A circuit, and what had chosen its policy before it was asked for.
pub(super) struct Found {
    pub(super) circuit: Circuit,
    pub(super) chosen: Chosen,
}

impl Found {
    /// Returns whether the policy that the caller asked with must be put in force.
    pub(super) fn takes_policy(&self) -> bool {
        self.chosen == Chosen::ByDefault
    }
}

/// The result of an insertion.
pub(super) enum Made {
    New(Found),
    /// Another thread was first.
    Found(Found),
}

impl Made {
    pub(super) fn found(self) -> Found {
        let (Self::New(found) | Self::Found(found)) = self;
        found
    }
}

impl Registry {
    #[track_caller]
    pub(super) fn new(settings: Settings) -> Self {
        let Settings { policies, configured, critical, observers, disabled, cluster, .. } =
            settings;
        let default_policy = configured.default_policy(settings.default_policy);
        let backend = settings.backend.filter(|_| !disabled);
        let feed = Arc::new(Feed::default());
        let mut observe = settings.backend_observers;
        let changes = feed.clone();
        observe.push(Arc::new(move |status: &BackendStatus| {
            changes.publish(|| StoreEvent::Backend(status.clone()));
        }));
        let replicator = backend.map(|backend| sync::start(backend, cluster, observe));
        Self {
            circuits: Circuits::new(),
            default_policy,
            policies,
            configured,
            critical,
            set_policies: Mutex::default(),
            observers,
            disabled,
            latency: settings.latency,
            replicator,
            keys: Keys::new(settings.keys),
            feed,
            #[cfg(feature = "replay")]
            recording: Mutex::default(),
        }
    }

    #[inline]
    pub(super) fn ask(&self) -> Ask {
        Ask { now: clock::coarse(), made: self.keys.made() }
    }

    /// Looks up a circuit, which counts as use. If the caller asks with a policy, the entry records
    /// that; the caller puts it in force, without a lock.
    #[inline]
    pub(super) fn find(&self, name: &str, policy: Option<&Policy>, ask: Ask) -> Option<Found> {
        let entry = self.circuits.get(name)?;
        if policy.is_none() || entry.chosen > Chosen::ByDefault {
            entry.touch(ask);
            return Some(Found { circuit: entry.circuit.clone(), chosen: entry.chosen });
        }
        drop(entry);
        self.circuits.get_mut(name).map(|mut entry| entry.take_policy(policy, ask))
    }

    /// Makes a circuit. Never call it under a lock: what an earlier circuit's observers have
    /// captured may be dropped here.
    pub(super) fn entry(
        &self,
        name: CircuitName,
        layer: Option<&CircuitName>,
        width: Width,
    ) -> Entry {
        let set = self.set_policies().get(&name).cloned();
        let (policy, chosen) = match (set, self.policies.get(&name)) {
            (Some(policy), _) => (policy, Chosen::AtRuntime),
            (None, Some(policy)) => (self.configured(&name, layer, policy.clone()), Chosen::InCode),
            (None, None) => {
                let policy = self.default_policy.clone();
                (self.configured(&name, layer, policy), Chosen::ByDefault)
            }
        };
        let observers = self.observers(&name);
        let circuit = if self.disabled {
            // Before there are observers: for them nothing changes.
            let circuit = Circuit::new(name, policy, Vec::new(), width);
            drop(circuit.disable("disabled in the settings of the store"));
            for observer in observers {
                circuit.on_change(move |event| observer(event));
            }
            circuit
        } else {
            Circuit::new(name, policy, observers, width)
        };
        let sample = match width {
            Width::Many => self.latency.named,
            Width::One => self.latency.of_keys,
        };
        if let Some(one_in) = NonZeroU32::new(sample) {
            circuit.sample_latency(one_in);
        }
        Entry { circuit, chosen, used: None, member: None }
    }

    /// Returns the policy of a circuit whose code has `code`, with what the configuration changes
    /// in it. Never call it under a lock: it may log.
    pub(super) fn configured(
        &self,
        circuit: &CircuitName,
        layer: Option<&CircuitName>,
        code: Policy,
    ) -> Policy {
        self.configured.policy(circuit, layer, code, &self.default_policy)
    }

    /// Inserts a new circuit into the map, unless the map has one of its name by now.
    pub(super) fn insert(&self, entry: Entry, sharing: Sharing, policy: Option<&Policy>) -> Made {
        let ask = self.ask();
        let name = entry.circuit.name().clone();
        let mut new = Some(entry);
        // Under the lock: no user code. What remains in `new` is dropped after it.
        let (found, member) = match self.circuits.entry(name) {
            Slot::Occupied(mut slot) => (slot.get_mut().take_policy(policy, ask), None),
            Slot::Vacant(slot) => {
                let Some(mut entry) = new.take() else { unreachable!("it was made above") };
                if let (Some(replicator), Sharing::Cluster) = (&self.replicator, sharing) {
                    // Before others can see it.
                    entry.member = Member::join(replicator, &entry.circuit);
                }
                let mut entry = slot.insert(entry);
                (entry.take_policy(policy, ask), entry.member.clone())
            }
        };
        if let Some(unused) = new {
            unused.circuit.release_engine();
            return Made::Found(found);
        }
        if let Some(member) = member {
            member.start(found.circuit.clone());
        }
        // It may have been set after the policies were looked at.
        self.enforce_set_policy(&found.circuit);
        #[cfg(feature = "replay")]
        if self.is_recorded() {
            self.trace(&found.circuit);
        }
        Made::New(found)
    }

    /// Puts a policy of the code in force. Never call it under a lock: observers may be called.
    pub(super) fn put_in_force(&self, circuit: &Circuit, policy: Policy) {
        if circuit.policy() != policy {
            circuit.set_policy(policy);
        }
        // Another policy may have been set meanwhile, which takes precedence.
        self.enforce_set_policy(circuit);
    }

    /// Puts the policy of [`Store::set_policy`] in force, if there is one for the circuit. Never
    /// call it under a lock: observers may be called.
    pub(super) fn enforce_set_policy(&self, circuit: &Circuit) {
        let set = || self.set_policies().get(circuit.name()).cloned();
        if set().is_none() {
            return;
        }
        if let Some(mut entry) = self.circuits.get_mut(circuit.name().as_str()) {
            entry.chosen = Chosen::AtRuntime;
        }
        // Another thread may set another policy meanwhile: repeat until the two agree.
        while let Some(policy) = set().filter(|policy| circuit.policy() != *policy) {
            circuit.set_policy(policy);
        }
    }

    pub(super) fn set_policies(&self) -> MutexGuard<'_, HashMap<CircuitName, Policy>> {
        self.set_policies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log and the stream of events, then the observers of the builder.
    pub(super) fn observers(&self, circuit: &CircuitName) -> Vec<Observer> {
        let (name, feed) = (circuit.clone(), self.feed.clone());
        let own: Observer = Arc::new(move |event: &Event| {
            // First: a subscriber of the log may panic.
            feed.publish(|| StoreEvent::Circuit { name: name.clone(), event: event.clone() });
            log::trace(&name, event);
        });
        let bind = |observer: StoreObserver| -> Observer {
            let circuit = circuit.clone();
            Arc::new(move |event| observer(&circuit, event))
        };
        std::iter::once(own).chain(self.observers.iter().cloned().map(bind)).collect()
    }
}

impl Entry {
    /// Returns the circuit, for a caller that asks with this policy or with none.
    pub(super) fn take_policy(&mut self, policy: Option<&Policy>, ask: Ask) -> Found {
        self.touch(ask);
        let chosen = self.chosen;
        if policy.is_some() {
            self.chosen = chosen.max(Chosen::InCode);
        }
        Found { circuit: self.circuit.clone(), chosen }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(replicator) = &self.replicator {
            replicator.orphan();
        }
        for (_, entry) in std::mem::take(&mut self.circuits) {
            entry.circuit.release_engine();
        }
    }
}
