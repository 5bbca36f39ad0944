//! What commands cost a server that has the records of 200 replicas with 1000 circuits, all suspect.
//! `fleet.rs` multiplies that with what such a fleet sends.

use std::time::Duration;

use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Attention, Backend, Batch, Count, Cursor, Failures, Geometry, Group, Heartbeat, OverrideChange,
    RedisBackend, Report, Sender, Shares,
};
use tower_breaker_benches::report::table;

use super::server::Server;

pub const REPLICAS: usize = 200;
pub const CIRCUITS: usize = 1000;

/// So many replicas send at once.
const AT_ONCE: usize = 8;

/// What a replica sends to one group.
#[derive(Clone, Copy)]
enum Sends {
    /// Reports on so many of its circuits.
    Reports(usize),
    Poll,
    Heartbeat,
    /// An override, which is published to all replicas.
    Change,
}

/// Microseconds of a core.
#[derive(Clone, Copy, Debug, Default)]
pub struct Costs {
    pub heartbeat: f64,
    /// A sync without reports, and what each report adds.
    pub sync: f64,
    pub report: f64,
    /// A change that is published to all replicas.
    pub change: f64,
}

impl Costs {
    pub fn print(&self) {
        let Self { heartbeat, sync, report, change } = self;
        println!(
            "\nus of a core: heartbeat {heartbeat:.1}, sync {sync:.1} and {report:.1} for each report, \
             change {change:.1}"
        );
    }
}

struct Fleet {
    backend: RedisBackend,
    senders: Vec<Sender>,
    /// Of one group.
    circuits: Vec<CircuitName>,
    group: Group,
    seq: u64,
    cursor: Cursor,
}

pub async fn scripts(commands: usize) -> anyhow::Result<Costs> {
    let server = Server::start()?;
    let circuits = (0..CIRCUITS).map(|n| CircuitName::new(n.to_string()));
    let mut circuits = circuits.collect::<Result<Vec<_>, _>>()?;
    let group = Group::of(&circuits[0]);
    circuits.retain(|name| Group::of(name) == group);
    let sender = |n| Sender { name: format!("replica {n}"), id: format!("replica {n}#{n:016x}") };
    let mut fleet = Fleet {
        backend: server.connect_patiently().await?,
        senders: (0..REPLICAS).map(sender).collect(),
        circuits,
        group,
        seq: 0,
        cursor: Cursor::default(),
    };
    let all = fleet.circuits.len();
    let _subscribers = (0..REPLICAS).map(|_| server.subscribe()).collect::<Result<Vec<_>, _>>()?;
    // Fills what each replica leaves: its heartbeat, its number, its place among the senders; and
    // makes all circuits suspect.
    fleet.send(&server, Sends::Heartbeat, REPLICAS).await?;
    fleet.send(&server, Sends::Reports(all), REPLICAS).await?;

    let header = ["command", "us in the script", "us of a core"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let kinds = [
        (format!("sync with {all} reports"), Sends::Reports(all), commands),
        ("sync with 8 reports".to_owned(), Sends::Reports(8), commands),
        ("sync with 1 report".to_owned(), Sends::Reports(1), commands),
        ("sync without reports".to_owned(), Sends::Poll, commands),
        ("heartbeat".to_owned(), Sends::Heartbeat, commands),
        (format!("change, published to {REPLICAS}"), Sends::Change, commands / 5),
    ];
    let mut of_a_core = Vec::new();
    for (name, sends, times) in kinds {
        let [script, core] = fleet.send(&server, sends, times).await?;
        rows.push(vec![name, format!("{script:.1}"), format!("{core:.1}")]);
        of_a_core.push(core);
    }
    println!("\nserver time of a command, {REPLICAS} replicas, all circuits suspect\n");
    table(&rows);
    let [full, _, _, sync, heartbeat, change] = of_a_core[..] else { unreachable!("six kinds") };
    Ok(Costs { heartbeat, sync, report: (full - sync) / all as f64, change })
}

impl Fleet {
    /// Sends so many commands, and returns how long one takes: its script, and the whole server.
    async fn send(
        &mut self,
        server: &Server,
        sends: Sends,
        times: usize,
    ) -> anyhow::Result<[f64; 2]> {
        let (before, used) = (server.scripts()?, server.processor()?);
        for chunk in 0..times.div_ceil(AT_ONCE) {
            self.seq += 1;
            let senders = (0..AT_ONCE).map(|n| (chunk * AT_ONCE + n) % REPLICAS);
            let (backend, circuits) = (&self.backend, &self.circuits);
            let (seq, since, group) = (self.seq, self.cursor, self.group);
            let sent = senders.map(|n| self.senders[n].clone()).map(|sender| async move {
                let reports = match sends {
                    Sends::Heartbeat => {
                        let version = "0.0.0".to_owned();
                        let heartbeat =
                            Heartbeat { sender, version, impaired: String::new(), seen: 1 };
                        return backend.heartbeat(&heartbeat).await.map(|_| None);
                    }
                    Sends::Change => {
                        let change = OverrideChange::Clear;
                        return backend.set_override(&circuits[0], &change).await.map(|_| None);
                    }
                    Sends::Reports(reports) => reports,
                    Sends::Poll => 0,
                };
                let from = chunk * reports % circuits.len().max(1);
                let reported = circuits.iter().cycle().skip(from).take(reports);
                let reports = reported.map(report).collect();
                let seen = since.version;
                let batch = Batch { sender, seq, since, seen, reports, circuits: Vec::new() };
                backend.sync(group, &batch).await.map(|changes| Some(changes.cursor))
            });
            for cursor in join_all(sent).await {
                self.cursor = cursor?.unwrap_or(self.cursor);
            }
        }
        let (after, used) = (server.scripts()?, server.processor()? - used);
        let scripts = after.0 - before.0;
        Ok([(after.1 - before.1) / scripts, used * 1e6 / scripts])
    }
}

/// What a replica with one call a second, of which 2 % fail, reports after 6 s.
fn report(circuit: &CircuitName) -> Report {
    let count = |age, failures| Count {
        age: Duration::from_millis(age),
        calls: 3,
        failures,
        slow_calls: 0,
    };
    let fails = fastrand::u8(..8) == 0;
    let failures = vec![Failures { age: Duration::from_millis(100), number: 1 }];
    Report {
        circuit: circuit.clone(),
        generation: 1,
        window: Some(Geometry { millis: 60_000, buckets: 10 }),
        counts: vec![count(100, u64::from(fails)), count(3_100, 0)],
        failures: if fails { failures } else { Vec::new() },
        last_success: Some(Duration::from_millis(200)),
        vote: None,
        shares: Shares::None,
        attention: Some(Attention::RollCall { after: 0 }),
    }
}

async fn join_all<T: Send + 'static>(
    futures: impl Iterator<Item = impl Future<Output = T>>,
) -> Vec<T> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(answer) => *done = Some(answer),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    done.into_iter().flatten().collect()
}
