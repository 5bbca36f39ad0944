//! Server-sent events, written once for all connections.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::clock;
use crate::timestamp::Timestamp;

/// What is kept for connections that have not read it. One that is further behind is ended.
const MOST_FRAMES: usize = 2_048;
const MOST_BYTES: usize = 4 << 20;

/// How many transitions are kept for connections that come back.
const MOST_TRANSITIONS: usize = 256;

/// Connections that come within this time begin with the same overview.
const RECENT: Duration = Duration::from_millis(250);

/// The frames of the last moments, for all connections.
#[derive(Debug)]
pub(super) struct Log {
    /// Names this log in the ids of its events.
    boot: String,
    kept: Mutex<Kept>,
    recent: Mutex<Option<Recent>>,
    head: watch::Receiver<u64>,
}

#[derive(Debug)]
struct Kept {
    /// The number of the first frame that is kept.
    first: u64,
    frames: VecDeque<Bytes>,
    bytes: usize,
    transitions: VecDeque<(u64, Bytes)>,
    /// The last transition that is kept no more.
    forgotten: u64,
}

impl Kept {
    fn next(&self) -> u64 {
        self.first + self.frames.len() as u64
    }
}

/// An overview, for the connections that come within a moment.
#[derive(Clone, Debug)]
struct Recent {
    frame: Bytes,
    next: u64,
    at: Timestamp,
}

/// A frame, for a connection that has read all frames before it.
#[derive(Debug)]
pub(super) enum Read {
    Frame(Bytes),
    NotYet,
    /// It is kept no more.
    TooLate,
}

/// Writes a log. When it is dropped, the connections that read the log end.
#[derive(Debug)]
pub(super) struct Writer {
    log: Arc<Log>,
    head: watch::Sender<u64>,
}

impl Log {
    pub(super) fn new() -> (Arc<Self>, Writer) {
        let (head, receiver) = watch::channel(0);
        let kept = Kept {
            first: 1,
            frames: VecDeque::new(),
            bytes: 0,
            transitions: VecDeque::new(),
            forgotten: 0,
        };
        let boot = format!("{:016x}", fastrand::u64(..));
        let log = Arc::new(Self {
            boot,
            kept: Mutex::new(kept),
            recent: Mutex::default(),
            head: receiver,
        });
        (log.clone(), Writer { log, head })
    }

    /// Returns the number of the frame that comes next.
    pub(super) fn next(&self) -> u64 {
        self.kept().next()
    }

    pub(super) fn read(&self, number: u64) -> Read {
        let kept = self.kept();
        let Some(at) = number.checked_sub(kept.first) else { return Read::TooLate };
        let frame = usize::try_from(at).ok().and_then(|at| kept.frames.get(at));
        frame.cloned().map_or(Read::NotYet, Read::Frame)
    }

    /// Returns the transitions between the event with this id and the frame `before`. None, if the
    /// id is of another log, or if too much has happened since.
    pub(super) fn missed(&self, last_id: &str, before: u64) -> Vec<Bytes> {
        let last = last_id.strip_prefix(self.boot.as_str()).and_then(|id| id.strip_prefix('-'));
        let Some(last) = last.and_then(|last| last.parse::<u64>().ok()) else { return Vec::new() };
        let kept = self.kept();
        if kept.forgotten > last {
            return Vec::new();
        }
        let missed = kept.transitions.iter().filter(|(at, _)| (last + 1..before).contains(at));
        missed.map(|(_, frame)| frame.clone()).collect()
    }

    /// Returns an overview from within the last moment, and the number of the frame that comes
    /// after it.
    pub(super) fn overview(&self) -> Option<(Bytes, u64)> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let age = clock::now().since(recent.at);
        (age < RECENT).then_some((recent.frame, recent.next))
    }

    /// Writes an overview that was made when `next` was the number of the next frame, for this
    /// connection and for those that come within a moment.
    pub(super) fn write_overview(&self, data: &[u8], next: u64) -> Bytes {
        let frame = frame("overview", data, &self.boot, next.saturating_sub(1));
        let recent = Recent { frame: frame.clone(), next, at: clock::now() };
        *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = Some(recent);
        frame
    }

    /// Returns a receiver of the number of the last frame.
    pub(super) fn head(&self) -> watch::Receiver<u64> {
        self.head.clone()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Returns the number of the first frame that is kept.
    pub(super) fn first(&self) -> u64 {
        self.log.kept().first
    }

    /// Returns the number of the frame that comes next.
    pub(super) fn next(&self) -> u64 {
        self.log.next()
    }

    pub(super) fn event(&self, event: &str, data: &[u8]) {
        self.push(|number| frame(event, data, &self.log.boot, number), false);
    }

    /// An event that is sent again to a connection that comes back.
    pub(super) fn transition(&self, data: &[u8]) {
        self.push(|number| frame("transition", data, &self.log.boot, number), true);
    }

    /// A comment, so that proxies do not close a connection on which nothing happens, and a dead
    /// peer is noticed.
    pub(super) fn ping(&self) {
        self.push(|_| Bytes::from_static(b": ping\n\n"), false);
    }

    fn push(&self, frame: impl FnOnce(u64) -> Bytes, is_transition: bool) {
        let mut kept = self.log.kept();
        let number = kept.next();
        let frame = frame(number);
        if is_transition {
            kept.transitions.push_back((number, frame.clone()));
            if kept.transitions.len() > MOST_TRANSITIONS {
                kept.forgotten = kept.transitions.pop_front().map_or(0, |(at, _)| at);
            }
        }
        kept.bytes += frame.len();
        kept.frames.push_back(frame);
        // The last one stays, however large.
        while kept.frames.len() > 1 && (kept.frames.len() > MOST_FRAMES || kept.bytes > MOST_BYTES)
        {
            kept.bytes -= kept.frames.pop_front().map_or(0, |frame| frame.len());
            kept.first += 1;
        }
        drop(kept);
        // It wakes connections, whose wakers are user code: not under the lock.
        self.head.send_replace(number);
    }
}

/// JSON has no line breaks outside of its texts, and escapes them inside. So data is one line.
fn frame(event: &str, data: &[u8], boot: &str, number: u64) -> Bytes {
    let head = format!("event: {event}\nid: {boot}-{number}\ndata: ");
    [head.as_bytes(), data, b"\n\n"].concat().into()
}
