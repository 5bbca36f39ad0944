//! What is known of the cluster: a reducer of what the backend answers and publishes.
//!
//! Times are those since the program began. What a backend says is as old as its arrival.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tower_breaker::backend::{ReplicaInfo, View};
use tower_breaker::event::HistoryEntry;
use tower_breaker::store::{CircuitSummary, ReplicaCircuits};
use tower_breaker::{CircuitName, State};

use crate::view;

/// A replica that publishes does so about once a second.
const SILENT: Duration = Duration::from_secs(6);

/// For so long after a change a replica may publish what was before.
const LAG: Duration = Duration::from_secs(3);

/// The most replicas whose circuits are kept: whatever a user of Redis publishes.
const MOST_PUBLISHERS: usize = 500;

/// Whether the backend answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Nothing was read yet.
    Reading,
    Connected,
    /// It has not answered since then.
    Away {
        since: Duration,
        error: String,
    },
}

/// A circuit that is not plainly closed, or why its record cannot be read.
#[derive(Debug)]
pub(crate) struct Known {
    circuit: Result<View, String>,
    at: Duration,
    /// When its state became another one, as far as this program saw it.
    changed: Duration,
}

/// What a replica published last.
#[derive(Debug)]
struct Publisher {
    name: String,
    at: Duration,
    circuits: BTreeMap<String, CircuitSummary>,
}

/// A circuit as one replica describes it.
#[derive(Debug)]
pub(crate) struct Said<'a> {
    pub(crate) replica: &'a str,
    pub(crate) summary: &'a CircuitSummary,
    /// How long its state has lasted.
    pub(crate) since: Duration,
    /// It is in another state than the circuit is.
    pub(crate) disagrees: bool,
}

/// What is known of a circuit's past.
#[derive(Debug)]
struct Past {
    /// The generation and the version of the override after which it was asked for.
    of: (u64, u64),
    asked: Duration,
    answer: Option<(Duration, Result<Vec<HistoryEntry>, String>)>,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) link: Link,
    /// When the backend answered last. `None`: the circuits were never read.
    pub(crate) answered: Option<Duration>,
    /// When it began to answer. Replicas publish again some time after it.
    resumed: Duration,
    circuits: BTreeMap<String, Known>,
    publishers: BTreeMap<String, Publisher>,
    replicas: Vec<ReplicaInfo>,
    pasts: HashMap<String, Past>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self {
            link: Link::Reading,
            answered: None,
            resumed: Duration::ZERO,
            circuits: BTreeMap::new(),
            publishers: BTreeMap::new(),
            replicas: Vec::new(),
            pasts: HashMap::new(),
        }
    }

    pub(crate) fn away(&mut self, error: String, now: Duration) {
        let since = match self.link {
            Link::Away { since, .. } => since,
            Link::Reading | Link::Connected => now,
        };
        self.link = Link::Away { since, error };
    }

    fn is_here(&mut self, now: Duration) {
        if self.link != Link::Connected {
            self.link = Link::Connected;
            self.resumed = now;
        }
        self.answered = Some(now);
    }

    /// All circuits that are not plain.
    pub(crate) fn listed(&mut self, circuits: Vec<(String, Result<View, String>)>, now: Duration) {
        self.is_here(now);
        let mut before = std::mem::take(&mut self.circuits);
        for (name, circuit) in circuits {
            let before = before.remove(&name);
            self.know(name, circuit, before, now);
        }
        self.forget();
    }

    /// A circuit changed. What is older than what is known changes nothing.
    pub(crate) fn changed(&mut self, name: String, view: View, now: Duration) {
        let before = self.circuits.remove(&name);
        if let Some(Known { circuit: Ok(known), .. }) = &before
            && rank(known) > rank(&view)
        {
            self.circuits.extend(before.map(|known| (name, known)));
        } else if !view.is_plain() {
            self.know(name, Ok(view), before, now);
        }
    }

    fn know(
        &mut self,
        name: String,
        circuit: Result<View, String>,
        before: Option<Known>,
        now: Duration,
    ) {
        let generation = |known: &Result<View, String>| known.as_ref().ok().map(generations);
        let changed = before.filter(|known| generation(&known.circuit) == generation(&circuit));
        let changed = changed.map_or(now, |known| known.changed);
        self.circuits.insert(name, Known { circuit, at: now, changed });
    }

    pub(crate) fn published(&mut self, said: ReplicaCircuits, now: Duration) {
        let ReplicaCircuits { name, id, circuits, .. } = said;
        if self.publishers.len() >= MOST_PUBLISHERS && !self.publishers.contains_key(&id) {
            return;
        }
        let circuits = circuits.into_iter().map(|circuit| (circuit.name.clone(), circuit));
        self.publishers.insert(id, Publisher { name, at: now, circuits: circuits.collect() });
    }

    pub(crate) fn replicas_are(&mut self, mut replicas: Vec<ReplicaInfo>, now: Duration) {
        // The list of circuits is read again before anything else: only that ends `Reading`.
        if self.link == Link::Connected {
            self.is_here(now);
        }
        replicas.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        self.replicas = replicas;
    }

    pub(crate) fn replicas(&self) -> &[ReplicaInfo] {
        &self.replicas
    }

    /// Time passes: replicas that publish no more are forgotten, unless nothing arrives at all.
    pub(crate) fn tick(&mut self, now: Duration) {
        if self.link == Link::Connected {
            let since = self.resumed;
            self.publishers.retain(|_, said| now.saturating_sub(said.at.max(since)) < SILENT);
        }
    }

    /// The names of all circuits.
    pub(crate) fn names(&self) -> Vec<&str> {
        let published = self.publishers.values().flat_map(|publisher| publisher.circuits.keys());
        let mut names: Vec<_> = self.circuits.keys().chain(published).map(|n| &**n).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// A circuit as the backend describes it by now. One without a record is closed.
    pub(crate) fn view(&self, name: &str, now: Duration) -> Result<View, &str> {
        match self.circuits.get(name) {
            Some(Known { circuit: Ok(view), at, .. }) => {
                Ok(view::aged(view, now.saturating_sub(*at)))
            }
            Some(Known { circuit: Err(error), .. }) => Err(error),
            None => Ok(View::default()),
        }
    }

    /// What replicas say of a circuit; those that disagree first.
    pub(crate) fn said(&self, name: &str, state: State, now: Duration) -> Vec<Said<'_>> {
        let settled =
            self.circuits.get(name).is_none_or(|known| now.saturating_sub(known.changed) > LAG);
        let said = self.publishers.values().filter_map(|publisher| {
            let summary = publisher.circuits.get(name)?;
            let since = summary.since.saturating_add(now.saturating_sub(publisher.at));
            // A replica that follows the record needs a moment for it.
            let late = settled && since > LAG;
            let disagrees = summary.state != state && (summary.detached || late);
            Some(Said { replica: &publisher.name, summary, since, disagrees })
        });
        let mut said: Vec<_> = said.collect();
        said.sort_by_key(|said| (!said.disagrees, said.replica));
        said
    }

    /// The last transitions of a circuit, the newest last, and how much older they are by now.
    pub(crate) fn past(
        &self,
        name: &str,
        now: Duration,
    ) -> Option<(Duration, Result<&[HistoryEntry], &str>)> {
        let (at, answer) = self.pasts.get(name)?.answer.as_ref()?;
        Some((now.saturating_sub(*at), answer.as_deref().map_err(|error| &**error)))
    }

    /// How long the state has lasted, if that is known: from the history, or from what replicas say.
    pub(crate) fn since(&self, name: &str, said: &[Said<'_>], now: Duration) -> Option<Duration> {
        let view = self.view(name, now).ok()?;
        let (generation, version) = self.generations(name);
        let began = if view.overridden.record.is_some() { version } else { generation };
        if let Some((older, Ok(entries))) = self.past(name, now)
            && let Some(entry) = entries.iter().rev().find(|e| e.transition.generation == began)
        {
            return Some(entry.ago.saturating_add(older));
        }
        let state = view.shown_state();
        let same = said.iter().filter(|said| said.summary.state == state);
        same.map(|said| said.since).max()
    }

    fn generations(&self, name: &str) -> (u64, u64) {
        if let Some(known) = self.circuits.get(name) {
            return known.circuit.as_ref().map_or((0, 0), generations);
        }
        let each = self.publishers.values().filter_map(|publisher| publisher.circuits.get(name));
        (each.map(|summary| summary.generation).max().unwrap_or_default(), 0)
    }

    /// Whether the past of a circuit is to be read: it was not since its last change. Then it is
    /// asked for.
    pub(crate) fn ask_past(&mut self, name: &CircuitName, now: Duration) -> bool {
        /// When what failed is tried again.
        const AGAIN: Duration = Duration::from_secs(5);

        let of = self.generations(name.as_str());
        let current = self.pasts.get(name.as_str()).is_some_and(|past| {
            let known = matches!(past.answer, Some((_, Ok(_)))) && past.of == of;
            known || now.saturating_sub(past.asked) < AGAIN && (past.of == of || past.waits())
        });
        if !current {
            let before = self.pasts.remove(name.as_str()).and_then(|past| past.answer);
            let past = Past { of, asked: now, answer: before };
            self.pasts.insert(name.as_str().to_owned(), past);
        }
        !current
    }

    pub(crate) fn past_is(
        &mut self,
        name: &str,
        entries: Result<Vec<HistoryEntry>, String>,
        now: Duration,
    ) {
        if let Some(past) = self.pasts.get_mut(name) {
            past.answer = Some((now, entries));
        }
    }

    /// Forgets the past of circuits that are plain, when there is much of it.
    fn forget(&mut self) {
        const MOST: usize = 300;

        if self.pasts.len() > MOST {
            self.pasts.retain(|name, _| self.circuits.contains_key(name));
        }
    }
}

impl Past {
    /// Whether the last answer came before the last question.
    fn waits(&self) -> bool {
        self.answer.as_ref().is_none_or(|(at, _)| *at < self.asked)
    }
}

fn generations(view: &View) -> (u64, u64) {
    (view.generation, view.overridden.version)
}

fn rank(view: &View) -> (u64, u64, u64) {
    (view.overridden.version, view.generation, view.revision)
}
