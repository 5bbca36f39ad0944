//! A circuit that a backend shares: its reducer, behind the engine's lock.

use std::sync::Arc;

use super::link::Link;
use crate::machine::Mark;
use crate::sync::{Agenda, CircuitSync, Class};
use crate::timestamp::Timestamp;

/// The reducer, and whom to wake.
pub(super) struct Synced {
    pub(super) sync: CircuitSync,
    link: Arc<dyn Link>,
    /// What the link was woken for since it last looked.
    signalled: Signal,
    wake: bool,
}

/// How soon the link must look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Signal {
    #[default]
    None,
    Successes,
    Failures,
    Now,
}

impl Synced {
    pub(super) fn new(sync: CircuitSync, link: Arc<dyn Link>) -> Self {
        Self { sync, link, signalled: Signal::None, wake: false }
    }

    pub(super) fn link(&self) -> &Arc<dyn Link> {
        &self.link
    }

    /// The link, if it is to be woken.
    pub(super) fn ring(&mut self) -> Option<Arc<dyn Link>> {
        std::mem::take(&mut self.wake).then(|| self.link.clone())
    }

    pub(super) fn signal(&mut self, signal: Signal) {
        self.wake |= signal > self.signalled || signal == Signal::Now;
        self.signalled = self.signalled.max(signal);
    }

    pub(super) fn successes(&mut self, n: u64, at: Timestamp) {
        self.sync.successes(n, at);
        self.succeeded();
    }

    pub(super) fn record(&mut self, mark: Mark, now: Timestamp) {
        self.sync.record(mark, now);
        if mark.failed || mark.slow {
            self.signal(Signal::Failures);
        } else {
            self.succeeded();
        }
    }

    pub(super) fn set_alarmed(&mut self, alarmed: bool, streak: u64) {
        if self.sync.set_alarmed(alarmed, streak) {
            self.signal(Signal::Now);
        }
    }

    fn succeeded(&mut self) {
        if self.sync.ends_known_streak() {
            self.signal(Signal::Failures);
        } else if self.sync.reports_successes() {
            self.signal(Signal::Successes);
        }
    }

    pub(super) fn looked(&mut self, agenda: &Agenda) {
        self.wake = false;
        self.signalled = match agenda.report {
            Some((Class::Failures, _)) => Signal::Failures,
            Some((Class::Successes, _)) => Signal::Successes,
            _ => Signal::None,
        };
    }
}
