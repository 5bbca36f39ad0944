//! Fleets in simulated time, over a backend in memory: what opens by a condition that never held in
//! the true order of all calls, and what a fleet sends.
//!
//! ```text
//! cargo bench -p tower-breaker-benches --features simulation --bench fleet
//! cargo bench -p tower-breaker-benches --features simulation --bench fleet -- --smoke
//! cargo bench -p tower-breaker-benches --features simulation --bench fleet -- seconds 600
//! cargo bench -p tower-breaker-benches --features simulation --bench fleet -- week 0.1
//! cargo bench -p tower-breaker-benches --features simulation --bench fleet -- cost 60
//! cargo bench -p tower-breaker-benches --features simulation --bench fleet -- unheard
//! ```
//!
//! Each fleet runs for an hour of simulated time, or for so many seconds of it; `week` runs a week,
//! or a fraction of one. `cost` simulates so many seconds of 200 replicas with 1000 circuits, and
//! multiplies what they send with what it costs a redis-server, which it starts. `unheard` loses
//! answers.

#[path = "cluster/cost.rs"]
#[expect(dead_code, reason = "the other program prints them by themselves")]
mod cost;
#[path = "../tests/it/cluster/scale/fleet.rs"]
mod fleet;
#[path = "fleet/rates.rs"]
mod rates;
#[path = "cluster/server.rs"]
#[expect(dead_code, reason = "the other program needs more of it")]
mod server;
#[path = "fleet/support.rs"]
mod support;
#[path = "fleet/unheard.rs"]
mod unheard;
#[path = "fleet/week.rs"]
mod week;

use std::time::Duration;

use fleet::{Fleet, Load};
use support::{ms, s};
use tower_breaker_benches::clock;
use tower_breaker_benches::report::{Limits, against, percentile, table, verdict};
use tower_breaker_benches::watched::Kind;

/// The fleets whose circuits must not open.
const FLEETS: [Load; 3] = [
    Load {
        replicas: 10,
        circuits: 1000,
        calls_per_second: 1.0,
        failures: 0.02,
        step: ms(10),
        polling: 0,
    },
    Load {
        replicas: 10,
        circuits: 100,
        calls_per_second: 2.0,
        failures: 0.1,
        step: ms(10),
        polling: 0,
    },
    Load {
        replicas: 100,
        circuits: 10,
        calls_per_second: 10.0,
        failures: 0.02,
        step: ms(10),
        polling: 0,
    },
];

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().collect();
    let smoke = args.iter().any(|it| it == "--smoke") || !args.iter().any(|it| it == "--bench");
    let after = |option: &str| {
        let at = args.iter().position(|it| it == option)?;
        Some(args.get(at + 1).and_then(|it| it.parse::<f64>().ok()))
    };
    if let Some(fraction) = after("week") {
        return a_week(if smoke { 0.01 } else { fraction.unwrap_or(1.0) });
    }
    if let Some(seconds) = after("cost") {
        return a_second(
            if smoke { s(5) } else { Duration::from_secs_f64(seconds.unwrap_or(60.0)) },
            smoke,
        );
    }
    if after("unheard").is_some() {
        return unheard(if smoke { 4 } else { 400 });
    }
    let seconds = after("seconds").flatten().unwrap_or(3600.0);
    let time = if smoke { s(10) } else { Duration::from_secs_f64(seconds.max(1.0)) };
    let header = ["", "calls", "openings", "false ones", "commands a second", "busiest", "real s"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let mut all = 0;
    for load in FLEETS {
        let began = clock::now();
        let (fleet, wrong) = paused(async {
            let mut fleet = Fleet::new(load, 1);
            let wrong = fleet.run(time).await;
            let commands = [fleet.commands() / time.as_secs(), fleet.busiest_second()];
            ((fleet.calls, fleet.opened, commands), wrong.len())
        })?;
        all += wrong;
        let Load { replicas, circuits, calls_per_second, failures, .. } = load;
        let (calls, opened, [commands, busiest]) = fleet;
        rows.push(vec![
            format!("{replicas} x {circuits}, {calls_per_second}/s, {} %", failures * 100.0),
            calls.to_string(),
            opened.to_string(),
            wrong.to_string(),
            commands.to_string(),
            busiest.to_string(),
            format!("{:.0}", began.elapsed().as_secs_f64()),
        ]);
    }
    println!("\nfleets of replicas x circuits, {time:?} simulated\n");
    table(&rows);
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    verdict("false openings", all as f64, 0.0, "0");
    Ok(())
}

fn a_week(fraction: f64) -> anyhow::Result<()> {
    let week = paused(week::run(fraction))?;
    println!(
        "\n{} hours simulated in {:.0?}: {} calls, {} openings, {} of them false",
        week.hours,
        week.real,
        week.calls,
        week.openings,
        week.wrong.len()
    );
    println!("commands a second, over time: {:?}", week.rates);
    println!("megabytes, over time: {:?}", week.memory);
    println!(
        "outages open on all after {:?} at most, {} changes of a quiet circuit known to all after {:?} \
         at most",
        week.opened_after, week.changes, week.heard_after
    );
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    verdict("false openings", week.wrong.len() as f64, 0.0, "0");
    let seconds = |time: Duration| time.as_secs_f64();
    verdict("a quiet circuit is heard of within, s", seconds(week.heard_after), 10.0, "10");
    verdict("a real outage open on all, s", seconds(week.opened_after), 5.0, "5");
    // The first half fills what is bounded.
    let grown = |figures: &[u64]| {
        let [half, last] = [figures.len() / 2, figures.len() - 1].map(|at| figures[at] as f64);
        last / half.max(1.0)
    };
    verdict("memory since half of the time, times", grown(&week.memory), 1.2, "1.2");
    verdict("commands since half of the time, times", grown(&week.rates), 1.2, "1.2");
    Ok(())
}

/// What a second of a large fleet costs a Redis.
fn a_second(time: Duration, smoke: bool) -> anyhow::Result<()> {
    let real = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let costs = real.block_on(cost::scripts(if smoke { 100 } else { 5_000 }))?;
    let rates = paused(rates::measure(time, smoke))?;
    let [heartbeats, reporting, polls, others @ ..] = rates.sent;
    let others: f64 = others.iter().sum();
    let syncs = reporting + polls;
    let rows = [
        ("heartbeats", heartbeats, costs.heartbeat),
        ("syncs", syncs, costs.sync),
        ("reports in them", rates.reports, costs.report),
        ("changes, published", rates.changes.max(others), costs.change),
    ];
    println!(
        "\n{} x {}, 1 call/s of each, 2 % fail, {time:?} simulated\n",
        cost::REPLICAS,
        cost::CIRCUITS
    );
    let header = ["", "a second", "us of a core each", "of a core"].map(str::to_owned).to_vec();
    let lines = rows.map(|(name, rate, cost)| {
        let core = format!("{:.3}", rate * cost / 1e6);
        vec![name.to_owned(), format!("{rate:.1}"), format!("{cost:.1}"), core]
    });
    table(&[vec![header], lines.to_vec()].concat());
    let sent = Kind::ALL.iter().zip(rates.sent).map(|(kind, rate)| format!("{kind:?} {rate:.1}"));
    println!("\ncommands a second: {}", sent.collect::<Vec<_>>().join(", "));
    println!(
        "{:.1} reports in a sync that has some, {:.1} views in an answer; {} circuits of all are open",
        rates.reports / reporting,
        rates.views / syncs,
        rates.open
    );
    let core: f64 = rows.iter().map(|(_, rate, cost)| rate * cost / 1e6).sum();
    against("cores of Redis", core, Limits { must: 1.0, aim: 0.2 });
    Ok(())
}

fn unheard(changes: usize) -> anyhow::Result<()> {
    println!("\na healthy circuit beside 100 that fail; changes are not pushed:");
    for lost_one_of in [0, 10, 3, 2] {
        let took = paused(unheard::measure(changes, lost_one_of))?;
        let [p50, most] = [50, 100].map(|percent| percentile(&took, percent));
        let lost = match lost_one_of {
            0 => "no answer is lost".to_owned(),
            number => format!("one of {number} answers is lost"),
        };
        println!("{lost}: unheard of for {p50:.2} s (p50), {most:.2} at most");
        let limits = Limits { must: 10.0, aim: 2.0 };
        against(&format!("a healthy circuit is unheard of, {lost}, s"), most, limits);
    }
    Ok(())
}

/// Runs on a paused clock.
fn paused<T>(run: impl Future<Output = T>) -> anyhow::Result<T> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    Ok(runtime.enable_time().start_paused(true).build()?.block_on(run))
}
