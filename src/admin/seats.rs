//! How many connections read events at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The connections that read events.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    taken: Mutex<Vec<Weak<Seat>>>,
}

/// A connection's permission to read events.
#[derive(Debug)]
pub(super) struct Seat {
    over: AtomicBool,
    /// The frame that it reads next.
    next: AtomicU64,
}

impl Seats {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Mutex::default() }
    }

    /// Returns a seat, if one is free. It is free again when it is dropped or ended.
    pub(super) fn take(&self) -> Option<Arc<Seat>> {
        let mut taken = self.taken();
        taken.retain(is_taken);
        (taken.len() < self.most).then(|| {
            // No frame has this number: it is behind once it has begun to read.
            let seat =
                Arc::new(Seat { over: AtomicBool::new(false), next: AtomicU64::new(u64::MAX) });
            taken.push(Arc::downgrade(&seat));
            seat
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.taken().iter().any(is_taken)
    }

    /// Ends the connections whose next frame is before this one. A peer that does not read holds no
    /// seat for long, even if its server never asks for the next frame.
    pub(super) fn end_those_behind(&self, first: u64) {
        for seat in self.taken().iter().filter_map(Weak::upgrade) {
            if seat.next.load(Ordering::Relaxed) < first {
                seat.end();
            }
        }
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Weak<Seat>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_taken(seat: &Weak<Seat>) -> bool {
    seat.upgrade().is_some_and(|seat| !seat.is_over())
}

impl Seat {
    pub(super) fn reads(&self, next: u64) {
        self.next.store(next, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}
