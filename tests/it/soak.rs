//! Everything at once, for minutes. Run it with:
//! `SOAK_SECONDS=600 cargo test --release --all-features --test it soak -- --ignored --nocapture`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tower_breaker::circuit::Permit;
use tower_breaker::overrides::Override;
use tower_breaker::{Circuit, Outcome, Policy, Store};

use crate::support::*;

const THREADS: u64 = 4;

fn policies() -> [Policy; 3] {
    let quick = Policy::builder().consecutive_failures(3).open_for(ms(5)).probe_lease(ms(5));
    let slow = Policy::only().slow_call_duration(ms(2)).slow_call_rate(0.5).open_for(ms(5));
    let few = Policy::only().failure_count(9).count_window(10).open_for(ms(5));
    [quick, slow, few].map(|policy| policy.build().unwrap())
}

struct World {
    store: Store,
    give: Mutex<Sender<Permit>>,
    take: Mutex<Receiver<Permit>>,
    ends: AtomicBool,
    calls: AtomicU64,
    stores: AtomicU64,
}

impl World {
    fn end(&self, permit: Permit, dice: &mut fastrand::Rng) {
        self.calls.fetch_add(1, Relaxed);
        match dice.u8(..8) {
            0 => permit.settle(Outcome::failure()),
            1 => permit.settle(Outcome::failure_with_hint(ms(1))),
            2 => permit.settle(Outcome::Ignored),
            3 => drop(permit),
            4 => self.give.lock().unwrap().send(permit).unwrap(),
            5 => {
                let panic = || {
                    let _permit = permit;
                    std::panic::resume_unwind(Box::new("as planned"));
                };
                assert!(catch_unwind(AssertUnwindSafe(panic)).is_err());
            }
            _ => permit.settle(Outcome::Success),
        }
    }

    fn call(&self, circuit: &Circuit, dice: &mut fastrand::Rng) {
        if let Ok(permit) = circuit.try_acquire() {
            self.end(permit, dice);
        }
    }

    fn step(&self, dice: &mut fastrand::Rng) {
        let named = self.store.circuit(["a", "b", "c"][dice.usize(..3)]);
        match dice.u32(..1_000) {
            0 => drop(named.set_override(Override::force_open("soak").lasting(ms(1)))),
            1 => drop(named.metrics_only("soak")),
            2..10 => drop(named.reset()),
            10..20 => drop(named.probe_now()),
            20..30 => drop(named.snapshot()),
            30 => self.store.set_policy("a", policies()[dice.usize(..3)].clone()),
            31..60 => {
                // A store that is dropped before its permit, its handle or its observer.
                let store = Store::builder().default_policy(policies()[0].clone()).build();
                let circuit = store.circuit("short-lived");
                circuit.on_change(|_| std::panic::resume_unwind(Box::new("as planned")));
                drop(store);
                for _ in 0..5 {
                    self.call(&circuit, dice);
                }
                self.stores.fetch_add(1, Relaxed);
            }
            60..500 => {
                let key = format!("host {}", dice.u32(..3_000));
                if let Some(circuit) = self.store.keyed("hosts").circuit(&key) {
                    self.call(&circuit, dice);
                }
            }
            _ => self.call(&named, dice),
        }
        while let Ok(permit) = { self.take.lock().unwrap().try_recv() } {
            permit.settle(Outcome::Success);
        }
    }
}

/// The resident memory of this process in megabytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096 / 1_000_000
}

#[test]
#[ignore = "takes minutes"]
fn memory_stays_flat_under_everything_at_once() {
    #[expect(clippy::disallowed_methods, reason = "a setting of the test")]
    let seconds = std::env::var("SOAK_SECONDS").map_or(60, |text| text.parse().unwrap());
    let (give, take) = channel();
    let world = Arc::new(World {
        store: Store::builder().default_policy(policies()[0].clone()).key_limit(500).build(),
        give: Mutex::new(give),
        take: Mutex::new(take),
        ends: AtomicBool::new(false),
        calls: AtomicU64::new(0),
        stores: AtomicU64::new(0),
    });
    let threads: Vec<_> = (0..THREADS)
        .map(|seed| {
            let world = world.clone();
            std::thread::spawn(move || {
                let mut dice = fastrand::Rng::with_seed(seed);
                while !world.ends.load(Relaxed) {
                    world.step(&mut dice);
                }
            })
        })
        .collect();
    let mut early = 0;
    for tenth in 1..=10 {
        std::thread::sleep(Duration::from_secs(seconds) / 10);
        if tenth == 1 {
            early = resident();
        }
        let (calls, stores) = (world.calls.load(Relaxed), world.stores.load(Relaxed));
        println!("{calls} calls, {stores} stores, {} MB", resident());
    }
    world.ends.store(true, Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(resident() <= early + 10, "{early} MB after a tenth of the time, {} now", resident());
    assert!(world.store.circuits().len() <= 503);
}
