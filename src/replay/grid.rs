//! Policies around one.

use std::time::Duration;

use crate::policy::{Policy, PolicyBuilder};

/// Returns the policies around `base` that are worth a try: each combination of its thresholds and
/// its open interval, halved, as they are, and doubled. `base` comes first.
///
/// These settings vary, where the policy has them: consecutive failures, the failure rate, the
/// slow-call rate (these two up to 1), and the open interval. There are at most 81 policies, and
/// all of them work.
///
/// ```
/// use tower_breaker::Policy;
/// use tower_breaker::replay::{Replay, grid};
///
/// let trace = r#"{"at": 1, "took": 0.1, "outcome": "success"}"#;
/// let replayed = Replay::all(grid(&Policy::default())).read(trace.as_bytes())?;
/// assert_eq!(replayed.policies.len(), 27);
/// assert_eq!(replayed.ranked(1.0)[0].policy, Policy::default());
/// # Ok::<(), tower_breaker::replay::ReplayError>(())
/// ```
#[must_use]
pub fn grid(base: &Policy) -> Vec<Policy> {
    let mut policies = vec![base.clone()];
    let steps = [Step::Same, Step::Half, Step::Double];
    let of = |set: bool| if set { &steps[..] } else { &steps[..1] };
    for &streak in of(base.consecutive_failures().is_some()) {
        for &rate in of(base.failure_rate().is_some()) {
            for &slow in of(base.slow_call_rate().is_some()) {
                for &open in &steps {
                    let builder = vary(base, [streak, rate, slow, open]);
                    if let Ok(policy) = builder.build()
                        && !policies.contains(&policy)
                    {
                        policies.push(policy);
                    }
                }
            }
        }
    }
    policies
}

#[derive(Clone, Copy)]
enum Step {
    Same,
    Half,
    Double,
}

impl Step {
    fn number(self, n: u64) -> u64 {
        match self {
            Self::Same => n,
            Self::Half => n.div_ceil(2),
            Self::Double => n.saturating_mul(2),
        }
    }

    fn rate(self, rate: f64) -> f64 {
        match self {
            Self::Same => rate,
            Self::Half => rate / 2.0,
            // Half of the way to 1, where twice as much would be above.
            Self::Double if rate * 2.0 >= 1.0 => f64::midpoint(rate, 1.0),
            Self::Double => rate * 2.0,
        }
    }

    fn time(self, time: Duration) -> Duration {
        match self {
            Self::Same => time,
            Self::Half => time / 2,
            Self::Double => time.saturating_mul(2),
        }
    }
}

fn vary(base: &Policy, [streak, rate, slow, open]: [Step; 4]) -> PolicyBuilder {
    let mut builder = base.to_builder().open_for(open.time(base.open_for()));
    if let Some(failures) = base.consecutive_failures() {
        builder = builder.consecutive_failures(streak.number(failures));
    }
    if let Some(failures) = base.failure_rate() {
        builder = builder.failure_rate(rate.rate(failures));
    }
    if let Some(calls) = base.slow_call_rate() {
        builder = builder.slow_call_rate(slow.rate(calls));
    }
    builder
}
