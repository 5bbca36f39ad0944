//! The word in front of the machine: what may be done without the lock.
//!
//! ```text
//!  epoch (48 bits) │ flags (13 bits) │ state (3 bits)
//! ```

use crate::machine::State;

/// A state, flags, and the epoch at which they were published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    /// No call passes before the horizon.
    pub(super) const REJECT: u64 = 1 << 3;
    /// Calls are timed.
    pub(super) const TIMED: u64 = 1 << 4;
    /// A success needs no lock.
    pub(super) const QUIET: u64 = 1 << 5;
    /// A quiet success needs the lock from the horizon on.
    pub(super) const CLOCK: u64 = 1 << 6;
    /// The next failure is described.
    pub(super) const DESCRIBE: u64 = 1 << 7;
    /// Calls are timed by the coarse clock.
    pub(super) const COARSE: u64 = 1 << 8;
    /// A cancelled call leaves nothing.
    pub(super) const FORGET: u64 = 1 << 9;
    /// A cancelled call that was not slow is counted in its stripe's run.
    pub(super) const RUN: u64 = 1 << 10;
    /// The machine has a run of cancelled calls, which a completed one ends.
    pub(super) const PENDING: u64 = 1 << 11;
    /// Calls pass only for a time: each admission takes the lock, to look at the clock.
    pub(super) const LOOK: u64 = 1 << 12;

    /// Every result is traced, so none is quiet.
    pub(super) const TRACED: u64 = 1 << 13;
    /// Some calls are measured: how long they take.
    pub(super) const SAMPLED: u64 = 1 << 14;
    /// A quiet success is evidence: it is counted in its stripe's tally.
    pub(super) const COUNT: u64 = 1 << 15;

    const FLAG_BITS: u32 = 16;
    const STATE: u64 = 0b111;
    /// In place of a state: that of the cluster is not known yet. No call passes without a look.
    const UNKNOWN: u64 = 7;

    pub(super) const fn new(epoch: u64, state: State, flags: u64) -> Self {
        Self(epoch << Self::FLAG_BITS | flags | code(state))
    }

    pub(super) const fn unknown(epoch: u64) -> Self {
        Self(epoch << Self::FLAG_BITS | Self::UNKNOWN)
    }

    pub(super) const fn epoch(self) -> u64 {
        self.0 >> Self::FLAG_BITS
    }

    /// Returns whether this is the word of a cut: a thread holds the lock and is about to publish.
    pub(super) const fn in_cut(self) -> bool {
        self.epoch() % 2 == 1
    }

    pub(super) const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    /// Returns the word of a cut that starts from this one: the same, but no success is quiet.
    pub(super) const fn cut(self) -> Self {
        Self((self.0 + (1 << Self::FLAG_BITS)) & !Self::QUIET)
    }

    pub(super) const fn passes_all(self) -> bool {
        self.0 & (Self::STATE | Self::LOOK) < code(State::Open)
    }

    pub(super) const fn state(self) -> State {
        match self.0 & Self::STATE {
            0 | Self::UNKNOWN => State::Closed,
            1 => State::ForcedClosed,
            2 => State::Disabled,
            3 => State::MetricsOnly,
            4 => State::Open,
            5 => State::HalfOpen,
            _ => State::ForcedOpen,
        }
    }
}

/// The states in which all calls pass come first.
const fn code(state: State) -> u64 {
    match state {
        State::Closed => 0,
        State::ForcedClosed => 1,
        State::Disabled => 2,
        State::MetricsOnly => 3,
        State::Open => 4,
        State::HalfOpen => 5,
        State::ForcedOpen => 6,
    }
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_word_gives_back_what_went_in() {
        let states = [
            State::Closed,
            State::ForcedClosed,
            State::Disabled,
            State::MetricsOnly,
            State::Open,
            State::HalfOpen,
            State::ForcedOpen,
        ];
        for state in states {
            let word = Word::new(7, state, Word::QUIET | Word::REJECT);
            assert_eq!(word.state(), state);
            assert_eq!(word.passes_all(), state.passes_all());
            assert_eq!(word.epoch(), 7);
            assert!(word.has(Word::QUIET) && word.has(Word::REJECT) && !word.has(Word::CLOCK));
            assert_eq!(word.cut(), Word::new(8, state, Word::REJECT));
        }
    }
}
