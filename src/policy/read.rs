//! Reading a policy: getters, and one line for logs.

use std::fmt;
use std::time::Duration;

use super::fraction::{Percent, WHOLE, number, rate};
use super::settings::{Cancelled, Policy};
use super::window::Window;

impl Policy {
    /// Returns how many consecutive failures open the circuit, or `None` if this condition is off.
    #[must_use]
    pub fn consecutive_failures(&self) -> Option<u64> {
        self.consecutive_failures
    }

    /// Returns the failure rate that opens the circuit, from 0 to 1, or `None` if this condition is
    /// off.
    #[must_use]
    pub fn failure_rate(&self) -> Option<f64> {
        self.failure_rate.map(rate)
    }

    /// Returns how many failures in the window open the circuit, or `None` if this condition is
    /// off.
    #[must_use]
    pub fn failure_count(&self) -> Option<u64> {
        self.failure_count
    }

    /// Returns the slow-call rate that opens the circuit, from 0 to 1, or `None` if this condition
    /// is off.
    #[must_use]
    pub fn slow_call_rate(&self) -> Option<f64> {
        self.slow_call_rate.map(rate)
    }

    /// Returns the duration above which a call is slow, or `None` if no call is.
    #[must_use]
    pub fn slow_call_duration(&self) -> Option<Duration> {
        self.slow_call_duration
    }

    /// Returns how many calls the window must hold before rates are judged. A count window that
    /// holds fewer must be full.
    #[must_use]
    pub fn minimum_calls(&self) -> u64 {
        self.minimum_calls
    }

    /// Returns the window over which rates and counts are taken.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    /// Returns the first open interval, before jitter.
    #[must_use]
    pub fn open_for(&self) -> Duration {
        self.open_for
    }

    /// Returns the factor by which each open interval is longer than the one before, while probes
    /// fail.
    #[must_use]
    pub fn backoff(&self) -> f64 {
        number(self.multiplier)
    }

    /// Returns the longest open interval, before jitter.
    #[must_use]
    pub fn longest_open_for(&self) -> Duration {
        self.longest
    }

    /// Returns the largest fraction by which jitter lengthens an open interval, from 0 to 1.
    #[must_use]
    pub fn jitter(&self) -> f64 {
        rate(self.jitter)
    }

    /// Returns how many probes may run at once.
    #[must_use]
    pub fn probes(&self) -> u64 {
        self.probes
    }

    /// Returns how many consecutive probes must succeed before the circuit closes.
    #[must_use]
    pub fn successes_to_close(&self) -> u64 {
        self.successes_to_close
    }

    /// Returns how long a probe may take before it counts as failed.
    #[must_use]
    pub fn probe_lease(&self) -> Duration {
        self.probe_lease
    }

    /// Returns what a cancelled call counts as.
    #[must_use]
    pub fn cancelled(&self) -> Cancelled {
        self.cancelled
    }

    /// Returns how many replicas must have seen the failures before the whole cluster opens.
    #[must_use]
    pub fn quorum(&self) -> u64 {
        self.quorum
    }

    fn conditions(&self) -> Vec<String> {
        let mut conditions = Vec::new();
        if let Some(failures) = self.consecutive_failures {
            conditions.push(format!("after {}", counted(failures, "consecutive failure")));
        }
        let minimum = self.enough_calls();
        let (of, within) = match self.window {
            Window::Count { calls } => {
                let within = format!("in the last {}", counted(calls, "call"));
                (format!("at least {minimum} of the last {}", counted(calls, "call")), within)
            }
            Window::Time { length, .. } => {
                let within = format!("in {length:?}");
                (format!("at least {} {within}", counted(minimum, "call")), within)
            }
            Window::None => return conditions,
        };
        if let Some(rate) = self.failure_rate {
            conditions.push(format!("at a failure rate of {} of {of}", Percent(rate)));
        }
        if let Some(failures) = self.failure_count {
            conditions.push(format!("after {} {within}", counted(failures, "failure")));
        }
        if let (Some(rate), Some(limit)) = (self.slow_call_rate, self.slow_call_duration) {
            let rate = Percent(rate);
            conditions.push(format!("at a slow-call rate (over {limit:?}) of {rate} of {of}"));
        }
        conditions
    }
}

impl fmt::Display for Policy {
    /// Writes one line for people. The text may change between versions; programs should use the
    /// getters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "opens {}", self.conditions().join(", or "))?;
        write!(f, "; open for {:?}", self.open_for)?;
        if self.multiplier > u64::from(WHOLE) {
            write!(f, ", times {} up to {:?}", self.backoff(), self.longest)?;
        } else if self.longest > self.open_for {
            write!(f, ", up to {:?} if the upstream asks for it", self.longest)?;
        }
        if self.jitter > 0 {
            write!(f, ", jitter {}", Percent(self.jitter))?;
        }
        write!(f, "; {} at once", counted(self.probes, "probe"))?;
        let successes = if self.successes_to_close == 1 { "success" } else { "successes" };
        write!(f, ", {} {successes} to close", self.successes_to_close)?;
        write!(f, ", probe lease {:?}", self.probe_lease)?;
        if self.slow_call_rate.is_none()
            && let Some(limit) = self.slow_call_duration
        {
            write!(f, "; a call is slow after {limit:?}")?;
        }
        match self.cancelled {
            Cancelled::FailureIfSlow => {}
            Cancelled::Failure => f.write_str("; a cancelled call is a failure")?,
            Cancelled::Ignored => f.write_str("; cancelled calls are ignored")?,
        }
        if self.quorum > 1 {
            write!(f, "; a quorum of {} replicas", self.quorum)?;
        }
        Ok(())
    }
}

fn counted(n: u64, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}
