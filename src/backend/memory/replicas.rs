//! The replicas that use the backend, and whether they are watched.

use std::collections::BTreeMap;

use super::time::{SECOND, left, micros, millis};
use crate::backend::{Heartbeat, ReplicaInfo, Roster, Sender};

/// By the id of each start: its last heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Replicas {
    starts: BTreeMap<String, Replica>,
    watched_until: u64,
    /// The newest change that any replica has seen.
    newest: u64,
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
        let Heartbeat { sender: Sender { name, id }, version, impaired, seen } = heartbeat;
        if self.starts.len() >= Self::MAX && !self.starts.contains_key(id) {
            let silent = self.starts.iter().min_by_key(|(_, replica)| replica.time);
            if let Some(id) = silent.map(|(id, _)| id.clone()) {
                self.starts.remove(&id);
            }
        }
        let (name, version, impaired) = (name.clone(), version.clone(), impaired.clone());
        self.starts.insert(id.clone(), Replica { name, version, impaired, time: now });
        let latest = millis(now.saturating_add(SECOND));
        self.newest = [self.newest, *seen].into_iter().filter(|v| *v <= latest).max().unwrap_or(0);
        let live = micros(Roster::LIVE);
        let is_live = |replica: &&Replica| now.abs_diff(replica.time) <= live;
        Roster {
            live: self.starts.values().filter(is_live).count() as u64,
            watched: self.watched_until.saturating_sub(now).min(Self::WATCH) > 0,
            newest: self.newest,
        }
    }

    pub(crate) fn list(&mut self, now: u64) -> Vec<ReplicaInfo> {
        self.forget_silent(now);
        let info = |(id, replica): (&String, &Replica)| {
            let Replica { name, version, impaired, time } = replica.clone();
            let sender = Sender { name, id: id.clone() };
            ReplicaInfo::new(Heartbeat { sender, version, impaired, seen: 0 }, left(now, time))
        };
        self.starts.iter().map(info).collect()
    }

    pub(crate) fn watch(&mut self, now: u64) {
        self.watched_until = now.saturating_add(Self::WATCH);
    }

    fn forget_silent(&mut self, now: u64) {
        let forget = micros(Roster::FORGET);
        self.starts.retain(|_, replica| now.abs_diff(replica.time) <= forget);
        self.watched_until = self.watched_until.min(now.saturating_add(Self::WATCH));
    }
}
