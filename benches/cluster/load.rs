//! An upstream that fails when it is told to, and replicas that call it at a steady rate.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tower_breaker_benches::clock;

/// How often it is looked whether all are open.
const LOOK_EVERY: Duration = Duration::from_micros(100);

/// How long the upstream takes.
const SERVICE_TIME: Duration = Duration::from_millis(5);

/// What is measured.
pub trait Breaker: Clone + Send + Sync + 'static {
    /// Makes the call, if it may be made. True is a success.
    fn call<F: Future<Output = bool> + Send>(
        &self,
        call: impl FnOnce() -> F + Send,
    ) -> impl Future<Output = ()> + Send;

    fn is_closed(&self) -> impl Future<Output = bool> + Send;
}

/// One time that all opened.
#[derive(Debug)]
pub struct Trip {
    /// From the last failure that was needed until all were open.
    pub all_open_ms: f64,
    /// How many calls reached the upstream after that failure.
    pub leaked: usize,
}

#[derive(Default)]
struct Upstream {
    failing: AtomicBool,
    calls: AtomicU64,
    /// Of this trip: when each call came, and when each failure was answered.
    log: Mutex<(Vec<Instant>, Vec<Instant>)>,
    /// How long calls waited before they were made.
    waits: Mutex<Vec<Duration>>,
}

pub struct Cluster<B> {
    breakers: Vec<B>,
    upstream: Arc<Upstream>,
    drivers: Vec<JoinHandle<()>>,
    threshold: usize,
}

impl<B: Breaker> Cluster<B> {
    pub fn start(breakers: Vec<B>, calls_per_second: u64, threshold: usize) -> Self {
        let upstream = Arc::new(Upstream::default());
        let drive =
            |breaker: &B| tokio::spawn(drive(breaker.clone(), upstream.clone(), calls_per_second));
        let drivers = breakers.iter().map(drive).collect();
        Self { breakers, upstream, drivers, threshold }
    }

    pub fn calls(&self) -> u64 {
        self.upstream.calls.load(Ordering::Relaxed)
    }

    /// How long calls since the last time waited before they were made, in microseconds.
    pub fn waits(&self) -> Vec<f64> {
        let waits = std::mem::take(&mut *self.upstream.waits.lock().unwrap());
        waits.into_iter().map(|wait| wait.as_secs_f64() * 1e6).collect()
    }

    /// Waits until all are closed, and calls flow.
    pub async fn settle(&self) {
        for breaker in &self.breakers {
            while !breaker.is_closed().await {
                sleep(Duration::from_millis(1)).await;
            }
        }
        sleep(Duration::from_millis(300)).await;
    }

    /// Lets the upstream fail until all are open.
    pub async fn trip(&self) -> anyhow::Result<Trip> {
        *self.upstream.log.lock().unwrap() = Default::default();
        self.upstream.failing.store(true, Ordering::Relaxed);
        let last =
            timeout(Duration::from_secs(10), self.all_open()).await.context("not all opened")?;
        // Calls that were let through at the last moment are to arrive.
        sleep(SERVICE_TIME * 2).await;
        self.upstream.failing.store(false, Ordering::Relaxed);
        let (calls, failures) = std::mem::take(&mut *self.upstream.log.lock().unwrap());
        let needed = *failures.get(self.threshold - 1).context("it opened too early")?;
        Ok(Trip {
            all_open_ms: last.saturating_duration_since(needed).as_secs_f64() * 1000.0,
            leaked: calls.iter().filter(|at| **at > needed).count(),
        })
    }

    async fn all_open(&self) -> Instant {
        loop {
            let mut all = true;
            for breaker in &self.breakers {
                all &= !breaker.is_closed().await;
            }
            if all {
                return clock::now();
            }
            // On the thread that runs no other task. Without it, it would take a core from Redis.
            std::thread::sleep(LOOK_EVERY);
        }
    }

    pub async fn stop(self) {
        for driver in self.drivers {
            driver.abort();
            let _ = driver.await;
        }
        sleep(SERVICE_TIME * 4).await;
    }
}

async fn drive<B: Breaker>(breaker: B, upstream: Arc<Upstream>, calls_per_second: u64) {
    let mut tick = interval(Duration::from_secs(1) / u32::try_from(calls_per_second).unwrap());
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        tick.tick().await;
        let (breaker, upstream) = (breaker.clone(), upstream.clone());
        tokio::spawn(async move {
            let start = clock::now();
            let call = || {
                upstream.waits.lock().unwrap().push(start.elapsed());
                serve(&upstream)
            };
            breaker.call(call).await;
        });
    }
}

async fn serve(upstream: &Upstream) -> bool {
    upstream.calls.fetch_add(1, Ordering::Relaxed);
    upstream.log.lock().unwrap().0.push(clock::now());
    sleep(SERVICE_TIME).await;
    let failing = upstream.failing.load(Ordering::Relaxed);
    if failing {
        upstream.log.lock().unwrap().1.push(clock::now());
    }
    !failing
}
