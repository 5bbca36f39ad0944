//! A week of a small fleet: 2 % failures, replicas that come and go, an outage of the backend a
//! day, and real outages of an upstream.

use std::time::Duration;

use tower_breaker::{Circuit, State, Store};
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
    /// How long until a real outage was open on all replicas.
    pub(crate) opened_after: Duration,
    /// How long until all replicas knew of a change of the circuit that has none of its own: at
    /// most, and how often that was measured.
    pub(crate) heard_after: Duration,
    pub(crate) changes: u64,
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
    let store = Store::builder().backend(fleet.backend.clone()).replica("operator").build();
    let operator = store.circuit(QUIET.to_string());
    let mut before = 0;
    for hour in 0..hours {
        let start = now();
        let mut commands = 0;
        // A replica is replaced each hour, in turn; all commands of its connection count.
        let gone = usize::try_from(hour).unwrap_or_default() % LOAD.replicas;
        commands += fleet.replicas[gone].line.commands();
        let next = fleet.start(gone);
        fleet.replicas[gone] = next;
        week.changed_for(s(600), &mut fleet, &operator).await;

        if hour % 24 == 0 {
            set_all(&fleet, &Fault::Pauses);
            week.wrong.extend(fleet.run(s(300)).await);
            set_all(&fleet, &Fault::Late(LATENCY));
            week.changed(&mut fleet, &operator).await;
        }
        if hour % 6 == 0 {
            week.opened_after = week.opened_after.max(outage(&mut fleet, &mut week.wrong).await);
        }
        week.changed_for(s(3600).saturating_sub(now() - start), &mut fleet, &operator).await;

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

impl Week {
    /// Runs the fleet for this long, and changes a circuit every minute.
    async fn changed_for(&mut self, time: Duration, fleet: &mut Fleet, operator: &Circuit) {
        let start = now();
        while now() - start < time {
            self.changed(fleet, operator).await;
            self.wrong.extend(fleet.run(s(60).min(time.saturating_sub(now() - start))).await);
        }
    }

    /// Overrides a circuit, and runs the fleet until all replicas know; then ends the override.
    async fn changed(&mut self, fleet: &mut Fleet, operator: &Circuit) {
        for to in [State::Disabled, State::Closed] {
            let stored = match to {
                State::Closed => operator.reset().await,
                _ => operator.disable("a change").await,
            };
            let start = now();
            let is_known =
                |fleet: &Fleet| fleet.replicas.iter().all(|it| it.circuits[QUIET].state() == to);
            while stored.is_ok() && !is_known(fleet) && now() - start < s(60) {
                self.wrong.extend(fleet.run(ms(100)).await);
            }
            self.heard_after = self.heard_after.max(now() - start);
            self.changes += 1;
        }
    }
}

/// What the process has in memory.
fn megabytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * 4 / 1024
}
