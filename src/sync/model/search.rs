//! Exploration: exhaustive, breadth first, to a depth; and at random, further.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write;
use std::time::Duration;

use super::steps::Step;
use super::world::{Fault, Scenario, Wire, World};

/// What an exploration has found.
#[derive(Debug)]
pub(super) struct Explored {
    pub(super) states: usize,
    /// All states that so many steps can reach were seen.
    pub(super) depth: usize,
    /// The shortest way to something that must not happen.
    pub(super) violation: Option<String>,
}

/// How many states share one check of what must happen in the end.
const SETTLE_ONE_IN: u64 = 16;

/// Explores all states that the scenario's steps can reach, nearest first.
pub(super) fn explore(scenario: &Scenario) -> Explored {
    let first = World::begin(scenario);
    let mut seen = HashSet::from([first.fingerprint()]);
    // Each state's step, and the state before it.
    let mut ways: Vec<(usize, Option<Step>)> = vec![(0, None)];
    let mut next = VecDeque::from([(first, 0, 0)]);
    let mut depth = 0;
    while let Some((world, id, reached)) = next.pop_front() {
        depth = reached;
        if reached >= scenario.depth || seen.len() >= scenario.states {
            break;
        }
        for step in world.steps(scenario) {
            let mut after = world.clone();
            let result = after.step(step, scenario);
            let hash = after.fingerprint();
            let result = match result {
                Ok(()) if !seen.insert(hash) => continue,
                Ok(()) if hash.is_multiple_of(SETTLE_ONE_IN) => after.check_settles(scenario),
                result => result,
            };
            ways.push((id, Some(step)));
            if let Err(violation) = result {
                let steps = way(&ways, ways.len() - 1);
                let violation = Some(told(scenario, &steps, &violation));
                return Explored { states: seen.len(), depth: reached, violation };
            }
            next.push_back((after, ways.len() - 1, reached + 1));
        }
    }
    Explored { states: seen.len(), depth, violation: None }
}

/// Walks at random, `walks` times, so many steps each.
pub(super) fn walk(scenario: &Scenario, walks: u64, steps: usize) -> Explored {
    let mut states = HashSet::new();
    for seed in 0..walks {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::begin(scenario);
        let mut way = Vec::new();
        let mut result = Ok(());
        for _ in 0..steps {
            let possible = world.steps(scenario);
            // Faults are rarer than what else happens.
            let (faults, others): (Vec<Step>, Vec<Step>) =
                possible.into_iter().partition(|step| step.is_fault());
            let from = if faults.is_empty() || random.u32(..8) > 0 { others } else { faults };
            let Some(step) = random.choice(from) else { break };
            way.push(step);
            result = world.step(step, scenario);
            if result.is_err() {
                break;
            }
        }
        states.insert(world.fingerprint());
        if result.is_ok() {
            result = world.check_settles(scenario);
        }
        if let Err(violation) = result {
            let (way, violation) = shortened(scenario, way, violation);
            let violation = Some(told(scenario, &way, &violation));
            return Explored { states: states.len(), depth: steps, violation };
        }
    }
    Explored { states: states.len(), depth: steps, violation: None }
}

fn way(ways: &[(usize, Option<Step>)], mut at: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while let (before, Some(step)) = ways[at] {
        steps.push(step);
        at = before;
    }
    steps.reverse();
    steps
}

/// Leaves out the steps that are not needed.
fn shortened(scenario: &Scenario, mut way: Vec<Step>, mut why: String) -> (Vec<Step>, String) {
    let mut at = 0;
    while at < way.len() {
        let mut shorter = way.clone();
        shorter.remove(at);
        match replay(scenario, &shorter) {
            Some(violation) => (way, why) = (shorter, violation),
            None => at += 1,
        }
    }
    (way, why)
}

fn replay(scenario: &Scenario, steps: &[Step]) -> Option<String> {
    let mut world = World::begin(scenario);
    for step in steps {
        if world.steps(scenario).contains(step)
            && let Err(violation) = world.step(*step, scenario)
        {
            return Some(violation);
        }
    }
    world.check_settles(scenario).err()
}

/// The way to a violation, as text.
fn told(scenario: &Scenario, steps: &[Step], violation: &str) -> String {
    let mut text = format!("{}: {violation}\n", scenario.name);
    let mut world = World::begin(scenario);
    for step in steps {
        let what = match step {
            Step::Execute(n)
            | Step::Arrive(n)
            | Step::LoseAnswer(n)
            | Step::LoseRequest(n)
            | Step::GiveUp(n)
            | Step::Duplicate(n) => world.wire.get(*n).map(|m| format!("{m:?}")),
            _ => None,
        };
        let _ = world.step(*step, scenario);
        let view = world.view();
        let _ = writeln!(text, "  {step:?} {}", what.unwrap_or_default());
        let _ = writeln!(text, "      backend: {:?} in {}", view.state, view.generation);
        for replica in &world.replicas {
            let _ = writeln!(
                text,
                "      replica {}: {} in {}, {:?}",
                replica.number,
                replica.machine.state(),
                replica.sync.generation(),
                replica.sync.state,
            );
        }
    }
    text
}

impl Step {
    fn is_fault(self) -> bool {
        !matches!(
            self,
            Self::Succeed(_)
                | Self::Fail(_)
                | Self::ProbeSucceeds(_)
                | Self::ProbeFails(_)
                | Self::SendBatch(_)
                | Self::SendCommand(_)
                | Self::Execute(_)
                | Self::Arrive(_)
                | Self::Tick(_)
        )
    }
}

impl World {
    /// All replicas have read their first view; if the scenario wants it, the circuit has opened
    /// and its interval is over.
    pub(super) fn begin(scenario: &Scenario) -> Self {
        let calm = Scenario { wire: Wire::AtOnce, ..scenario.clone() };
        let mut world = Self::new(scenario);
        let go = |world: &mut Self, step| {
            if let Err(violation) = world.step(step, &calm) {
                panic!("{violation}");
            }
            while !world.wire.is_empty() {
                let step = match &world.wire[0] {
                    super::world::Message::Request { .. } => Step::Execute(0),
                    _ => Step::Arrive(0),
                };
                if let Err(violation) = world.step(step, &calm) {
                    panic!("{violation}");
                }
            }
        };
        let all = 0..scenario.replicas;
        all.clone().for_each(|n| go(&mut world, Step::SendBatch(n)));
        if scenario.begins_open {
            world.calls = 100;
            let opens = scenario.policy.to_builder().build().is_ok();
            for _ in 0..10 {
                if opens && world.replicas[0].machine.state() == crate::machine::State::Closed {
                    go(&mut world, Step::Fail(0));
                }
            }
            go(&mut world, Step::SendCommand(0));
            all.for_each(|n| go(&mut world, Step::SendBatch(n)));
            let interval = scenario.policy.open_interval(0, None, 0);
            go(&mut world, Step::Tick(interval + Duration::from_millis(1)));
        }
        (world.calls, world.ticks) = (scenario.calls, scenario.ticks);
        world
    }
}

/// All faults.
pub(super) const ALL: [Fault; 11] = [
    Fault::LoseRequest,
    Fault::LoseAnswer,
    Fault::Late,
    Fault::Duplicate,
    Fault::Forge,
    Fault::Crash,
    Fault::Empty,
    Fault::Failover,
    Fault::ClockBack,
    Fault::ClockForward,
    Fault::Detach,
];
