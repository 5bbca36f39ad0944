//! What all clones of a service share, and what they know.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle as Runtime;
use tokio::sync::watch;
use tokio::time::timeout;

use super::operator::Authoriser;
use super::said::Replicas;
use super::samples::{self, Samples};
use super::seats::Seats;
use super::tasks::Tasks;
use super::views::{Viewed, Views};
use super::wire::{self, Circuit, Overview, Replica};
use super::{of_store, of_view};
use crate::backend::{Backend, BackendError, list, read};
use crate::clock;
use crate::event::BackendStatus;
use crate::machine::State;
use crate::name::CircuitName;
use crate::store::{ReplicaCircuits, Store};
use crate::timestamp::Timestamp;

/// The most circuits of one message.
pub(super) const MOST_CIRCUITS: usize = 1_000;

/// The most replicas that are shown of each circuit where there are many circuits, and where there
/// is one.
const SAID_OF_MANY: usize = 16;
const SAID_OF_ONE: usize = 256;

/// The longest time that a backend has for one answer, and for the list of all circuits.
const ANSWER: Duration = Duration::from_secs(1);
const LIST: Duration = Duration::from_secs(5);

/// Where the circuits come from.
#[derive(Clone)]
pub(super) enum Source {
    Store(Store),
    Backend(Arc<dyn Backend>),
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) title: String,
    pub(super) connections: usize,
    pub(super) authoriser: Option<Authoriser>,
}

/// What all clones of a service share. Its tasks hold it weakly, and end with it.
pub(super) struct Shared {
    pub(super) source: Source,
    pub(super) settings: Settings,
    pub(super) seats: Seats,
    samples: Mutex<Samples>,
    /// The number of the last sample.
    sampled: watch::Sender<u64>,
    said: Mutex<Replicas>,
    roster: Mutex<Roster>,
    views: Mutex<Views>,
    /// One reader at a time.
    reading: tokio::sync::Mutex<()>,
    pub(super) tasks: Tasks,
}

#[derive(Default)]
struct Roster {
    replicas: Vec<Replica>,
    read: Option<Timestamp>,
}

impl Shared {
    pub(super) fn new(source: Source, settings: Settings) -> Self {
        Self {
            source,
            seats: Seats::new(settings.connections),
            settings,
            samples: Mutex::default(),
            sampled: watch::Sender::new(0),
            said: Mutex::default(),
            roster: Mutex::default(),
            views: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            tasks: Tasks::default(),
        }
    }

    pub(super) fn store(&self) -> Option<&Store> {
        match &self.source {
            Source::Store(store) => Some(store),
            Source::Backend(_) => None,
        }
    }

    /// Returns everything, with the samples.
    pub(super) async fn overview(&self) -> Overview {
        // One after the other: the list shows whether the backend answers.
        self.refresh(ANSWER).await;
        let replicas = self.replicas().await.unwrap_or_else(|_| self.known_replicas());
        let (mut circuits, omitted) = self.circuits();
        for circuit in &mut circuits {
            self.add_samples(circuit);
        }
        Overview {
            title: self.settings.title.clone(),
            version: env!("CARGO_PKG_VERSION"),
            source: if self.store().is_some() { "store" } else { "backend" },
            replica: self.store().and_then(Store::replica).map(str::to_owned),
            writable: self.settings.authoriser.is_some(),
            backend: self.backend(),
            sample_ms: wire::millis(samples::LENGTH),
            circuits,
            omitted,
            replicas,
        }
    }

    /// Returns the circuits that are listed, without samples, and how many are not.
    pub(super) fn circuits(&self) -> (Vec<Circuit>, usize) {
        match &self.source {
            Source::Store(store) => {
                let (listed, omitted) = of_store::listed(store, MOST_CIRCUITS);
                let read = listed.iter().map(|circuit| {
                    let said = |state| self.said(circuit.name().as_str(), state, SAID_OF_MANY);
                    of_store::circuit(store, circuit, said)
                });
                (read.collect(), omitted)
            }
            Source::Backend(_) => {
                let views: Vec<_> = {
                    let views = self.views();
                    let views = views.iter().map(|(name, viewed)| (name.clone(), viewed.by_now()));
                    views.filter(|(_, viewed)| !viewed.view.is_plain()).collect()
                };
                let show = |(name, view): &_| self.view(name, view, SAID_OF_MANY);
                let mut circuits: Vec<_> = views.iter().map(show).collect();
                circuits.sort_by_key(|circuit| (!circuit.rejects, circuit.state == State::Closed));
                let omitted = circuits.len().saturating_sub(MOST_CIRCUITS);
                circuits.truncate(MOST_CIRCUITS);
                (circuits, omitted)
            }
        }
    }

    /// Returns a circuit that is listed, without samples.
    pub(super) fn listed(&self, name: &str) -> Option<Circuit> {
        match &self.source {
            Source::Store(store) => {
                let circuit = store.get(name)?;
                let listed = !circuit.is_keyed() || circuit.state() != State::Closed;
                let said = |state| self.said(name, state, SAID_OF_MANY);
                listed.then(|| of_store::circuit(store, &circuit, said))
            }
            Source::Backend(_) => {
                let viewed = self.views().get(name).map(Viewed::by_now)?;
                if viewed.view.is_plain() {
                    return None;
                }
                let name = CircuitName::new(name.to_owned()).ok()?;
                Some(self.view(&name, &viewed, SAID_OF_MANY))
            }
        }
    }

    /// Returns one circuit, with all that is known of it.
    ///
    /// # Errors
    ///
    /// If the source is a backend that does not answer.
    pub(super) async fn circuit(
        &self,
        name: &CircuitName,
    ) -> Result<Option<Circuit>, BackendError> {
        let shown = match &self.source {
            Source::Store(store) => store.get(name.as_str()).map(|circuit| {
                let said = |state| self.said(name.as_str(), state, SAID_OF_ONE);
                of_store::circuit(store, &circuit, said)
            }),
            Source::Backend(backend) => {
                let viewed = Viewed::new(within(ANSWER, read(&**backend, name)).await?);
                let mut circuit = self.view(name, &viewed, SAID_OF_ONE);
                if circuit.since_ms.is_none() {
                    circuit.since_ms = since(&**backend, name, circuit.state).await;
                }
                Some(circuit)
            }
        };
        Ok(shown.map(|mut circuit| {
            self.add_samples(&mut circuit);
            circuit
        }))
    }

    pub(super) fn view(&self, name: &CircuitName, viewed: &Viewed, most: usize) -> Circuit {
        let said = self.said(name.as_str(), viewed.view.shown_state(), most);
        let mut circuit = of_view::circuit(name, viewed, said);
        if circuit.since_ms.is_none() {
            let since = lock(&self.said).since(name.as_str(), circuit.generation);
            circuit.since_ms = since.map(wire::millis);
        }
        circuit
    }

    /// Returns the status of the backend.
    pub(super) fn backend(&self) -> BackendStatus {
        match &self.source {
            Source::Store(store) => store.backend(),
            Source::Backend(_) => self.views().status().clone(),
        }
    }

    fn said(&self, name: &str, state: State, most: usize) -> (Vec<wire::Said>, usize) {
        lock(&self.said).of(name, state, most)
    }

    /// Remembers what a replica says, and returns the circuits whose state has changed on it.
    pub(super) fn say(&self, replica: ReplicaCircuits) -> Vec<String> {
        lock(&self.said).say(replica)
    }

    fn add_samples(&self, circuit: &mut Circuit) {
        circuit.samples = match &self.source {
            Source::Store(_) => {
                wire::Samples::Known(lock(&self.samples).of(&circuit.name).unwrap_or_default())
            }
            Source::Backend(_) => wire::Samples::Unknown,
        };
    }
}

/// # What it knows of the cluster
impl Shared {
    /// Returns the replicas, which were read within the last seconds.
    ///
    /// # Errors
    ///
    /// If the backend does not answer.
    pub(super) async fn replicas(&self) -> Result<Vec<Replica>, BackendError> {
        let age = lock(&self.roster).read.map(|at| clock::now().since(at));
        if age.is_some_and(|age| age < ANSWER) {
            return Ok(self.known_replicas());
        }
        let infos = match &self.source {
            // Without a runtime there is no backend.
            Source::Store(store) if Runtime::try_current().is_ok() => store.replicas().await?,
            Source::Store(_) => Vec::new(),
            Source::Backend(backend) => within(ANSWER, backend.replicas()).await?,
        };
        let mut replicas: Vec<_> = infos.into_iter().map(Replica::of).collect();
        replicas.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        let read = Some(clock::now());
        *lock(&self.roster) = Roster { replicas: replicas.clone(), read };
        Ok(replicas)
    }

    /// Returns the replicas as they were read last. While the backend does not answer, they are
    /// silent as far as this process knows.
    fn known_replicas(&self) -> Vec<Replica> {
        let roster = lock(&self.roster);
        let age = roster.read.map(|at| clock::now().since(at)).unwrap_or_default();
        roster.replicas.iter().map(|replica| replica.after(age)).collect()
    }

    /// Reads all circuits of the backend, unless they were read within the last `age`. What has
    /// moved waits for the hub. Without effect if the source is a store.
    pub(super) async fn refresh(&self, age: Duration) {
        let Source::Backend(backend) = &self.source else { return };
        let _one = self.reading.lock().await;
        if self.views().age().is_some_and(|known| known < age) {
            return;
        }
        let asked = clock::now();
        let listing = within(LIST, list(&**backend)).await;
        let impairments = backend.impairments();
        self.views().replace(listing, impairments, asked);
    }

    pub(super) fn views(&self) -> MutexGuard<'_, Views> {
        lock(&self.views)
    }
}

/// Returns how long ago a circuit moved to its state, if its history has that.
async fn since(backend: &dyn Backend, name: &CircuitName, state: State) -> Option<u64> {
    let history = within(ANSWER, backend.history(name)).await.ok()??;
    let last = history.last().filter(|last| last.transition.to == state)?;
    Some(wire::millis(last.ago))
}

/// Waits for an answer no longer than this.
pub(super) async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, BackendError> {
    if Runtime::try_current().is_err() {
        return Err(BackendError::unavailable("there is no tokio runtime to wait in"));
    }
    let late = || BackendError::unavailable(format!("no answer within {limit:?}"));
    timeout(limit, answer).await.unwrap_or_else(|_| Err(late()))
}

/// # Samples
impl Shared {
    /// Samples the circuits of a store.
    pub(super) fn sample(&self) {
        let Some(store) = self.store() else { return };
        let (listed, _) = store.listed();
        // Before the lock.
        let totals: Vec<_> = listed
            .iter()
            .map(|circuit| (circuit.name().clone(), circuit.is_keyed(), circuit.totals()))
            .collect();
        lock(&self.samples).take(totals);
        self.sampled.send_modify(|number| *number += 1);
    }

    /// Returns a receiver that changes with each sample.
    pub(super) fn sampled(&self) -> watch::Receiver<u64> {
        self.sampled.subscribe()
    }

    pub(super) fn last_samples(&self) -> Vec<(CircuitName, wire::Sample)> {
        lock(&self.samples).last()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = if self.store().is_some() { "store" } else { "backend" };
        f.debug_struct("Shared")
            .field("source", &source)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
