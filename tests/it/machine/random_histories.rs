//! Random histories on one thread, played to a circuit and to a deliberately naive model, which are
//! compared after every step.
#![expect(clippy::unchecked_time_subtraction, reason = "a model that is wrong ought to fail")]

use std::time::Duration;

use proptest::prelude::*;
use tower_breaker::circuit::{Permit, Snapshot};
use tower_breaker::overrides::{Override, OverrideState};
use tower_breaker::policy::Cancelled;
use tower_breaker::{Circuit, Outcome, Policy, State, Store};

use crate::support::model::{Call, End, Model, Rules, Window};
use crate::support::paused;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A call: how long it takes, and how it ends.
    Call(Duration, End),
    /// A call that stays in flight.
    Hold,
    /// The end of a call in flight.
    Settle(prop::sample::Index, End),
    Wait(Duration),
    Look,
    ForceOpen,
    ForceClosed,
    Disable,
    MetricsOnly,
    Reset,
}

fn policy(rules: &Rules) -> Option<Policy> {
    let mut policy = Policy::builder()
        .minimum_calls(rules.minimum)
        .open_for(rules.open_for)
        .backoff(f64::from(rules.halves) / 2.0, rules.longest)
        .jitter(0.0)
        .probes(rules.probes)
        .successes_to_close(rules.needed)
        .probe_lease(rules.lease)
        .cancelled(rules.cancelled);
    policy = match rules.consecutive {
        Some(n) => policy.consecutive_failures(n),
        None => policy.without_consecutive_failures(),
    };
    policy = match rules.rate {
        Some(rate) => policy.failure_rate(f64::from(rate) / 100.0),
        None => policy.without_failure_rate(),
    };
    if let Some(n) = rules.count {
        policy = policy.failure_count(n);
    }
    if let Some(rate) = rules.slow_rate {
        policy = policy.slow_call_rate(f64::from(rate) / 100.0);
    }
    if let Some(limit) = rules.slow {
        policy = policy.slow_call_duration(limit);
    }
    policy = match rules.window {
        Window::Count(n) => policy.count_window(n),
        Window::Time(length, buckets) => policy.time_window_in_buckets(length, buckets),
        Window::None => policy.no_window(),
    };
    policy.build().ok()
}

fn ms(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

pub(crate) fn rules() -> impl Strategy<Value = (Rules, Policy)> {
    let window = prop_oneof![
        3 => (1..80_u64).prop_map(Window::Count),
        3 => (ms(1..2_000), 1..7_u32).prop_map(|(length, buckets)| Window::Time(length, buckets)),
        1 => Just(Window::None),
    ];
    let cancelled = prop_oneof![
        Just(Cancelled::Failure),
        Just(Cancelled::FailureIfSlow),
        Just(Cancelled::Ignored)
    ];
    let evidence = (
        prop::option::of(1..6_u64),
        prop::option::of(1..=100_u32),
        prop::option::of(1..6_u64),
        prop::option::of(1..=100_u32),
        prop::option::of(ms(1..100)),
        1..12_u64,
        window,
    );
    let recovery = (ms(1..500), 2..8_u32, ms(1..2_000), 1..4_u64, 1..4_u64, ms(1..300), cancelled);
    (evidence, recovery).prop_filter_map("a policy that can work", |(evidence, recovery)| {
        let (consecutive, rate, count, slow_rate, slow, minimum, window) = evidence;
        let (open_for, halves, longest, probes, needed, lease, cancelled) = recovery;
        let longest = longest.max(open_for);
        let rules = Rules {
            consecutive,
            rate,
            count,
            slow_rate,
            slow,
            minimum,
            window,
            open_for,
            halves,
            longest,
            probes,
            needed,
            lease,
            cancelled,
        };
        policy(&rules).map(|policy| (rules, policy))
    })
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        5 => Just(End::Success),
        4 => Just(End::Failure),
        1 => ms(1..3_000).prop_map(End::Hinted),
        1 => Just(End::Ignored),
        3 => Just(End::Dropped),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (prop_oneof![2 => Just(Duration::ZERO), 1 => ms(1..150)], end())
            .prop_map(|(time, end)| Step::Call(time, end)),
        4 => Just(Step::Hold),
        4 => (any::<prop::sample::Index>(), end()).prop_map(|(at, end)| Step::Settle(at, end)),
        6 => ms(0..400).prop_map(Step::Wait),
        1 => (0..2_000_000_000_u64).prop_map(|n| Step::Wait(Duration::from_nanos(n))),
        4 => Just(Step::Look),
        1 => prop_oneof![
            Just(Step::ForceOpen), Just(Step::ForceClosed), Just(Step::Disable),
            Just(Step::MetricsOnly), Just(Step::Reset), Just(Step::Reset),
        ],
    ]
}

/// The circuit and the model, side by side.
struct Pair {
    circuit: Circuit,
    model: Model,
    in_flight: Vec<(Permit, Call)>,
    calls: u64,
}

impl Pair {
    fn acquire(&mut self) -> Result<Option<(Permit, Call)>, TestCaseError> {
        self.calls += 1;
        let closed = self.circuit.state() == State::Closed;
        let permit = self.circuit.try_acquire();
        let opened = closed && self.circuit.state() == State::Open;
        let call = self.model.acquire(self.calls, opened);
        if let Err(rejection) = &permit {
            let wait = (self.model.state == State::Open).then(|| self.model.until - self.model.now);
            prop_assert_eq!(rejection.retry_after(), wait);
            prop_assert_eq!(rejection.state(), self.model.state);
            prop_assert_eq!(rejection.generation(), self.model.generation);
        }
        prop_assert_eq!(permit.is_ok(), call.is_some());
        Ok(permit.ok().zip(call))
    }

    fn settle(&mut self, (permit, call): (Permit, Call), end: End) {
        let closed = self.circuit.state() == State::Closed;
        match end {
            End::Success => permit.settle(Outcome::Success),
            End::Failure => permit.settle(Outcome::failure()),
            End::Hinted(hint) => permit.settle(Outcome::failure_with_hint(hint)),
            End::Ignored => permit.settle(Outcome::Ignored),
            End::Dropped => drop(permit),
        }
        let opened = closed && self.circuit.state() == State::Open;
        self.model.settle(call, end, opened);
    }

    async fn wait(&mut self, time: Duration) {
        self.model.now += time;
        tokio::time::advance(time).await;
    }

    async fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Call(time, end) => {
                if let Some(call) = self.acquire()? {
                    self.wait(time).await;
                    self.settle(call, end);
                }
            }
            Step::Hold => {
                let call = self.acquire()?;
                self.in_flight.extend(call);
            }
            Step::Settle(at, end) => {
                if !self.in_flight.is_empty() {
                    let call = self.in_flight.swap_remove(at.index(self.in_flight.len()));
                    self.settle(call, end);
                }
            }
            Step::Wait(time) => self.wait(time).await,
            // A snapshot drains the stripes; steps without one leave them full.
            Step::Look => self.compare()?,
            Step::ForceOpen => self.force(OverrideState::ForcedOpen),
            Step::ForceClosed => self.force(OverrideState::ForcedClosed),
            Step::Disable => self.force(OverrideState::Disabled),
            Step::MetricsOnly => self.force(OverrideState::MetricsOnly),
            Step::Reset => {
                self.circuit.reset();
                self.model.override_state(State::Closed);
            }
        }
        prop_assert_eq!(self.circuit.state(), self.model.state);
        prop_assert_eq!(self.circuit.is_available(), self.model.available());
        Ok(())
    }

    fn force(&mut self, state: OverrideState) {
        drop(self.circuit.set_override(Override::new(state, "")));
        // The same override again changes nothing.
        if self.model.state != state.state() {
            self.model.override_state(state.state());
        }
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        let Snapshot {
            state,
            generation,
            since,
            tally,
            reopenings,
            probes_out,
            probes_passed,
            retry_after,
            stale_results,
            ..
        } = self.circuit.snapshot();
        let model = &self.model;
        prop_assert_eq!((state, generation), (model.state, model.generation));
        prop_assert_eq!(since, model.now - model.began);
        let (calls, failures, slow) = model.tally();
        let overdue = tally.slow_calls.saturating_sub(slow);
        prop_assert!(model.overdue().contains(&overdue), "{} of {:?}", overdue, model.running);
        let expected = (calls + overdue, failures, slow + overdue);
        prop_assert_eq!((tally.calls, tally.failures, tally.slow_calls), expected);
        prop_assert_eq!(tally.consecutive_failures, model.streak());
        prop_assert_eq!(tally.unanswered, model.unanswered());
        prop_assert_eq!(reopenings, model.reopenings);
        prop_assert_eq!((probes_out, probes_passed), (model.probes.len(), model.passed));
        prop_assert_eq!(stale_results, model.stale);
        let wait = (state == State::Open).then(|| model.until.saturating_sub(model.now));
        prop_assert_eq!(retry_after, wait);
        Ok(())
    }
}

/// Makes a successful call, if the circuit admits it.
fn probe(circuit: &Circuit) {
    if let Ok(permit) = circuit.try_acquire() {
        permit.settle(Outcome::Success);
    }
}

/// At least 1500 cases, and more with `PROPTEST_CASES`.
fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    ProptestConfig { cases: config.cases.max(1_500), max_local_rejects: u32::MAX, ..config }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_circuit_agrees_with_a_naive_model_at_every_step(
        (rules, policy) in rules(),
        steps in prop::collection::vec(step(), 1..150),
        look_always in any::<bool>(),
    ) {
        paused(async move {
            let circuit = Store::builder().default_policy(policy).build().circuit("model");
            let mut pair =
                Pair { circuit, model: Model::new(rules), in_flight: Vec::new(), calls: 0 };
            for step in steps {
                pair.step(step).await?;
                if look_always {
                    pair.compare()?;
                }
            }
            pair.compare()
        })?;
    }

    /// After any history, and with any calls and probes still in flight, the circuit closes once
    /// the upstream works again and time passes. Only an override prevents it.
    #[test]
    fn a_circuit_recovers_after_any_history(
        (rules, policy) in rules(),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        paused(async move {
            let circuit = Store::builder().default_policy(policy).build().circuit("recovers");
            let (longest, lease) = (rules.longest, rules.lease);
            let mut pair =
                Pair { circuit, model: Model::new(rules), in_flight: Vec::new(), calls: 0 };
            for step in steps {
                pair.step(step).await?;
            }
            // Calls in flight are neither settled nor dropped: they hang forever.
            let circuit = pair.circuit.clone();
            if !circuit.state().passes_all() && circuit.state() != State::ForcedOpen {
                tokio::time::advance(longest.max(lease)).await;
                // This call may find a hung probe, and open the circuit once more.
                probe(&circuit);
                tokio::time::advance(longest).await;
                for _ in 0..4 {
                    probe(&circuit);
                }
                prop_assert_eq!(circuit.state(), State::Closed);
            }
            pair.in_flight.into_iter().for_each(|(permit, _)| std::mem::forget(permit));
            Ok(())
        })?;
    }
}
