//! The replicas that use the backend, and whether they are watched.

use std::collections::BTreeMap;

use super::time::{SECOND, left, micros};
use crate::backend::{Heartbeat, ReplicaInfo, Roster, Sender};

/// By the id of each start: its last heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Replicas {
    replicas: BTreeMap<String, Replica>,
    watched_until: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Replica {
    name: String,
    version: String,
    impaired: String,
    time: u64,
}

impl Replicas {
    const MAX: usize = 10_000;

    /// How long a request to watch lasts.
    const WATCH: u64 = 15 * SECOND;

    pub(crate) fn heartbeat(&mut self, heartbeat: &Heartbeat, now: u64) -> Roster {
        self.forget_silent(now);
        let Heartbeat { sender: Sender { name, id }, version, impaired } = heartbeat;
        if self.replicas.len() >= Self::MAX && !self.replicas.contains_key(id) {
            let silent = self.replicas.iter().min_by_key(|(_, replica)| replica.time);
            if let Some(id) = silent.map(|(id, _)| id.clone()) {
                self.replicas.remove(&id);
            }
        }
        let (name, version, impaired) = (name.clone(), version.clone(), impaired.clone());
        self.replicas.insert(id.clone(), Replica { name, version, impaired, time: now });
        let live = micros(Roster::LIVE);
        let is_live = |replica: &&Replica| now.abs_diff(replica.time) <= live;
        Roster {
            live: self.replicas.values().filter(is_live).count() as u64,
            watched: self.watched_until.saturating_sub(now).min(Self::WATCH) > 0,
        }
    }

    pub(crate) fn list(&mut self, now: u64) -> Vec<ReplicaInfo> {
        self.forget_silent(now);
        let info = |(id, replica): (&String, &Replica)| {
            let Replica { name, version, impaired, time } = replica.clone();
            let sender = Sender { name, id: id.clone() };
            ReplicaInfo::new(Heartbeat { sender, version, impaired }, left(now, time))
        };
        self.replicas.iter().map(info).collect()
    }

    pub(crate) fn watch(&mut self, now: u64) {
        self.watched_until = now.saturating_add(Self::WATCH);
    }

    fn forget_silent(&mut self, now: u64) {
        let forget = micros(Roster::FORGET);
        self.replicas.retain(|_, replica| now.abs_diff(replica.time) <= forget);
        self.watched_until = self.watched_until.min(now.saturating_add(Self::WATCH));
    }
}
