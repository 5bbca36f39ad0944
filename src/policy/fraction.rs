//! Numbers as people write them, and as the rules decide with them: in parts per million.

use std::fmt;

use super::settings::Policy;

/// One whole.
pub(crate) const WHOLE: u32 = 1_000_000;

/// The numbers of a policy that is being built, as they were given and not yet checked.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    pub(super) failure_rate: Option<f64>,
    pub(super) slow_call_rate: Option<f64>,
    pub(super) multiplier: f64,
    pub(super) jitter: f64,
}

impl Numbers {
    pub(super) fn of(policy: &Policy) -> Self {
        Self {
            failure_rate: policy.failure_rate.map(rate),
            slow_call_rate: policy.slow_call_rate.map(rate),
            multiplier: number(policy.multiplier),
            jitter: rate(policy.jitter),
        }
    }

    /// Converts the numbers to parts per million and stores them in a policy.
    pub(super) fn put(&self, policy: &mut Policy) {
        policy.failure_rate = self.failure_rate.map(rate_parts);
        policy.slow_call_rate = self.slow_call_rate.map(rate_parts);
        policy.multiplier = parts(self.multiplier);
        policy.jitter = share_parts(self.jitter);
    }
}

/// Converts parts to a fraction.
pub(super) fn rate(parts: u32) -> f64 {
    f64::from(parts) / f64::from(WHOLE)
}

/// Converts parts to a number.
#[expect(clippy::cast_precision_loss, reason = "for people; the rules decide in integers")]
pub(super) fn number(parts: u64) -> f64 {
    parts as f64 / f64::from(WHOLE)
}

/// Converts a rate to parts. A rate above zero stays above zero: at zero parts, every call would
/// meet it.
fn rate_parts(rate: f64) -> u32 {
    share_parts(rate).max(1)
}

fn share_parts(share: f64) -> u32 {
    u32::try_from(parts(share)).unwrap_or(WHOLE).min(WHOLE)
}

/// Converts a number to parts, rounded down, so that 2 of 3 calls are at a rate of 2.0 / 3.0. A
/// small amount is added first, because many decimals have no exact binary form.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and what is not a number is zero"
)]
fn parts(number: f64) -> u64 {
    number.mul_add(f64::from(WHOLE), 0.001) as u64
}

/// Writes parts as a percentage: `50 %`, `33.3333 %`.
pub(super) struct Percent(pub(super) u32);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = f64::from(self.0) / 10_000.0;
        write!(f, "{percent} %")
    }
}
