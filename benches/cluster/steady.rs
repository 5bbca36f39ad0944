//! A hundred circuits in each of ten replicas: what they cost while all is well, and while each has
//! 2 % failures; and how long a roll call takes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{interval, sleep, timeout};
use tower_breaker::backend::{
    Attention, Backend, Batch, Count, Cursor, Geometry, Group, RedisBackend, Report, Sender, Shares,
};
use tower_breaker::{Circuit, Outcome, Store};
use tower_breaker_benches::clock;
use tower_breaker_benches::report::{Limits, percentile};
use tower_breaker_benches::watched::{Kind, Watched};

use super::server::Server;
use super::{REPLICAS, Times, ms};

const CIRCUITS: usize = 100;

/// The calls of this time are made at once, by one replica after the other.
const STEP: Duration = Duration::from_millis(20);

/// Of each replica on each circuit: 10 000 in all.
const CALLS_PER_SECOND: f64 = 10.0;

struct Replica {
    line: Watched,
    circuits: Vec<Circuit>,
    _store: Store,
}

async fn join(server: &Server, replicas: usize) -> anyhow::Result<Vec<Replica>> {
    let mut joined = Vec::new();
    for number in 0..replicas {
        let line = Watched::new(Arc::new(server.connect().await?), Duration::ZERO);
        let store = Store::builder().backend(line.clone()).replica(format!("replica {number}"));
        let store = store.build();
        let circuits = (0..CIRCUITS).map(|n| store.circuit(format!("circuit {n}"))).collect();
        joined.push(Replica { line, circuits, _store: store });
    }
    Ok(joined)
}

/// Calls until the answer is dropped. Of the calls, this fraction fails.
async fn call(replicas: &[Replica], failures: f64) {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut tick = interval(STEP);
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let each = CIRCUITS as f64 * CALLS_PER_SECOND * STEP.as_secs_f64();
    loop {
        tick.tick().await;
        for replica in replicas {
            let mut due = each;
            while due >= 1.0 {
                due -= 1.0;
                let circuit = &replica.circuits[rng.usize(..CIRCUITS)];
                let Ok(permit) = circuit.try_acquire() else { continue };
                let fails = rng.f64() < failures;
                if fails {
                    // Before it is settled: a batch may take it at once.
                    replica.line.failed(circuit.name());
                }
                permit.settle(if fails { Outcome::failure() } else { Outcome::Success });
            }
        }
    }
}

/// Commands a second at Redis, over this time.
async fn commands(server: &Server, time: Duration) -> anyhow::Result<f64> {
    let before = server.commands()?;
    sleep(time).await;
    Ok((server.commands()? - before) / time.as_secs_f64())
}

fn all(replicas: &[Replica], count: impl Fn(&Watched) -> u64) -> u64 {
    replicas.iter().map(|replica| count(&replica.line)).sum()
}

pub async fn healthy(times: &Times) -> anyhow::Result<()> {
    let server = Server::start()?;
    let replicas = join(&server, REPLICAS).await?;
    let measure = async {
        sleep(times.settle).await;
        let beats = all(&replicas, |line| line.sent(Kind::Heartbeat));
        let commands = commands(&server, times.healthy).await?;
        let beats = all(&replicas, |line| line.sent(Kind::Heartbeat)) - beats;
        anyhow::Ok((commands, beats as f64 / times.healthy.as_secs_f64()))
    };
    let (commands, beats) = tokio::select! {
        () = call(&replicas, 0.0) => unreachable!("calls go on"),
        measured = measure => measured?,
    };
    println!(
        "\nhealthy, {REPLICAS} x {CIRCUITS}, 10 000 calls/s: {commands:.1} commands a second, {beats:.1} \
         of them heartbeats"
    );
    let limits = Limits { must: 30.0, aim: 10.0 };
    times.against("commands a second, healthy", commands, limits);
    Ok(())
}

pub async fn failing(times: &Times) -> anyhow::Result<()> {
    let server = Server::start()?;
    let replicas = join(&server, REPLICAS).await?;
    let measure = async {
        sleep(times.settle).await;
        let lags = || replicas.iter().flat_map(|it| it.line.lags()).map(ms).collect::<Vec<_>>();
        lags();
        let reports = all(&replicas, Watched::reports);
        let used = server.processor()?;
        let commands = commands(&server, times.failing).await?;
        let used = (server.processor()? - used) / times.failing.as_secs_f64();
        let reports = all(&replicas, Watched::reports) - reports;
        let waiting = replicas.iter().map(|it| ms(it.line.waiting())).fold(0.0, f64::max);
        let seconds = times.failing.as_secs_f64();
        anyhow::Ok((commands, reports as f64 / seconds, lags(), waiting, used))
    };
    let (commands, reports, lags, waiting, used) = tokio::select! {
        () = call(&replicas, 0.02) => unreachable!("calls go on"),
        measured = measure => measured?,
    };
    let open = replicas.iter().flat_map(|it| &it.circuits);
    let open = open.filter(|it| it.state() != tower_breaker::State::Closed).count();
    let [p50, p99, most] = [50, 99, 100].map(|percent| percentile(&lags, percent));
    // Of a command, and of each circuit in it.
    let price = (commands + reports / 10.0) / REPLICAS as f64;
    println!(
        "\n2 % failures on each of {REPLICAS} x {CIRCUITS}, 10 000 calls/s: {commands:.0} commands a \
         second with {reports:.0} reports; of each replica's budget of 50 that is {price:.1}; {:.1} % \
         of a core; {open} circuits are open\nlag of evidence, ms: {p50:.0} (p50), {p99:.0} (p99), \
         {most:.0} at most; the oldest that waits now: {waiting:.0}",
        used * 100.0
    );
    times.against(
        "price of a replica a second, 2 % failures",
        price,
        Limits { must: 51.0, aim: 50.0 },
    );
    let limits = Limits { must: 2.0, aim: 0.5 };
    times.against("lag of evidence, p99, s", p99 / 1000.0, limits);
    times.against("lag of evidence, at most, s", most.max(waiting) / 1000.0, limits);
    Ok(())
}

pub async fn roll_call(times: &Times) -> anyhow::Result<()> {
    for number in [10, 24] {
        let server = Server::start()?;
        let replicas = join(&server, number).await?;
        let operator = server.connect().await?;
        let measure = async {
            sleep(times.settle).await;
            let mut took = Vec::new();
            for circuit in 0..times.rolls {
                took.push(ms(roll(&operator, &replicas[0].circuits[circuit], number).await?));
            }
            anyhow::Ok(took)
        };
        let took = tokio::select! {
            () = call(&replicas, 0.0) => unreachable!("calls go on"),
            measured = measure => measured?,
        };
        let [p50, most] = [50, 100].map(|percent| percentile(&took, percent));
        println!(
            "\nroll call of {number} replicas, until the last has answered: {p50:.1} ms (median of {}), \
             {most:.1} at most",
            took.len()
        );
    }
    Ok(())
}

/// Calls the roll of a circuit, and returns how long it took until all had answered.
async fn roll(
    operator: &RedisBackend,
    circuit: &Circuit,
    replicas: usize,
) -> anyhow::Result<Duration> {
    let name = circuit.name();
    let id = format!("operator of {name}");
    let mut batch = Batch {
        sender: Sender { name: id.clone(), id },
        seq: 1,
        since: Cursor::default(),
        seen: 0,
        reports: vec![Report {
            circuit: name.clone(),
            generation: 1,
            window: Some(Geometry { millis: 60_000, buckets: 10 }),
            // So many that the circuit does not become quiet at once.
            counts: vec![Count { age: Duration::ZERO, calls: 1000, failures: 20, slow_calls: 0 }],
            failures: Vec::new(),
            last_success: None,
            vote: None,
            shares: Shares::None,
            attention: Some(Attention::RollCall { after: 0 }),
        }],
        circuits: vec![name.clone()],
    };
    let start = clock::now();
    let answered = async {
        loop {
            let changes = operator.sync(Group::of(name), &batch).await?;
            let view = changes.views.iter().find(|(it, _)| it == name).map(|(_, view)| view);
            if view.and_then(|view| view.suspect).is_some_and(|it| it.answered >= replicas as u64) {
                return anyhow::Ok(start.elapsed());
            }
            (batch.reports, batch.since) = (Vec::new(), changes.cursor);
            sleep(Duration::from_micros(500)).await;
        }
    };
    timeout(Duration::from_secs(5), answered).await?
}
