//! What the circuit, its keeper, and the ledger's messenger say to each other.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::sleep;

use super::{FAILURES, Replica};
use crate::backend::{BackendError, View};
use crate::circuit::{Circuit, Held, Link, Unclaimed, Wait};
use crate::clock;
use crate::name::CircuitName;
use crate::timestamp::Timestamp;

/// More views than this in a keeper's inbox, and it loads the circuit instead.
const INBOX: usize = 16;

/// A lease that comes after the deadline is waited for, so that it can be given back; so long.
const LATE: Duration = Duration::from_secs(1);

/// Who was not granted a lease, and not told when to come back, asks again after so long.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// How often a request for a lease is sent: again where it was not answered, or where the ledger has
/// moved on.
const TRIES: u32 = 3;

/// One circuit of a replica.
pub(in crate::store) struct Peer {
    me: Weak<Self>,
    pub(super) replica: Arc<Replica>,
    pub(super) name: CircuitName,
    /// The keeper has something to do.
    pub(super) woken: Notify,
    pub(super) known: watch::Sender<bool>,
    /// When the circuit was made: its first callers wait to know the ledger's state.
    made: Timestamp,
    inbox: Mutex<Vec<View>>,
    load: AtomicBool,
    let_go: AtomicBool,
    /// The keeper's operations without an answer, one after the other.
    failures: AtomicU32,
    /// Requests for leases without an answer, one after the other. Apart, as a ledger may be read that
    /// cannot be written.
    unleased: AtomicU32,
    /// Why leases are not to be had, although the ledger answers.
    trouble: Mutex<Option<BackendError>>,
}

impl Peer {
    pub(super) fn new(replica: Arc<Replica>, name: CircuitName) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            replica,
            name,
            woken: Notify::new(),
            known: watch::Sender::new(false),
            made: clock::now(),
            inbox: Mutex::default(),
            load: AtomicBool::new(false),
            let_go: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            unleased: AtomicU32::new(0),
            trouble: Mutex::default(),
        })
    }

    /// Counts operations of the keeper that were not answered, one after the other.
    pub(super) fn count<T>(&self, answer: &Result<T, BackendError>) {
        count(&self.failures, answer);
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Why leases are not to be had, although the ledger answers.
    pub(super) fn trouble(&self) -> Option<BackendError> {
        self.troubled().clone()
    }

    /// The ledger may be read, but it does not give leases: the circuit is to decide alone, from this
    /// call on.
    fn cannot_lease(&self, circuit: &Circuit, error: BackendError) {
        *self.troubled() = Some(error);
        circuit.detach();
        self.woken.notify_one();
    }

    pub(super) fn end_trouble(&self) {
        self.unleased.store(0, Ordering::Relaxed);
        *self.troubled() = None;
    }

    fn troubled(&self) -> MutexGuard<'_, Option<BackendError>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the store has forgotten the circuit.
    pub(in crate::store) fn let_go(&self) {
        self.let_go.store(true, Ordering::Relaxed);
        self.woken.notify_one();
    }

    pub(super) fn is_let_go(&self) -> bool {
        self.let_go.load(Ordering::Relaxed)
    }

    /// Puts down a view that the ledger has told unasked.
    pub(super) fn hear(&self, view: View) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        if inbox.len() < INBOX {
            inbox.push(view);
        } else {
            self.load.store(true, Ordering::Relaxed);
        }
        drop(inbox);
        self.woken.notify_one();
    }

    pub(super) fn heard(&self) -> Vec<View> {
        std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Something may have been missed.
    pub(super) fn load_again(&self) {
        self.load.store(true, Ordering::Relaxed);
        self.woken.notify_one();
    }

    /// The same, when the keeper looks next.
    pub(super) fn load_later(&self) {
        self.load.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_to_load(&self) -> bool {
        self.load.swap(false, Ordering::Relaxed)
    }
}

impl Link for Peer {
    fn wake(&self) {
        self.woken.notify_one();
    }

    fn known(&self) -> Wait<()> {
        let mut known = self.known.subscribe();
        Box::pin(async move {
            // Without a keeper there is nobody to wait for.
            let _ = known.wait_for(|known| *known).await;
        })
    }

    fn ask(&self, circuit: Circuit, unclaimed: Unclaimed) -> Wait<Option<Held>> {
        let (tell, hears) = oneshot::channel();
        if let Some(peer) = self.me.upgrade()
            && let Some(generation) = circuit.begin_asking()
        {
            // Who has waited for the ledger's state does not wait as long again for a lease.
            let waited = clock::now().since(self.made);
            let patience = self.replica.settings.deadline;
            let patience =
                patience.checked_sub(waited).filter(|p| !p.is_zero()).unwrap_or(patience);
            let asking = Asking { peer, circuit, generation, unclaimed, patience };
            self.replica.runtime.spawn(asking.run(tell));
        }
        Box::pin(async { hears.await.ok().flatten() })
    }
}

/// A request for a probe's lease. There is one at a time for each circuit.
struct Asking {
    peer: Arc<Peer>,
    circuit: Circuit,
    generation: u64,
    unclaimed: Unclaimed,
    patience: Duration,
}

/// What came of it.
enum Said {
    Granted(Option<Held>),
    /// There is none, and the circuit knows when it is of use to ask again.
    Refused,
    Nothing,
}

impl Asking {
    async fn run(mut self, tell: oneshot::Sender<Option<Held>>) {
        let patience = self.patience;
        let mut tell = Some(tell);
        let mut answer = |held| {
            // If nobody waits any more, what is sent back to us is dropped, and so given back.
            let _ = tell.take().map(|tell| tell.send(held));
        };
        let mut lease = std::pin::pin!(self.lease());
        let said = tokio::select! {
            biased;
            said = &mut lease => said,
            () = sleep(patience) => {
                answer(None);
                // A lease that comes late is given back at once.
                lease.await
            }
        };
        match said {
            Said::Granted(held) => answer(held),
            Said::Refused => answer(None),
            Said::Nothing => {
                answer(None);
                // Still asking, as far as others can see: they would not fare better at once.
                sleep(ASK_AGAIN).await;
            }
        }
    }

    async fn lease(&mut self) -> Said {
        let Self { peer, circuit, unclaimed, .. } = self;
        let nonce = fastrand::u64(1..);
        let asked = clock::now();
        for _ in 0..TRIES {
            if peer.replica.is_degraded() {
                return Said::Nothing;
            }
            let backend = &peer.replica.backend;
            let answer = backend.acquire_probe(circuit.name(), self.generation, nonce);
            let answer = peer.replica.heed(answer, LATE).await;
            count(&peer.unleased, &answer);
            let (lease, view) = match answer {
                Ok(answer) => answer,
                // It may have been granted, and only the answer be lost: the same nonce has the same
                // lease.
                Err(error) if error.is_unavailable() => {
                    if peer.unleased.load(Ordering::Relaxed) >= FAILURES {
                        peer.cannot_lease(circuit, error);
                    }
                    continue;
                }
                Err(error) => {
                    peer.cannot_lease(circuit, error);
                    return Said::Nothing;
                }
            };
            if let Some(lease) = lease {
                return Said::Granted(circuit.give(lease, &view, *unclaimed, asked));
            }
            let (known, heard) = circuit.refused(&view);
            if known == self.generation {
                return if heard { Said::Refused } else { Said::Nothing };
            }
            // The ledger had moved on; perhaps to where there is a place.
            self.generation = known;
        }
        Said::Nothing
    }
}

fn count<T>(failures: &AtomicU32, answer: &Result<T, BackendError>) {
    if answer.as_ref().is_err_and(BackendError::is_unavailable) {
        failures.fetch_add(1, Ordering::Relaxed);
    } else {
        failures.store(0, Ordering::Relaxed);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.circuit.end_asking();
    }
}
