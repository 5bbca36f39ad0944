//! What has happened to a circuit in this process.

use std::collections::VecDeque;

use super::stripes::Width;
use crate::machine::{HistoryEntry, Transition};
use crate::timestamp::Timestamp;

/// How many transitions are kept of a circuit of a key: there may be thousands of these circuits.
const MOST_OF_A_KEY: usize = 8;

/// The last transitions of a circuit in this process.
#[derive(Debug, Default)]
pub(super) struct Past {
    noted: VecDeque<(Timestamp, Transition)>,
    is_of_a_key: bool,
}

impl Past {
    pub(super) fn new(width: Width) -> Self {
        Self { noted: VecDeque::new(), is_of_a_key: width == Width::One }
    }

    pub(super) fn note(&mut self, transition: &Transition, now: Timestamp) {
        let most = if self.is_of_a_key { MOST_OF_A_KEY } else { HistoryEntry::MOST };
        if self.noted.len() >= most {
            self.noted.pop_front();
        }
        self.noted.push_back((now, transition.clone()));
    }

    pub(super) fn entries(&self, now: Timestamp) -> Vec<HistoryEntry> {
        self.noted.iter().map(|noted| entry(noted, now)).collect()
    }

    #[cfg(feature = "admin")]
    pub(super) fn last(&self, now: Timestamp) -> Option<HistoryEntry> {
        self.noted.back().map(|noted| entry(noted, now))
    }
}

fn entry((at, transition): &(Timestamp, Transition), now: Timestamp) -> HistoryEntry {
    HistoryEntry::new(now.since(*at), transition.clone())
}
