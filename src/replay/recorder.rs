//! Writes a trace.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::calls::Ending;
use crate::circuit::Traced;
use crate::name::CircuitName;
use crate::outcome::Outcome;
use crate::timestamp::Timestamp;

const DEFAULT_BYTES: u64 = 256 * 1024 * 1024;
const DEFAULT_QUEUE: usize = 65_536;
const MOST_QUEUED: usize = 1 << 22;

/// Where a trace is written, and how much of it. [`Store::record`](crate::Store::record) takes one.
///
/// A thread writes the trace, so a slow writer delays no call: results wait in a queue, and what
/// finds it full is dropped and [counted](Recorded::dropped).
#[must_use = "a recorder does nothing until a store records with it"]
pub struct Recorder {
    writer: Box<dyn Write + Send>,
    max_bytes: u64,
    queue: usize,
}

impl Recorder {
    /// Returns a recorder that writes to `writer`, for example a file. It is buffered, and flushed
    /// whenever the queue is empty.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self { writer: Box::new(writer), max_bytes: DEFAULT_BYTES, queue: DEFAULT_QUEUE }
    }

    /// Sets the largest size of the trace, in bytes. Default: 256 MiB, which is about three million
    /// calls. When the next line would exceed it, the recording ends.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets how many results may wait to be written. Default: 65,536, at 64 bytes each. The range
    /// is 1 to 4,194,304; a value outside it is clamped.
    pub fn queue(mut self, results: usize) -> Self {
        self.queue = results.clamp(1, MOST_QUEUED);
        self
    }

    /// Starts the thread that writes. It calls `off` when it ends by itself.
    pub(crate) fn start(
        self,
        zero: Timestamp,
        off: impl FnOnce(&Arc<Tape>) + Send + 'static,
    ) -> io::Result<(Arc<Tape>, Writing)> {
        let (sender, results) = sync_channel(self.queue);
        let tape = Arc::new(Tape {
            sender,
            zero,
            ended: AtomicBool::new(false),
            full: AtomicBool::new(false),
            written: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            untimed: AtomicU64::new(0),
            error: Mutex::default(),
        });
        let shared = tape.clone();
        let thread = thread::Builder::new().name("tower-breaker-trace".to_owned());
        let thread = thread.spawn(move || {
            // Also after a panic of the writer.
            let ends = Ends { tape: shared, off: Some(off) };
            let written = ends.tape.write(&results, self.writer, self.max_bytes);
            if let Err(error) = written {
                *ends.tape.error() = Some(error.to_string());
            }
        })?;
        Ok((tape, Writing(thread)))
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("max_bytes", &self.max_bytes)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

struct Ends<F: FnOnce(&Arc<Tape>)> {
    tape: Arc<Tape>,
    off: Option<F>,
}

impl<F: FnOnce(&Arc<Tape>)> Drop for Ends<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            *self.tape.error() = Some("the writer panicked".to_owned());
        }
        self.tape.ended.store(true, Ordering::Release);
        if let Some(off) = self.off.take() {
            off(&self.tape);
        }
    }
}

/// The thread that writes.
pub(crate) struct Writing(JoinHandle<()>);

impl Writing {
    /// Waits until everything is written.
    pub(crate) fn join(self) {
        // What it panicked with is in the tape.
        let _ = self.0.join();
    }
}

/// A recording, as circuits and their store see it.
pub(crate) struct Tape {
    sender: SyncSender<Message>,
    /// The time zero of the trace.
    zero: Timestamp,
    /// Nothing more is taken.
    ended: AtomicBool,
    full: AtomicBool,
    written: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    untimed: AtomicU64,
    error: Mutex<Option<String>>,
}

enum Message {
    Call { circuit: CircuitName, at: Duration, took: Duration, ending: Ending },
    End,
}

impl Tape {
    /// Takes a result. Never blocks.
    pub(crate) fn take(&self, circuit: &CircuitName, traced: Traced) {
        if self.ended.load(Ordering::Acquire) {
            return;
        }
        let Some(took) = traced.took else {
            self.untimed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let (circuit, at) = (circuit.clone(), traced.at.since(self.zero));
        let call = Message::Call { circuit, at, took, ending: ending(traced.outcome) };
        match self.sender.try_send(call) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Takes nothing more. The thread writes what it has, and ends.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        // Where the queue is full the thread is awake, and looks at `ended` when it is empty.
        let _ = self.sender.try_send(Message::End);
    }

    pub(crate) fn recorded(&self) -> Recorded {
        Recorded {
            written: self.written.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            untimed: self.untimed.load(Ordering::Relaxed),
            full: self.full.load(Ordering::Relaxed),
            ended: self.ended.load(Ordering::Acquire),
            error: self.error().clone(),
        }
    }

    fn error(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(
        &self,
        results: &Receiver<Message>,
        writer: Box<dyn Write + Send>,
        most: u64,
    ) -> io::Result<()> {
        let mut writer = BufWriter::new(writer);
        let mut line = String::new();
        loop {
            let message = match results.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Empty) if self.ended.load(Ordering::Acquire) => Message::End,
                Err(TryRecvError::Disconnected) => Message::End,
                Err(TryRecvError::Empty) => {
                    writer.flush()?;
                    results.recv().unwrap_or(Message::End)
                }
            };
            let Message::Call { circuit, at, took, ending } = message else {
                return writer.flush();
            };
            line.clear();
            put(&mut line, &circuit, (at, took), ending)?;
            let bytes = self.bytes.load(Ordering::Relaxed) + line.len() as u64;
            if bytes > most {
                self.full.store(true, Ordering::Relaxed);
                return writer.flush();
            }
            writer.write_all(line.as_bytes())?;
            self.bytes.store(bytes, Ordering::Relaxed);
            self.written.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn ending(outcome: Option<Outcome>) -> Ending {
    match outcome {
        Some(Outcome::Success) => Ending::Success,
        Some(Outcome::Failure { .. }) => Ending::Failure,
        Some(Outcome::Ignored) => Ending::Ignored,
        None => Ending::Cancelled,
    }
}

/// Writes a line of a trace.
fn put(
    line: &mut String,
    circuit: &CircuitName,
    (at, took): (Duration, Duration),
    ending: Ending,
) -> io::Result<()> {
    use fmt::Write;

    let name = serde_json::to_string(circuit.as_str())?;
    let (at, at_nanos) = (at.as_secs(), at.subsec_nanos());
    let (took, took_nanos) = (took.as_secs(), took.subsec_nanos());
    let outcome = ending.as_str();
    writeln!(
        line,
        r#"{{"at":{at}.{at_nanos:09},"took":{took}.{took_nanos:09},"outcome":"{outcome}","circuit":{name}}}"#
    )
    .map_err(io::Error::other)
}

/// What a recording has written so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// How many calls were written.
    pub written: u64,
    /// How many bytes those are.
    pub bytes: u64,
    /// How many calls were dropped because the queue was full.
    pub dropped: u64,
    /// How many calls were left out because it is not known when they began: before the recording,
    /// or as probes of a half-open round that was over when they ended.
    pub untimed: u64,
    /// Whether the recording ended because the trace reached its
    /// [largest size](Recorder::max_bytes).
    pub full: bool,
    /// Whether the recording has ended.
    pub ended: bool,
    /// The error of the writer, which ended the recording.
    pub error: Option<String>,
}
