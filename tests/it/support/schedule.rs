//! What a seed stands for: how the cluster is set up, and which faults it meets.

use std::time::Duration;

use tower_breaker::Policy;
use tower_breaker::policy::{Cancelled, PolicyBuilder};

use super::network::Plan;
use super::order::Proof;
use super::{ms, s};

#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    /// There are no faults but delays: what opens the circuit must be true.
    pub(crate) is_honest: bool,
    /// The upstream is up all the time, but for failures in the background.
    pub(crate) is_healthy: bool,
    pub(crate) replicas: usize,
    /// Callers of each replica, each with one call at a time.
    pub(crate) callers: u64,
    /// The longest pause between two calls of one caller, in milliseconds.
    pub(crate) pause: u64,
    /// How many of a thousand calls do not wait for a permit.
    pub(crate) at_once: u32,
    /// How many of a thousand calls are cancelled, before or after they are admitted.
    pub(crate) cancelled: u32,
    /// How many of a thousand calls fail while the upstream is up.
    pub(crate) background: u32,
    /// How many of a thousand calls take up to twice the lease.
    pub(crate) long: u32,
    pub(crate) policy: Policy,
    /// The policy of every second replica, as in a rolling deploy.
    pub(crate) other_policy: Option<Policy>,
    /// The largest quorum of the policies.
    pub(crate) quorum: u64,
    pub(crate) lease: Duration,
    pub(crate) longest_open: Duration,
    pub(crate) report_interval: Duration,
    /// For how long there are faults.
    pub(crate) trouble: Duration,
    pub(crate) plan: Plan,
    /// The weights of the faults, of which the next one is drawn.
    pub(crate) partitions: u32,
    pub(crate) crashes: u32,
    pub(crate) forgets: u32,
    pub(crate) overrides: u32,
}

impl Schedule {
    pub(crate) fn draw(seed: u64) -> Self {
        let rng = &mut fastrand::Rng::with_seed(seed);
        // Each kind of fault is there or not, so that some seeds have only one.
        let some =
            |rng: &mut fastrand::Rng, most: u32| if rng.bool() { 0 } else { rng.u32(1..=most) };
        let plan = Plan {
            delay: [8, 8, 40, 120, 300][rng.usize(..5)],
            delay_all: 0,
            drop_request: some(rng, 150),
            drop_reply: some(rng, 150),
            duplicate: some(rng, 300),
            drop_push: [0, 0, 200, 500, 1000][rng.usize(..5)],
            delay_push: [0, 0, 20, 300][rng.usize(..4)],
            fail_fast: [0, 500, 1000][rng.usize(..3)],
        };
        let is_honest = rng.u32(..4) == 0;
        let is_healthy = is_honest && rng.bool();
        let plan = if is_honest { plan.without_faults(rng) } else { plan };
        let faults = |weight: u32| if is_honest { 0 } else { weight };
        let lease = ms(rng.u64(5..=15) * 100);
        let open_for = ms(rng.u64(5..=15) * 100);
        let longest = open_for * [1, 2, 4][rng.usize(..3)];
        let rolling = rng.u32(..6) == 0;
        let quorum = [1, 1, 1, 2][rng.usize(..4)];
        let policy =
            policy(rng).quorum(quorum).open_for(open_for).backoff(2.0, longest).probe_lease(lease);
        let other_policy = rolling.then(|| {
            let other = self::policy(rng)
                .quorum(quorum)
                .open_for(open_for)
                .backoff(2.0, longest)
                .probe_lease(lease);
            other.build().unwrap()
        });
        Self {
            seed,
            is_honest,
            is_healthy,
            replicas: rng.usize(if is_honest { 3..=12 } else { 3..=7 }),
            callers: rng.u64(1..=3),
            pause: [150, 400, 800][rng.usize(..3)],
            at_once: [0, 0, 0, 300, 1000][rng.usize(..5)],
            cancelled: some(rng, 200),
            background: if is_healthy { rng.u32(10..=100) } else { [0, 0, 20][rng.usize(..3)] },
            long: some(rng, 200),
            policy: policy.build().unwrap(),
            other_policy,
            quorum,
            lease,
            longest_open: longest,
            report_interval: ms([50, 100][rng.usize(..2)]),
            trouble: s(rng.u64(6..=12)),
            plan,
            partitions: faults(some(rng, 4)),
            crashes: faults(some(rng, 2)),
            forgets: faults(u32::from(rng.u32(..3) == 0)),
            overrides: faults(if rng.u32(..4) == 0 { 2 } else { 0 }),
        }
    }

    /// How much the true order of calls proves.
    pub(crate) fn proof(&self) -> Proof {
        if self.is_honest {
            // A roll call counts for three times the settling time, and messages take a while.
            Proof::Condition { lag: self.settling() * 3 + ms(100) }
        } else {
            Proof::Failures
        }
    }

    fn settling(&self) -> Duration {
        (self.report_interval * 2).max(ms(50))
    }

    /// Whether the number of probes in flight can be known from outside.
    pub(crate) fn counts_probes(&self) -> bool {
        // A slot that was kept for the next caller has used a part of its lease.
        self.forgets == 0 && self.at_once == 0
    }

    /// The longest that a cluster may take to recover once the faults end: one and a quarter polls
    /// where pushes were dropped, leases whose replicas have crashed, and two open intervals, as a
    /// call from before can still fail.
    pub(crate) fn bound(&self) -> Duration {
        s(27) + self.lease * 4 + self.longest_open * 3
    }
}

fn policy(rng: &mut fastrand::Rng) -> PolicyBuilder {
    let mut policy = Policy::builder()
        .probes(rng.u64(1..=3))
        .successes_to_close(rng.u64(1..=3))
        .jitter([0.0, 0.1][rng.usize(..2)]);
    if rng.u32(..4) == 0 {
        policy = policy.cancelled(Cancelled::Failure);
    }
    match rng.u32(..6) {
        // Consecutive failures only.
        0 => policy.no_window().consecutive_failures(rng.u64(3..=10)),
        // Evidence without an order over replicas stays in each of them.
        1 => policy
            .count_window(20)
            .failure_rate(0.5)
            .minimum_calls(5)
            .without_consecutive_failures(),
        2 => policy
            .time_window(s(5))
            .failure_rate(f64::from(rng.u32(3..=6)) / 10.0)
            .minimum_calls(10)
            .without_consecutive_failures(),
        3 => policy.time_window(s(10)).failure_count(8).without_failure_rate(),
        _ => policy.time_window(s(10)).consecutive_failures(rng.u64(3..=10)).failure_rate(0.5),
    }
}
