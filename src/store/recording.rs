//! Records the calls of a store.

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, Weak};

use super::registry::Registry;
use super::store::Store;
use crate::circuit::{Circuit, Tracer};
use crate::clock;
use crate::replay::{Recorded, Recorder, Tape, Writing};

impl Store {
    /// Records every call of every circuit of this store, as a trace for a
    /// [`Replay`](crate::replay::Replay), until the returned value is dropped or stopped.
    ///
    /// The trace has the calls that were made. For the calls that a circuit rejects there is
    /// nothing to record; to see what a policy would do to all calls, record while the circuits are
    /// in [`MetricsOnly`](crate::State::MetricsOnly). Names of circuits are in the trace; nothing
    /// else of a call is.
    ///
    /// ```
    /// use std::fs::File;
    /// use tower_breaker::Store;
    /// use tower_breaker::replay::Recorder;
    ///
    /// let store = Store::in_memory();
    /// # let path = std::env::temp_dir().join(format!("trace-{}.jsonl", std::process::id()));
    /// let recording = store.record(Recorder::new(File::create(&path)?).max_bytes(100_000_000))?;
    /// // … calls are made …
    /// let recorded = recording.stop();
    /// assert_eq!(recorded.dropped, 0);
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the store is being recorded already, or if no thread can be started.
    ///
    /// # Cost
    ///
    /// Nothing while no recording runs. During a recording each result takes the lock of its
    /// circuit twice, and one message is sent.
    pub fn record(&self, recorder: Recorder) -> io::Result<Recording> {
        let mut slot = self.registry.recording();
        if slot.is_some() {
            let problem = "the store is being recorded already: stop that recording first";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
        }
        let registry = Arc::downgrade(&self.registry);
        let ended = registry.clone();
        let off = move |tape: &Arc<Tape>| {
            if let Some(registry) = ended.upgrade() {
                registry.end_recording(tape);
            }
        };
        let (tape, thread) = recorder.start(clock::now(), off)?;
        *slot = Some(tape.clone());
        drop(slot);
        self.registry.trace_all();
        Ok(Recording { registry, tape, thread: Some(thread) })
    }
}

impl Registry {
    /// Has the circuit record its results, if the store is being recorded. Never call it under a
    /// lock: observers may be called.
    pub(super) fn trace(&self, circuit: &Circuit) {
        loop {
            let tape = self.recording().clone();
            let tracer = |tape: Arc<Tape>| -> Tracer {
                let name = circuit.name().clone();
                Arc::new(move |traced| tape.take(&name, traced))
            };
            circuit.set_tracer(tape.clone().map(tracer));
            // A recording may have begun or ended meanwhile: repeat until the two agree.
            if self.recording().as_ref().map(Arc::as_ptr) == tape.as_ref().map(Arc::as_ptr) {
                return;
            }
        }
    }

    pub(super) fn is_recorded(&self) -> bool {
        self.recording().is_some()
    }

    fn trace_all(&self) {
        let circuits: Vec<_> = self.circuits.iter().map(|entry| entry.circuit.clone()).collect();
        for circuit in circuits {
            self.trace(&circuit);
        }
    }

    fn end_recording(&self, tape: &Arc<Tape>) {
        let mut slot = self.recording();
        if !slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, tape)) {
            return;
        }
        *slot = None;
        drop(slot);
        self.trace_all();
    }

    fn recording(&self) -> std::sync::MutexGuard<'_, Option<Arc<Tape>>> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A recording that runs. [`Store::record`] returns it.
///
/// If it is dropped, the recording ends, and its thread writes what waits in the queue.
#[must_use = "the recording ends when this is dropped"]
pub struct Recording {
    registry: Weak<Registry>,
    tape: Arc<Tape>,
    thread: Option<Writing>,
}

impl Recording {
    /// Returns what was recorded so far. A recording that reached its largest size, or whose writer
    /// failed, has ended by itself.
    #[must_use]
    pub fn recorded(&self) -> Recorded {
        self.tape.recorded()
    }

    /// Ends the recording, waits until everything is written and flushed, and returns what was
    /// recorded. It blocks for as long as the writer does: in async code, call it in
    /// `spawn_blocking`.
    #[must_use = "it says whether calls are missing"]
    pub fn stop(mut self) -> Recorded {
        self.end();
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
        self.tape.recorded()
    }

    fn end(&self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.end_recording(&self.tape);
        }
        self.tape.end();
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("recorded", &self.recorded()).finish_non_exhaustive()
    }
}
