//! One circuit opens, rejects calls, probes, and closes again.
//!
//! ```sh
//! cargo run --example quickstart
//! ```
//!
//! It takes about six seconds. A client calls a server on this machine ten times a second, through
//! a circuit breaker. The server works, fails, and works again. Expect a line for each change of
//! the circuit's state: open, half-open, open, half-open, closed. At the end: how many calls the
//! circuit breaker kept from the failing server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::{Router, extract, routing::get};
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::time::{Instant, Interval, interval, timeout};
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_breaker::event::Event;
use tower_breaker::{
    CircuitBreaker, CircuitBreakerLayer, Error, Policy, PolicyError, State, Store,
};

/// A hyper client with a circuit breaker around it.
type ProtectedClient = CircuitBreaker<Client<HttpConnector, Empty<Bytes>>>;

/// What you need: a store, a layer, and a service to protect.
fn client(store: &Store) -> Result<ProtectedClient, PolicyError> {
    // Opens at 5 failures in a row, or at half of at least 20 calls in a minute, as by default. The
    // default interval is 30 s; this one is short, so that you see it end.
    let policy = Policy::builder().open_for(Duration::from_secs(1)).build()?;

    Ok(ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(store.clone()).named("greetings").policy(policy))
        .service(Client::builder(TokioExecutor::new()).build_http()))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    timeout(Duration::from_secs(60), story()).await?
}

async fn story() -> Result<(), BoxError> {
    let upstream = Upstream::default();
    let uri = serve(upstream.app()).await?;

    let store = Store::in_memory();
    let client = client(&store)?;
    let circuit = store.circuit("greetings"); // the one that the client uses

    let mut pace = interval(Duration::from_millis(100));
    let start = pace.tick().await;
    circuit.on_change(move |event| {
        if let Event::Transition(change) = event {
            say(start, &change.to_string());
        }
    });
    let mut caller = Caller { client, uri, pace, start, succeeded: 0, failed: 0, rejected: 0 };

    say(start, "the upstream works");
    for _ in 0..10 {
        caller.call().await?;
    }

    say(start, "the upstream fails: it answers 500");
    upstream.broken.store(true, Relaxed);
    while circuit.snapshot().reopenings == 0 {
        caller.call().await?; // until a probe fails
    }

    say(start, "the upstream works again; the next probe finds out");
    upstream.broken.store(false, Relaxed);
    while circuit.state() != State::Closed {
        caller.call().await?;
    }
    for _ in 0..10 {
        caller.call().await?;
    }

    let Caller { succeeded, failed, rejected, .. } = caller;
    let reached = upstream.calls.load(Relaxed);
    let calls = succeeded + failed + rejected;
    println!("\n{calls} calls: {succeeded} succeeded, {failed} failed, {rejected} were rejected");
    println!("{reached} calls reached the upstream; without a circuit breaker, all of them would");
    Ok(())
}

fn say(start: Instant, what: &str) {
    println!("{:5.2} s  {what}", start.elapsed().as_secs_f64());
}

/// Calls the upstream at a steady pace, and counts the results.
struct Caller {
    client: ProtectedClient,
    uri: Uri,
    pace: Interval,
    start: Instant,
    succeeded: u64,
    failed: u64,
    rejected: u64,
}

impl Caller {
    async fn call(&mut self) -> Result<(), http::Error> {
        self.pace.tick().await;
        let request = Request::get(self.uri.clone()).body(Empty::new())?;
        match self.client.clone().oneshot(request).await {
            Ok(response) if response.status().is_success() => self.succeeded += 1,
            Ok(_) | Err(Error::Inner(_)) => self.failed += 1,
            Err(Error::Rejected(open)) => {
                if self.rejected == 0 {
                    say(self.start, &format!("a call is rejected: {open}"));
                }
                self.rejected += 1;
            }
        }
        Ok(())
    }
}

/// A server that fails on demand, and counts the calls that reach it.
#[derive(Clone, Default)]
struct Upstream {
    broken: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
}

impl Upstream {
    fn app(&self) -> Router {
        Router::new().route("/", get(greet)).with_state(self.clone())
    }
}

async fn greet(upstream: extract::State<Upstream>) -> Result<&'static str, StatusCode> {
    upstream.calls.fetch_add(1, Relaxed);
    if upstream.broken.load(Relaxed) { Err(StatusCode::INTERNAL_SERVER_ERROR) } else { Ok("hello") }
}

/// Serves on a free port, and returns its URI.
async fn serve(app: Router) -> Result<Uri, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("http://{}/", listener.local_addr()?).parse()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(uri)
}
