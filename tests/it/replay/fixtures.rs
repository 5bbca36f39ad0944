//! Calls of a trace, and how they are played to a circuit that is live.

use std::collections::BinaryHeap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tower_breaker::circuit::Permit;
use tower_breaker::event::{Event, Transition};
use tower_breaker::{Circuit, Outcome, Policy, Store};

use crate::support::{advance, now};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Success,
    Failure,
    Ignored,
    Cancelled,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) at: Duration,
    pub(super) took: Duration,
    pub(super) ending: Ending,
}

impl Call {
    fn start(&self) -> Duration {
        self.at.saturating_sub(self.took)
    }
}

/// The calls as lines, in the order in which they ended.
pub(super) fn trace(calls: &mut [Call]) -> String {
    calls.sort_by_key(|call| call.at);
    let mut lines = String::new();
    for Call { at, took, ending } in calls.iter() {
        let ending = format!("{ending:?}").to_lowercase();
        let (at, took) = (at.as_secs_f64(), took.as_secs_f64());
        writeln!(lines, r#"{{"at": {at:?}, "took": {took:?}, "outcome": "{ending}"}}"#).unwrap();
    }
    lines
}

pub(super) type Transitions = Arc<Mutex<Vec<(Duration, Transition)>>>;

/// Plays calls, which are sorted by when they ended, to a new circuit on a paused clock. `make`
/// gets the store when the first call starts. Returns the transitions, and when they happened.
pub(super) async fn play(
    policy: Policy,
    calls: &[Call],
    make: impl FnOnce(&Store) -> Circuit,
) -> Vec<(Duration, Transition)> {
    let zero = now();
    let transitions = Transitions::default();
    let seen = transitions.clone();
    let observer = move |_: &_, event: &Event| {
        if let Event::Transition(transition) = event {
            // A trace has no texts of failures.
            let mut transition = transition.clone();
            transition.last_error = None;
            seen.lock().unwrap().push((now() - zero, transition));
        }
    };
    let store = Store::builder().default_policy(policy).on_change(observer).build();
    let mut starts: Vec<_> = (0..calls.len()).collect();
    starts.sort_by_key(|&n| (calls[n].start(), n));
    let mut running: BinaryHeap<std::cmp::Reverse<(Duration, usize)>> = BinaryHeap::new();
    let mut permits: Vec<Option<Permit>> = calls.iter().map(|_| None).collect();
    let (mut circuit, mut make) = (None, Some(make));
    let last = starts.iter().map(|&n| (calls[n].start(), Some(n)));
    for (start, n) in last.chain([(Duration::MAX, None)]) {
        while let Some(&std::cmp::Reverse((end, n))) = running.peek()
            && end <= start
        {
            running.pop();
            wait_until(zero, end).await;
            if let Some(permit) = permits[n].take() {
                match calls[n].ending {
                    Ending::Success => permit.settle(Outcome::Success),
                    Ending::Failure => permit.settle(Outcome::failure()),
                    Ending::Ignored => permit.settle(Outcome::Ignored),
                    Ending::Cancelled => drop(permit),
                }
            }
        }
        let Some(n) = n else { break };
        wait_until(zero, start).await;
        let circuit = circuit.get_or_insert_with(|| make.take().unwrap()(&store));
        permits[n] = circuit.try_acquire().ok();
        running.push(std::cmp::Reverse((calls[n].at, n)));
    }
    std::mem::take(&mut *transitions.lock().unwrap())
}

async fn wait_until(zero: tokio::time::Instant, time: Duration) {
    let wait = time.saturating_sub(now() - zero);
    if !wait.is_zero() {
        advance(wait).await;
    }
}
