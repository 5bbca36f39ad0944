//! Consecutive failures, and when they were.

/// Failures after the last success, in the order of their times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Streak(Vec<Entry>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Entry {
    time: u64,
    number: u64,
}

impl Streak {
    const MAX_ENTRIES: usize = 64;

    pub(super) fn add(&mut self, time: u64, number: u64) {
        let at = self.0.partition_point(|entry| entry.time <= time);
        match at.checked_sub(1).map(|before| &mut self.0[before]) {
            _ if number == 0 => {}
            Some(entry) if entry.time == time => {
                entry.number = entry.number.saturating_add(number);
            }
            _ => self.0.insert(at, Entry { time, number }),
        }
        if self.0.len() > Self::MAX_ENTRIES {
            // At the older of both times: a success between them then ends both, so that the
            // streak is never longer than it was.
            self.0[1] = Entry {
                time: self.0[0].time,
                number: self.0[0].number.saturating_add(self.0[1].number),
            };
            self.0.remove(0);
        }
    }

    /// Drops the failures up to a moment.
    pub(super) fn end(&mut self, at: Option<u64>) {
        self.0.retain(|entry| Some(entry.time) > at);
    }

    /// Cuts times that are still to come, because the clock went back.
    pub(super) fn cut(&mut self, now: u64) {
        let future = self.0.partition_point(|entry| entry.time <= now);
        for entry in self.0.split_off(future) {
            self.add(now, entry.number);
        }
    }

    /// Returns how many failures there were after one moment and up to another one.
    pub(super) fn total(&self, after: Option<u64>, until: u64) -> u64 {
        let counts = |entry: &&Entry| Some(entry.time) > after && entry.time <= until;
        self.0.iter().filter(counts).fold(0, |sum, entry| sum.saturating_add(entry.number))
    }
}
