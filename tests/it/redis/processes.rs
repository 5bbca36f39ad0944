//! Replicas that are processes: killed at any moment, or with a wrong clock.
//!
//! A replica is this test program, run for its ignored test `replica` with settings in its
//! environment.

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

use crate::support::redis::{Ask, LONG, Server, connect, real, until};
use crate::support::*;

const PROBES: u64 = 2;
const LEASE: Duration = ms(300);
const ROUNDS: usize = 1_000;

/// Answers each caller with one byte, after two milliseconds: whether it succeeds. A caller says in
/// which generation it was admitted, and how many milliseconds ago it had asked.
#[derive(Clone, Default)]
struct Upstream {
    address: String,
    succeeds: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    /// When the leases of the calls in flight expire, by generation.
    now: Arc<Mutex<BTreeMap<u64, Vec<Instant>>>>,
    /// The most calls with unexpired leases that were in flight at once in one generation.
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
        let mut request = [[0; 8]; 2];
        stream.read_exact(request.as_flattened_mut())?;
        let [generation, asked] = request.map(u64::from_be_bytes);
        self.calls.fetch_add(1, SeqCst);
        let expires = Instant::now() + LEASE.saturating_sub(ms(asked));
        let at_once = {
            let mut now = self.now.lock().unwrap();
            let leases = now.entry(generation).or_default();
            leases.push(expires);
            leases.iter().filter(|expires| **expires > Instant::now()).count()
        };
        // In the first generation the circuit is closed.
        if generation > View::FIRST {
            self.most.fetch_max(at_once as u64, SeqCst);
        }
        std::thread::sleep(ms(2));
        let mut now = self.now.lock().unwrap();
        let leases = now.get_mut(&generation).unwrap();
        leases.swap_remove(leases.iter().position(|lease| *lease == expires).unwrap());
        drop(now);
        stream.write_all(&[u8::from(self.succeeds.load(SeqCst))])
    }
}

/// A process that calls the upstream as often as its circuit admits.
struct Process(Child);

impl Process {
    /// Starts a process, whose wall clock may be `ahead`.
    fn start(server: &Server, upstream: &Upstream, ahead: Option<&str>) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = match ahead {
            Some(ahead) => {
                let mut command = Command::new("faketime");
                command.args(["-f", ahead]).arg(program);
                // Intervals are measured by the monotonic clock, which is right on every machine.
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

    /// Reads the output of the process until it has `word` in it.
    fn read_until(&mut self, word: &str) -> String {
        let out = self.0.stdout.as_mut().unwrap();
        let mut output = String::new();
        let mut byte = [0];
        while !output.ends_with(word) {
            assert_eq!(out.read(&mut byte).unwrap(), 1, "it ended after {output:?}");
            output.push(char::from(byte[0]));
        }
        output
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
    // `faketime` runs this program as a child, which does not end with it.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    // One thread, so that the generation cannot change between a permit and its snapshot.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // Patience, so that a busy machine is not taken for a Redis that is down.
        let backend = connect(&RedisConfig::from_url(&redis).unwrap()).await;
        let store = Store::builder().default_policy(policy()).deadline(s(5)).backend(backend);
        // All of them run on one host, whose name would make them one replica.
        let store = store.replica(format!("process {}", std::process::id()));
        let store = store.on_change(|_, event| println!("{event:?}")).build();
        let circuit = store.circuit("test");
        println!("started");
        loop {
            let asked = Instant::now();
            let Ok(permit) = circuit.acquire().await else {
                tokio::time::sleep(ms(1)).await;
                continue;
            };
            // The generations of a detached circuit are its own.
            let snapshot = circuit.snapshot();
            let generation = if snapshot.detached { View::FIRST } else { snapshot.generation };
            let mut stream = tokio::net::TcpStream::connect(&upstream).await.unwrap();
            let asked = u64::try_from(asked.elapsed().as_millis()).unwrap();
            let _ =
                stream.write_all([generation, asked].map(u64::to_be_bytes).as_flattened()).await;
            let succeeds = stream.read_u8().await.is_ok_and(|succeeds| succeeds == 1);
            permit.settle(if succeeds { Outcome::Success } else { Outcome::failure() });
        }
    });
}

/// Counts half-open rounds, and asserts that no more leases are out than there are probe slots.
struct Monitor {
    backend: RedisBackend,
    notices: Receiver<Notice>,
    name: CircuitName,
    last: u64,
    rounds: usize,
}

impl Monitor {
    async fn new(server: &Server) -> Self {
        let backend = connect(&server.config()).await;
        let notices = backend.subscribe();
        Self { backend, notices, name: CircuitName::new("test").unwrap(), last: 0, rounds: 0 }
    }

    async fn look(&mut self) {
        if let Ok(view) = self.backend.load(&self.name).await {
            self.see(&view);
        }
        while let Ok(notice) = self.notices.try_recv() {
            if let Notice::Changed { view, .. } = notice {
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
fn killed_replicas_never_cause_more_probes_than_slots() {
    let server = Server::start();
    let upstream = Upstream::start();
    let mut replicas: Vec<_> = (0..4).map(|_| Process::start(&server, &upstream, None)).collect();
    real(async {
        let mut monitor = Monitor::new(&server).await;
        // Kill none before all of them probe.
        let mut kill_at = 5;
        let enough = tokio::time::Instant::now() + LONG * 15;
        while monitor.rounds < ROUNDS {
            monitor.look().await;
            if monitor.rounds >= kill_at {
                let victim = fastrand::usize(..replicas.len());
                replicas[victim] = Process::start(&server, &upstream, None);
                kill_at = monitor.rounds + fastrand::usize(1..40);
            }
            assert!(tokio::time::Instant::now() < enough, "only {} rounds", monitor.rounds);
        }
        let most = upstream.most.load(SeqCst);
        assert!((1..=PROBES).contains(&most), "{most} probes at the upstream at once");

        upstream.succeeds.store(true, SeqCst);
        let closed = async {
            while !matches!(
                monitor.backend.load(&monitor.name).await,
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
        replica.read_until("to: HalfOpen");
        replica.read_until("to: Open");
    }
    upstream.succeeds.store(true, SeqCst);
    for replica in &mut replicas {
        replica.read_until("to: Closed");
    }
    let before = upstream.calls.load(SeqCst);
    until("calls again", || upstream.calls.load(SeqCst) > before + 100);
    let state = real(async {
        let backend = connect(&server.config()).await;
        let store = Store::builder().backend(backend).deadline(s(5)).build();
        drop(store.circuit("test").acquire().await);
        store.circuit("test").state()
    });
    assert_eq!(state, State::Closed);
}
