//! An upstream that fails on demand, and records its calls.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;

#[derive(Default)]
struct Shared {
    failing: AtomicBool,
    busy: AtomicUsize,
    calls: Mutex<Vec<Call>>,
}

/// How long a response takes.
const TAKES: Duration = Duration::from_millis(5);

/// One call: when it came, from which replica, how many calls were running, and whether it failed.
pub(crate) struct Call {
    pub(crate) at: Instant,
    replica: String,
    busy: usize,
    failed: bool,
}

pub(crate) struct Upstream {
    url: String,
    shared: Arc<Shared>,
}

impl Upstream {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let app = Router::new().fallback(serve).with_state(shared.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { url, shared })
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn fail(&self, fail: bool) {
        self.shared.failing.store(fail, Ordering::Relaxed);
    }

    /// Returns when the n-th failure since the last call was answered, and how many calls came
    /// later.
    pub(crate) fn after_failure(&self, n: usize) -> Option<(Instant, usize)> {
        let calls = self.take();
        let nth = calls.iter().filter(|call| call.failed).nth(n - 1)?.at + TAKES;
        Some((nth, calls.iter().filter(|call| call.at > nth).count()))
    }

    /// Returns the calls since the last call of this method.
    pub(crate) fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.shared.calls.lock().unwrap())
    }

    /// Returns which replicas made the first calls, and how many of these calls ran at once.
    pub(crate) fn take_probes(&self, first: usize) -> (Vec<String>, usize) {
        let probes: Vec<_> = self.take().into_iter().take(first).collect();
        let at_once = probes.iter().map(|call| call.busy).max().unwrap_or_default();
        (probes.into_iter().map(|call| call.replica).collect(), at_once)
    }
}

async fn serve(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> StatusCode {
    let busy = shared.busy.fetch_add(1, Ordering::Relaxed) + 1;
    let replica = headers.get("x-replica").and_then(|replica| replica.to_str().ok());
    let replica = replica.unwrap_or("?").to_owned();
    // Decided when the call comes, so that the record and the response agree.
    let failed = shared.failing.load(Ordering::Relaxed);
    shared.calls.lock().unwrap().push(Call { at: Instant::now(), replica, busy, failed });
    tokio::time::sleep(TAKES).await;
    shared.busy.fetch_sub(1, Ordering::Relaxed);
    if failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}
