//! Replicas that are processes: killed without a word, or with a clock of their own.
//!
//! A replica is this test program, run for its one ignored test with the settings in its environment.

#![expect(clippy::disallowed_methods, reason = "a replica has its settings from its environment")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::broadcast::Receiver;
use tower_breaker::backend::{Backend, Notice, RecordState, RedisBackend, RedisConfig, View};
use tower_breaker::{CircuitName, Outcome, Policy, State, Store};

use crate::support::redis::{LONG, Server, connect, real, until};
use crate::support::*;

const PROBES: u64 = 2;
const LEASE: Duration = ms(300);
const ROUNDS: usize = 1_000;

/// Answers each caller with one byte, after two milliseconds: well, or not. A caller says in which
/// generation it was let through, and how many milliseconds ago it had asked.
#[derive(Clone, Default)]
struct Upstream {
    address: String,
    well: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    /// By generation: when the leases of those that are being served run out.
    now: Arc<Mutex<BTreeMap<u64, Vec<Instant>>>>,
    /// The most leases that were not over and were served at once, of one generation.
    most: Arc<AtomicU64>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let upstream = Self { address, ..Self::default() };
        let server = upstream.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let server = server.clone();
                std::thread::spawn(move || server.serve(stream?));
            }
        });
        upstream
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut said = [[0; 8]; 2];
        stream.read_exact(said.as_flattened_mut())?;
        let [generation, asked] = said.map(u64::from_be_bytes);
        self.calls.fetch_add(1, SeqCst);
        let expires = Instant::now() + LEASE.saturating_sub(ms(asked));
        let at_once = {
            let mut now = self.now.lock().unwrap();
            let leases = now.entry(generation).or_default();
            leases.push(expires);
            leases.iter().filter(|expires| **expires > Instant::now()).count()
        };
        // In the first generation it is closed.
        if generation > View::FIRST {
            self.most.fetch_max(at_once as u64, SeqCst);
        }
        std::thread::sleep(ms(2));
        let mut now = self.now.lock().unwrap();
        let leases = now.get_mut(&generation).unwrap();
        leases.swap_remove(leases.iter().position(|lease| *lease == expires).unwrap());
        drop(now);
        stream.write_all(&[u8::from(self.well.load(SeqCst))])
    }
}

/// A process that calls the upstream as often as its circuit lets it.
struct Process(Child);

impl Process {
    /// With a wall clock that is ahead, if anything.
    fn start(server: &Server, upstream: &Upstream, ahead: Option<&str>) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = match ahead {
            Some(ahead) => {
                let mut command = Command::new("faketime");
                command.args(["-f", ahead]).arg(program);
                // Wait times are told by the monotonic clock, which no machine has an hour off.
                command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
                command
            }
            None => Command::new(program),
        };
        command
            .args(["redis::processes::replica", "--exact", "--ignored", "--nocapture"])
            .env("REPLICA_REDIS", server.url())
            .env("REPLICA_UPSTREAM", &upstream.address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot start a replica ({error}); on Debian: apt-get install faketime")
        });
        Self(child)
    }

    /// Reads what it says until that has `word` in it.
    fn hears(&mut self, word: &str) -> String {
        let out = self.0.stdout.as_mut().unwrap();
        let mut said = String::new();
        let mut byte = [0];
        while !said.ends_with(word) {
            assert_eq!(out.read(&mut byte).unwrap(), 1, "it ended, having said {said:?}");
            said.push(char::from(byte[0]));
        }
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn policy() -> Policy {
    Policy::builder()
        .consecutive_failures(1)
        .open_for(ms(10))
        .backoff(1.0, ms(10))
        .probes(PROBES)
        .successes_to_close(3)
        .probe_lease(LEASE)
        .build()
        .unwrap()
}

#[test]
#[ignore = "the program of a replica; the other tests run it"]
fn replica() {
    let Ok(redis) = std::env::var("REPLICA_REDIS") else { return };
    let upstream = std::env::var("REPLICA_UPSTREAM").unwrap();
    // `faketime` runs this as a child of its own, which does not end with it.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    // One thread, so that nothing comes between a permit and the look at its generation.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // Patient, so that a busy machine is not taken for a Redis that is gone.
        let backend = connect(&RedisConfig::from_url(&redis).unwrap()).await;
        let store = Store::builder().default_policy(policy()).deadline(s(5)).backend(backend);
        let store = store.on_change(|_, event| println!("{event:?}")).build();
        let circuit = store.circuit("test");
        println!("started");
        loop {
            let asked = Instant::now();
            let Ok(permit) = circuit.acquire().await else {
                tokio::time::sleep(ms(1)).await;
                continue;
            };
            // Alone it probes by itself, and its generations are its own.
            let snapshot = circuit.snapshot();
            let generation = if snapshot.detached { View::FIRST } else { snapshot.generation };
            let mut stream = tokio::net::TcpStream::connect(&upstream).await.unwrap();
            let asked = u64::try_from(asked.elapsed().as_millis()).unwrap();
            let _ =
                stream.write_all([generation, asked].map(u64::to_be_bytes).as_flattened()).await;
            let well = stream.read_u8().await.is_ok_and(|well| well == 1);
            permit.settle(if well { Outcome::Success } else { Outcome::failure() });
        }
    });
}

/// Counts rounds, and sees to it that no more leases are out than there are places.
struct Referee {
    ledger: RedisBackend,
    told: Receiver<Notice>,
    name: CircuitName,
    last: u64,
    rounds: usize,
}

impl Referee {
    async fn new(server: &Server) -> Self {
        let ledger = connect(&server.config()).await;
        let told = ledger.subscribe();
        Self { ledger, told, name: CircuitName::new("test").unwrap(), last: 0, rounds: 0 }
    }

    async fn look(&mut self) {
        if let Ok(view) = self.ledger.load(&self.name).await {
            self.see(&view);
        }
        while let Ok(notice) = self.told.try_recv() {
            if let Notice::View(_, view) = notice {
                self.see(&view);
            }
        }
    }

    fn see(&mut self, view: &View) {
        if let RecordState::HalfOpen { out, .. } = view.state {
            assert!(out <= PROBES, "{out} leases out");
            if view.generation > self.last {
                self.rounds += 1;
            }
        }
        self.last = self.last.max(view.generation);
    }
}

#[test]
fn in_a_thousand_rounds_with_replicas_killed_no_more_probes_are_out_than_allowed() {
    let server = Server::start();
    let upstream = Upstream::start();
    let mut replicas: Vec<_> = (0..4).map(|_| Process::start(&server, &upstream, None)).collect();
    real(async {
        let mut referee = Referee::new(&server).await;
        // Not before all of them probe.
        let mut kill_at = 5;
        let enough = tokio::time::Instant::now() + LONG * 15;
        while referee.rounds < ROUNDS {
            referee.look().await;
            if referee.rounds >= kill_at {
                let victim = fastrand::usize(..replicas.len());
                replicas[victim] = Process::start(&server, &upstream, None);
                kill_at = referee.rounds + fastrand::usize(1..40);
            }
            assert!(tokio::time::Instant::now() < enough, "it goes on: {} rounds", referee.rounds);
        }
        let most = upstream.most.load(SeqCst);
        assert!((1..=PROBES).contains(&most), "{most} probes at the upstream at once");

        upstream.well.store(true, SeqCst);
        let closed = async {
            while !matches!(
                referee.ledger.load(&referee.name).await,
                Ok(View { state: RecordState::Closed, .. })
            ) {
                tokio::time::sleep(ms(2)).await;
            }
        };
        tokio::time::timeout(LONG, closed).await.expect("it recovers");
    });
}

#[test]
fn a_replica_whose_clock_is_an_hour_off_agrees_with_the_others() {
    let server = Server::start();
    let upstream = Upstream::start();
    let mut replicas =
        [None, Some("+1h"), Some("-1h")].map(|ahead| Process::start(&server, &upstream, ahead));
    for replica in &mut replicas {
        replica.hears("to: HalfOpen");
        replica.hears("to: Open");
    }
    upstream.well.store(true, SeqCst);
    for replica in &mut replicas {
        replica.hears("to: Closed");
    }
    let before = upstream.calls.load(SeqCst);
    until("calls again", || upstream.calls.load(SeqCst) > before + 100);
    let state = real(async {
        let ledger = connect(&server.config()).await;
        let store = Store::builder().backend(ledger).deadline(s(5)).build();
        drop(store.circuit("test").acquire().await);
        store.circuit("test").state()
    });
    assert_eq!(state, State::Closed);
}
