//! A count window: a ring of bits.

use super::mark::{Mark, Sums};

/// The last `size` results, at two bits each.
#[derive(Clone, Debug)]
pub(super) struct CountWindow {
    size: u64,
    /// The position of the next result: that of the oldest, once the window is full.
    next: u64,
    failed: Box<[u64]>,
    slow: Box<[u64]>,
    sums: Sums,
}

impl CountWindow {
    pub(super) fn new(size: u64) -> Self {
        let words = vec![0; index(size.div_ceil(64))];
        Self {
            size,
            next: 0,
            failed: words.clone().into(),
            slow: words.into(),
            sums: Sums::default(),
        }
    }

    pub(super) fn push(&mut self, mark: Mark) {
        let position = self.next;
        self.successes(1);
        let (word, bit) = (index(position / 64), 1 << (position % 64));
        if mark.failed {
            self.failed[word] |= bit;
            self.sums.failures += 1;
        }
        if mark.slow {
            self.slow[word] |= bit;
            self.sums.slow += 1;
        }
    }

    /// Overwrites the `n` oldest results with successes, a word at a time.
    pub(super) fn successes(&mut self, n: u64) {
        let mut left = n.min(self.size);
        while left > 0 {
            let offset = self.next % 64;
            let run = left.min(64 - offset).min(self.size - self.next);
            let mask = (u64::MAX >> (64 - run)) << offset;
            let word = index(self.next / 64);
            self.sums.failures -= clear(&mut self.failed[word], mask);
            self.sums.slow -= clear(&mut self.slow[word], mask);
            self.next = (self.next + run) % self.size;
            left -= run;
        }
        self.sums.calls = self.size.min(self.sums.calls.saturating_add(n));
    }

    pub(super) fn sums(&self) -> Sums {
        self.sums
    }
}

/// Clears the bits of `mask`, and returns how many were set.
fn clear(word: &mut u64, mask: u64) -> u64 {
    let set = (*word & mask).count_ones();
    *word &= !mask;
    u64::from(set)
}

#[expect(clippy::cast_possible_truncation, reason = "a policy bounds the window at a million")]
fn index(n: u64) -> usize {
    n as usize
}
