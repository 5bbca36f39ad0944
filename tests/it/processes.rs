//! Replicas that are processes: killed without a word, or with a clock of their own.
//!
//! A replica is this test program, run for its one ignored test with the settings in its environment.

#![expect(clippy::disallowed_methods, reason = "a replica has its settings from its environment")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::broadcast::Receiver;
use tower_breaker::backend::{Backend, Notice, RedisBackend, RedisConfig, Standing, View};
use tower_breaker::{Name, Outcome, Policy, State, Store};

use crate::support::redis::{LONG, Server, real, until};
use crate::support::*;

const PROBES: u64 = 2;
const ROUNDS: usize = 1_000;

/// Answers each caller with one byte, after two milliseconds: well, or not.
struct Upstream {
    address: String,
    well: Arc<AtomicBool>,
    most_at_once: Arc<AtomicI64>,
    calls: Arc<AtomicU64>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (well, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (at_once, most_at_once) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
        let upstream = Self { address, well: well.clone(), most_at_once, calls };
        let (most, calls) = (upstream.most_at_once.clone(), upstream.calls.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (well, at_once, most) = (well.clone(), at_once.clone(), most.clone());
                calls.fetch_add(1, SeqCst);
                std::thread::spawn(move || {
                    let mut stream = stream?;
                    let now = at_once.fetch_add(1, SeqCst) + 1;
                    most.fetch_max(now, SeqCst);
                    std::thread::sleep(ms(2));
                    at_once.fetch_sub(1, SeqCst);
                    stream.write_all(&[u8::from(well.load(SeqCst))])
                });
            }
        });
        upstream
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
            .args(["processes::replica", "--exact", "--ignored", "--nocapture"])
            .env("REPLICA_REDIS", server.url())
            .env("REPLICA_UPSTREAM", &upstream.address)
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
        .backoff(1, ms(10))
        .probes(PROBES)
        .successes_to_close(3)
        .probe_lease(ms(300))
        .build()
        .unwrap()
}

#[test]
#[ignore = "the program of a replica; the other tests run it"]
fn replica() {
    let Ok(redis) = std::env::var("REPLICA_REDIS") else { return };
    let upstream = std::env::var("REPLICA_UPSTREAM").unwrap();
    real(async {
        // Patient, so that a busy machine is not taken for a Redis that is gone.
        let config = RedisConfig::from_url(&redis).unwrap().command_timeout(s(2));
        let backend = RedisBackend::connect(&config).await.unwrap();
        let store = Store::builder().default_policy(policy()).deadline(s(5)).backend(backend);
        let store = store.on_change(|_, event| println!("{event:?}")).build();
        let circuit = store.circuit("test");
        println!("started");
        loop {
            let Ok(permit) = circuit.acquire().await else {
                tokio::time::sleep(ms(1)).await;
                continue;
            };
            let mut stream = tokio::net::TcpStream::connect(&upstream).await.unwrap();
            let _ = stream.write_all(b"?").await;
            let well = stream.read_u8().await.is_ok_and(|well| well == 1);
            permit.settle(if well { Outcome::Success } else { Outcome::failure() });
        }
    });
}

/// Counts rounds, and sees to it that no more leases are out than there are places.
struct Referee {
    ledger: RedisBackend,
    told: Receiver<Notice>,
    name: Name,
    last: u64,
    rounds: usize,
}

impl Referee {
    async fn new(server: &Server) -> Self {
        let ledger = RedisBackend::connect(&server.config()).await.unwrap();
        let told = ledger.subscribe();
        Self { ledger, told, name: Name::new("test").unwrap(), last: 0, rounds: 0 }
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
        if let Standing::HalfOpen { out, .. } = view.standing {
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
        while referee.rounds < 5 {
            referee.look().await;
        }
        // What was called before it first opened were no probes.
        upstream.most_at_once.store(0, SeqCst);
        let mut kill_at = 0;
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
        let most = upstream.most_at_once.load(SeqCst);
        assert!(most <= PROBES.cast_signed(), "{most} probes at the upstream at once");

        upstream.well.store(true, SeqCst);
        let closed = async {
            while !matches!(
                referee.ledger.load(&referee.name).await,
                Ok(View { standing: Standing::Closed, .. })
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
    let server = server.config();
    let state = real(async {
        let ledger = RedisBackend::connect(&server).await.unwrap();
        let store = Store::builder().backend(ledger).build();
        drop(store.circuit("test").acquire().await);
        store.circuit("test").state()
    });
    assert_eq!(state, State::Closed);
}
