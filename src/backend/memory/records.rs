//! All that a backend stores.

use std::collections::BTreeMap;

use super::circuits::Circuits;
use super::replicas::Replicas;
use crate::backend::Group;
use crate::name::CircuitName;

/// All that a backend stores, without a clock, a lock or a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Records {
    groups: BTreeMap<Group, Circuits>,
    pub(crate) replicas: Replicas,
    /// The largest one that a group has had.
    epoch: u64,
}

impl Records {
    /// Returns the circuits of a group, which begins if there is none.
    pub(crate) fn group(&mut self, group: Group, now: u64) -> &mut Circuits {
        let epoch = &mut self.epoch;
        self.groups.entry(group).or_insert_with(|| {
            // A paused clock may show the time at which the last one began.
            *epoch = now.max(epoch.saturating_add(1));
            Circuits::new(*epoch)
        })
    }

    pub(crate) fn group_of(&mut self, circuit: &CircuitName, now: u64) -> &mut Circuits {
        self.group(Group::of(circuit), now)
    }

    /// Deletes everything. Groups that begin again do so in another epoch.
    pub(crate) fn forget(&mut self) {
        *self = Self { epoch: self.epoch, ..Self::default() };
    }
}
