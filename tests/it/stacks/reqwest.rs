//! Around the client of reqwest, over real sockets. For reqwest a 5xx is a success.

use std::time::Duration;

use axum::{Router, http::StatusCode, routing::get};
use reqwest::{Client, Method, Request};
use tokio::net::TcpListener;
use tower::{Layer, Service, ServiceExt};
use tower_breaker::{CircuitBreakerLayer, Error, HttpStatus, State, Store};

use crate::support::*;

fn client(
    store: &Store,
    client: Client,
) -> impl Service<Request, Response = reqwest::Response, Error = Error<reqwest::Error>> + Clone {
    CircuitBreakerLayer::new(store.clone())
        .named("test")
        .classify(
            HttpStatus::of(reqwest::Response::status).with_headers(reqwest::Response::headers),
        )
        .layer(client)
}

fn request(url: &str) -> Request {
    Request::new(Method::GET, url.parse().unwrap())
}

async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}/")
}

#[tokio::test]
async fn a_5xx_is_a_failure_although_reqwest_returns_ok() {
    let store = store(fragile());
    let app = Router::new()
        .route("/", get(async || StatusCode::BAD_GATEWAY))
        .route("/found", get(async || StatusCode::NOT_FOUND));
    let url = serve(app).await;
    let client = client(&store, Client::new());
    let response = client.clone().oneshot(request(&format!("{url}found"))).await.unwrap();
    assert_eq!(response.status(), 404);
    assert_state(&store.circuit("test"), State::Closed);
    assert_eq!(client.clone().oneshot(request(&url)).await.unwrap().status(), 502);
    assert_state(&store.circuit("test"), State::Open);
    assert!(client.oneshot(request(&url)).await.unwrap_err().is_rejected());
}

#[tokio::test]
async fn a_retry_after_header_extends_the_open_interval() {
    let store = store(fragile());
    let busy = async || (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "50")]);
    let url = serve(Router::new().route("/", get(busy))).await;
    let client = client(&store, Client::new());
    assert_eq!(client.clone().oneshot(request(&url)).await.unwrap().status(), 503);
    let Error::Rejected(rejection) = client.oneshot(request(&url)).await.unwrap_err() else {
        panic!("it is open");
    };
    // Longer than the 10 s of the policy.
    assert_eq!(rejection.retry_after_seconds(), Some(50));
}

#[tokio::test]
async fn a_refused_connection_is_a_failure() {
    let store = store(fragile());
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", free.local_addr().unwrap());
    drop(free);
    let client = client(&store, Client::new());
    let error = client.clone().oneshot(request(&url)).await.unwrap_err();
    assert!(matches!(error, Error::Inner(error) if error.is_connect()));
    assert!(client.oneshot(request(&url)).await.unwrap_err().is_rejected());
}

#[tokio::test]
async fn a_timeout_of_reqwest_is_a_failure() {
    let store = store(fragile());
    let url = serve(Router::new().route("/", get(std::future::pending::<()>))).await;
    let impatient = Client::builder().timeout(Duration::from_millis(20)).build().unwrap();
    let client = client(&store, impatient);
    let error = client.clone().oneshot(request(&url)).await.unwrap_err();
    assert!(matches!(error, Error::Inner(error) if error.is_timeout()));
    assert!(client.oneshot(request(&url)).await.unwrap_err().is_rejected());
}
