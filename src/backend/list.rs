//! Reads circuits for programs that have no store.

use std::collections::BTreeMap;

use super::{Backend, BackendError, Batch, Cursor, Group, Sender, View};
use crate::name::CircuitName;

/// The circuits that [`list`] has read. A circuit whose record cannot be read has the error.
pub type Listing = BTreeMap<CircuitName, Result<View, BackendError>>;

/// More answers than this have no end: each has some hundred circuits.
const MOST_ANSWERS: usize = 10_000;

/// Reads the circuits of all groups that are not plainly closed, for programs that use a backend
/// without a store. It changes nothing, and the reader does not count as a replica.
///
/// A healthy circuit has no record. So what is not listed is closed, or does not exist.
///
/// ```
/// # #[cfg(feature = "test-util")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_breaker::CircuitName;
/// use tower_breaker::backend::{Backend, MemoryBackend, OverrideChange, list};
/// use tower_breaker::overrides::Override;
///
/// let backend = MemoryBackend::new();
/// let payments = CircuitName::new("payments")?;
/// let maintenance = Override::force_open("their maintenance");
/// backend.set_override(&payments, &OverrideChange::Set(maintenance.into())).await?;
///
/// let circuits = list(&backend).await?;
/// assert!(circuits[&payments].is_ok());
/// # Ok(()) }
/// # #[cfg(not(feature = "test-util"))]
/// # fn main() {}
/// ```
///
/// # Errors
///
/// Returns the error of the first group that cannot be read.
///
/// # Cost
///
/// One command for each [`Group`], one after the other, and more for groups with hundreds of
/// circuits.
pub async fn list(backend: &dyn Backend) -> Result<Listing, BackendError> {
    let mut all = Listing::new();
    for group in Group::all() {
        let mut of_group = Listing::new();
        let mut since = Cursor::default();
        for answers in 0.. {
            if answers == MOST_ANSWERS {
                let number = group.number();
                let problem = format!("group {number} of circuits has no end of changes");
                return Err(BackendError::refused(problem));
            }
            let changes = backend.sync(group, &batch(since, Vec::new())).await?;
            if changes.restarted {
                of_group.clear();
            }
            for (name, view) in changes.views {
                // It may have been listed before it became plain.
                if view.is_plain() {
                    of_group.remove(&name);
                } else {
                    of_group.insert(name, Ok(view));
                }
            }
            of_group.extend(changes.refused.into_iter().map(|(name, error)| (name, Err(error))));
            since = changes.cursor;
            if !changes.more {
                break;
            }
        }
        all.append(&mut of_group);
    }
    Ok(all)
}

/// Reads one circuit, as [`list`] does. One without a record is closed.
///
/// # Errors
///
/// Returns an error if the record cannot be read, or if the backend does not answer.
pub async fn read(backend: &dyn Backend, circuit: &CircuitName) -> Result<View, BackendError> {
    let batch = batch(Cursor::default(), vec![circuit.clone()]);
    let changes = backend.sync(Group::of(circuit), &batch).await?;
    if let Some((_, error)) = changes.refused.into_iter().find(|(name, _)| name == circuit) {
        return Err(error);
    }
    let found = changes.views.into_iter().find(|(name, _)| name == circuit);
    Ok(found.map(|(_, view)| view).unwrap_or_default())
}

/// A batch without reports, which changes nothing.
fn batch(since: Cursor, circuits: Vec<CircuitName>) -> Batch {
    let id = format!("reader-{}", std::process::id());
    let sender = Sender { name: "reader".to_owned(), id };
    Batch { sender, seq: 1, since, seen: 0, reports: Vec::new(), circuits }
}
