//! A week of a small fleet: 2 % failures, replicas that come and go, an outage of the backend a
//! day, and real outages of an upstream.

use std::time::Duration;

use tokio::time::sleep;
use tower_breaker::backend::MemoryBackend;
use tower_breaker::{State, Store};
use tower_breaker_benches::clock;

use super::fleet::{Fleet, LATENCY, Load};
use super::support::traffic::Fault;
use super::support::{ms, now, s};

const LOAD: Load = Load {
    replicas: 5,
    circuits: 20,
    calls_per_second: 1.0,
    failures: 0.02,
    step: ms(100),
    polling: 1,
};

/// The circuit whose upstream goes down now and then, and one that only an operator changes.
const DOWN: usize = 0;
const QUIET: usize = 1;

/// What is wrong, or out of bounds, at any time.
#[derive(Default)]
pub(crate) struct Week {
    pub(crate) hours: u64,
    pub(crate) calls: u64,
    pub(crate) openings: u64,
    pub(crate) wrong: Vec<String>,
    /// How long until a real outage was open on all replicas, and an override known to all.
    pub(crate) opened_after: Duration,
    pub(crate) heard_after: Duration,
    /// Commands a second, and megabytes of the process, in each tenth of the time.
    pub(crate) rates: Vec<u64>,
    pub(crate) memory: Vec<u64>,
    pub(crate) real: Duration,
}

/// Runs this fraction of a week. Every hour is one of the week, so a part is as varied as the whole.
pub(crate) async fn run(fraction: f64) -> Week {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 168")]
    let hours = ((168.0 * fraction) as u64).max(1);
    let (began, mut fleet) = (clock::now(), Fleet::new(LOAD, 7));
    let mut week = Week { hours, ..Week::default() };
    let mut before = 0;
    for hour in 0..hours {
        let start = now();
        let mut commands = 0;
        // A replica is replaced each hour, in turn; all commands of its connection count.
        let gone = usize::try_from(hour).unwrap_or_default() % LOAD.replicas;
        commands += fleet.replicas[gone].line.commands();
        let next = fleet.start(gone);
        fleet.replicas[gone] = next;
        week.wrong.extend(fleet.run(s(600)).await);

        if hour % 24 == 0 {
            set_all(&fleet, &Fault::Pauses);
            week.wrong.extend(fleet.run(s(300)).await);
            set_all(&fleet, &Fault::Late(LATENCY));
            week.wrong.extend(fleet.run(s(10)).await);
        }
        if hour % 6 == 0 {
            week.opened_after = week.opened_after.max(outage(&mut fleet, &mut week.wrong).await);
        }
        week.heard_after = week.heard_after.max(change(&fleet.backend, &fleet).await);
        let rest = s(3600).saturating_sub(now() - start);
        week.wrong.extend(fleet.run(rest).await);

        let all = fleet.commands() + commands;
        if (hour + 1) % (hours / 10).max(1) == 0 {
            week.rates.push(all.saturating_sub(before) / 3600);
            week.memory.push(megabytes());
        }
        before = fleet.commands();
    }
    (week.calls, week.openings) = (fleet.calls, fleet.opened);
    week.real = began.elapsed();
    week
}

fn set_all(fleet: &Fleet, fault: &Fault) {
    for replica in &fleet.replicas {
        replica.line.set(fault.clone());
    }
}

/// Lets an upstream fail, and returns how long until all replicas reject its calls.
async fn outage(fleet: &mut Fleet, wrong: &mut Vec<String>) -> Duration {
    fleet.down = Some(DOWN);
    let start = now();
    let is_open = |fleet: &Fleet| {
        fleet.replicas.iter().all(|replica| replica.circuits[DOWN].state() != State::Closed)
    };
    while !is_open(fleet) && now() - start < s(60) {
        wrong.extend(fleet.run(ms(100)).await);
    }
    let opened = now() - start;
    wrong.extend(fleet.run(s(120)).await);
    fleet.down = None;
    wrong.extend(fleet.run(s(400)).await);
    opened
}

/// Overrides a circuit, and returns how long until all replicas know.
async fn change(backend: &MemoryBackend, fleet: &Fleet) -> Duration {
    let operator = Store::builder().backend(backend.clone()).replica("operator").build();
    let circuit = operator.circuit(QUIET.to_string());
    let start = now();
    let stored = circuit.disable("a change").await;
    let is_known = || fleet.replicas.iter().all(|it| it.circuits[QUIET].state() == State::Disabled);
    while stored.is_ok() && !is_known() && now() - start < s(60) {
        sleep(ms(10)).await;
    }
    let known = now() - start;
    // Its end: the next hour begins closed.
    let _ = circuit.reset().await;
    operator.shutdown(s(1)).await;
    known
}

/// What the process has in memory.
fn megabytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * 4 / 1024
}
