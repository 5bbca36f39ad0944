//! A hyper server, over real sockets. An error would close the connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tower::{ServiceBuilder, service_fn};
use tower_breaker::{CircuitBreakerLayer, State, Store};

use crate::support::*;

/// Serves both versions of HTTP behind a circuit breaker. Returns a connection, and the switch that
/// breaks the upstream.
async fn serve(store: &Store) -> (TcpStream, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let layer = CircuitBreakerLayer::new(store.clone()).named("test").respond();
    let switch = broken.clone();
    let handler = service_fn(move |_: Request<Incoming>| {
        let broken = switch.load(Ordering::SeqCst);
        let status = if broken { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
        let response = Response::builder().status(status).body(Full::<Bytes>::from("reply"));
        async move { Ok::<_, Infallible>(response.unwrap()) }
    });
    let service = ServiceBuilder::new().layer(layer).service(handler);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        drop(listener);
        let server = auto::Builder::new(TokioExecutor::new());
        let service = TowerToHyperService::new(service);
        server.serve_connection(TokioIo::new(stream), service).await.unwrap();
    });
    (TcpStream::connect(address).await.unwrap(), broken)
}

/// What the client of one connection sees. `$sender` is its end of the connection.
macro_rules! an_open_circuit_is_503_and_keeps_the_connection {
    ($store:ident, $broken:ident, $sender:ident) => {
        for (broken, status) in [(false, 200), (true, 502), (true, 503), (false, 503)] {
            $broken.store(broken, Ordering::SeqCst);
            $sender.ready().await.unwrap();
            let request = Request::get("http://test/").body(Empty::<Bytes>::new()).unwrap();
            let response = $sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), status);
            if status == 503 {
                let seconds = response.headers()["retry-after"].to_str().unwrap();
                assert!((1..=10).contains(&seconds.parse().unwrap()), "{seconds}");
            }
        }
        assert_state(&$store.circuit("test"), State::Open);
        $store.circuit("test").reset();
        $sender.ready().await.unwrap();
        let request = Request::get("http://test/").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!($sender.send_request(request).await.unwrap().status(), 200);
    };
}

#[tokio::test]
async fn an_open_circuit_is_503_in_http_1_and_keeps_the_connection() {
    let store = store(fragile());
    let (stream, broken) = serve(&store).await;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    an_open_circuit_is_503_and_keeps_the_connection!(store, broken, sender);
}

#[tokio::test]
async fn an_open_circuit_is_503_in_http_2_and_keeps_the_connection() {
    let store = store(fragile());
    let (stream, broken) = serve(&store).await;
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    an_open_circuit_is_503_and_keeps_the_connection!(store, broken, sender);
}
