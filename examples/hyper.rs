//! A hyper server with a circuit breaker around its service, without a framework.
//!
//! ```sh
//! cargo run --example hyper
//! ```
//!
//! One client calls over one connection. Expect 200; 502 three times, while the upstream fails; 503
//! with `retry-after` twice, while the circuit is open; and 200 after a second, from a probe. If
//! its service returns an error, hyper closes the connection. With `.respond()` an open circuit is
//! a response, and the connection stays open.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::server;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tower::{BoxError, ServiceBuilder, service_fn};
use tower_breaker::{CircuitBreakerLayer, Policy, Store};

async fn serve(
    listener: TcpListener,
    store: Store,
    broken: Arc<AtomicBool>,
) -> Result<(), BoxError> {
    let policy = Policy::builder()
        .consecutive_failures(3)
        .open_for(Duration::from_secs(1))
        .jitter(0.0)
        .successes_to_close(1)
        .build()?;
    let layer = CircuitBreakerLayer::new(store).named("orders").policy(policy).respond();
    let orders = service_fn(move |_: Request<Incoming>| {
        ready(Ok::<_, Infallible>(ask(broken.load(Relaxed))))
    });
    let service = ServiceBuilder::new().layer(layer).service(orders);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let stream = TokioIo::new(stream);
            let ended = server::conn::http1::Builder::new().serve_connection(stream, service).await;
            if let Err(error) = ended {
                eprintln!("connection failed: {error}");
            }
        });
    }
}

/// Your server calls a database here, or another service.
fn ask(broken: bool) -> Response<Full<Bytes>> {
    let mut response = Response::new("an order\n".into());
    if broken {
        *response.status_mut() = StatusCode::BAD_GATEWAY;
    }
    response
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let broken = Arc::new(AtomicBool::new(false));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(serve(listener, Store::in_memory(), broken.clone()));

    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = http1::handshake(stream).await?;
    tokio::spawn(connection);
    for turn in 0..7 {
        broken.store((1..5).contains(&turn), Relaxed);
        if turn == 6 {
            println!("a little later");
            tokio::time::sleep(Duration::from_millis(1_100)).await;
        }
        sender.ready().await?;
        let request = Request::get("/").header("host", "orders").body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        match response.headers().get(header::RETRY_AFTER) {
            Some(wait) => println!("  {}, retry-after: {}", response.status(), wait.to_str()?),
            None => println!("  {}", response.status()),
        }
    }
    Ok(())
}
