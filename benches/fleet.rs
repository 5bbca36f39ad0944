//! Fleets in simulated time, over a backend in memory: what opens by a condition that never held in
//! the true order of all calls, and what a fleet sends.
//!
//! ```text
//! cargo bench -p tower-breaker-benches --features simulation --bench fleet
//! cargo bench -p tower-breaker-benches --features simulation --bench fleet -- --smoke
//! cargo bench -p tower-breaker-benches --features simulation --bench fleet -- seconds 600
//! cargo bench -p tower-breaker-benches --features simulation --bench fleet -- week 0.1
//! ```
//!
//! Each fleet runs for an hour of simulated time, or for so many seconds of it; `week` runs a week,
//! or a fraction of one.

#[path = "../tests/it/cluster/scale/fleet.rs"]
mod fleet;
#[path = "fleet/support.rs"]
mod support;
#[path = "fleet/week.rs"]
mod week;

use std::time::Duration;

use fleet::{Fleet, Load};
use support::{ms, s};
use tower_breaker_benches::clock;
use tower_breaker_benches::report::{table, verdict};

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
        "all open after {:?}, an override known after {:?}",
        week.opened_after, week.heard_after
    );
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    verdict("false openings", week.wrong.len() as f64, 0.0, "0");
    let seconds = |time: Duration| time.as_secs_f64();
    verdict("an override known to all, s", seconds(week.heard_after), 10.0, "10");
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

/// Runs on a paused clock.
fn paused<T>(run: impl Future<Output = T>) -> anyhow::Result<T> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    Ok(runtime.enable_time().start_paused(true).build()?.block_on(run))
}
