//! The calls of a trace, as starts and ends in the order of time.
//!
//! A trace has its calls in the order in which they ended, and circuits decide when calls start. So
//! a call is held back until no later line can have started before it. What a call may have taken
//! for that is bounded, and so is the memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::calls::Ending;
use crate::timestamp::{Timestamp, nanos};

/// How far times may go back: threads that write one log overtake each other.
pub(super) const SLACK: Duration = Duration::from_secs(1);

/// The most calls that are held back. 48 bytes each.
const MOST_HELD: usize = 2_000_000;

/// A call of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    start: Timestamp,
    /// The order where times are equal: that of the trace.
    number: u64,
    end: Timestamp,
    circuit: u32,
    ending: u8,
}

/// A call that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Running {
    end: Timestamp,
    number: u64,
    start: Timestamp,
    circuit: u32,
    /// What the consumer remembers of it.
    slot: u32,
    ending: u8,
}

/// What is done with starts and ends.
pub(super) trait Consumer {
    /// A call starts. Returns a number to remember it by.
    fn start(&mut self, circuit: u32, at: Timestamp, ending: Ending) -> u32;

    /// The call with this number ends.
    fn end(&mut self, circuit: u32, slot: u32, times: (Timestamp, Timestamp), ending: Ending);
}

pub(super) struct Timeline {
    longest: Duration,
    newest: Timestamp,
    /// No call can start before it any more.
    released: Timestamp,
    calls: u64,
    late: u64,
    held: BinaryHeap<Reverse<Held>>,
    running: BinaryHeap<Reverse<Running>>,
}

impl Timeline {
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            longest,
            newest: Timestamp::default(),
            released: Timestamp::default(),
            calls: 0,
            late: 0,
            held: BinaryHeap::new(),
            running: BinaryHeap::new(),
        }
    }

    /// How many calls there were.
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    /// How many calls started too long before they ended.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// When the last call ended.
    pub(super) fn newest(&self) -> Timestamp {
        self.newest
    }

    /// Adds a call. Returns how far its time goes back, if that is too far.
    pub(super) fn add(
        &mut self,
        circuit: u32,
        (mut start, end): (Timestamp, Timestamp),
        ending: Ending,
        consumer: &mut impl Consumer,
    ) -> Result<(), Duration> {
        let back = self.newest.since(end);
        if back > SLACK {
            return Err(back);
        }
        self.newest = self.newest.max(end);
        if start < self.released {
            self.late += 1;
            start = self.released;
        }
        let (number, ending) = (self.calls, ending as u8);
        self.calls += 1;
        let end = end.max(start);
        self.held.push(Reverse(Held { start, number, end, circuit, ending }));
        let back = nanos(self.longest).saturating_add(nanos(SLACK));
        let safe = Timestamp::from_nanos(self.newest.as_nanos().saturating_sub(back));
        while let Some(Reverse(first)) = self.held.peek()
            && (first.start < safe || self.held.len() > MOST_HELD)
        {
            self.release(consumer);
        }
        Ok(())
    }

    /// Lets all calls start and end.
    pub(super) fn finish(&mut self, consumer: &mut impl Consumer) {
        while !self.held.is_empty() {
            self.release(consumer);
        }
        self.end_until(Timestamp::NEVER, consumer);
    }

    fn release(&mut self, consumer: &mut impl Consumer) {
        let Some(Reverse(Held { start, number, end, circuit, ending })) = self.held.pop() else {
            return;
        };
        self.released = start;
        self.end_until(start, consumer);
        let slot = consumer.start(circuit, start, Ending::ALL[usize::from(ending)]);
        self.running.push(Reverse(Running { end, number, start, circuit, slot, ending }));
    }

    /// A call that ends when another one starts ends first.
    fn end_until(&mut self, until: Timestamp, consumer: &mut impl Consumer) {
        while let Some(Reverse(first)) = self.running.peek()
            && first.end <= until
        {
            let Running { end, start, circuit, slot, ending, .. } = *first;
            self.running.pop();
            consumer.end(circuit, slot, (start, end), Ending::ALL[usize::from(ending)]);
        }
    }
}
