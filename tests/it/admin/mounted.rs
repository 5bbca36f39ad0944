//! Over real sockets: in axum under a prefix, and as a plain hyper service.

use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower_breaker::admin::AdminService;
use tower_breaker::{State, Store};

use super::client::alices;
use crate::support::*;

fn shop() -> Store {
    let store = store(fragile());
    store.circuit("payments");
    store
}

async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address.to_string()
}

fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn fetch(url: &str) -> http::Response<Incoming> {
    client().get(url.parse().unwrap()).await.unwrap()
}

async fn json_of(url: &str) -> Value {
    let body = fetch(url).await.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn nested_in_axum_it_serves_everything_under_its_prefix() {
    let store = shop();
    let app = Router::new()
        .route("/orders", axum::routing::get(async || "orders"))
        .nest_service("/deep/admin", alices(&store));
    let host = serve(app).await;
    for path in ["", "/"] {
        let page = fetch(&format!("http://{host}/deep/admin{path}")).await;
        assert_eq!(page.status(), StatusCode::OK, "{path}");
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    }
    let url = format!("http://{host}/deep/admin/api");
    assert_eq!(json_of(&format!("{url}/overview")).await["circuits"][0]["name"], "payments");
    let set = Request::post(format!("{url}/circuits/payments/override"))
        .header("origin", format!("http://{host}"))
        .header("content-type", "application/json")
        .body(Full::from(json!({ "state": "disabled", "reason": "x" }).to_string()))
        .unwrap();
    assert_eq!(client().request(set).await.unwrap().status(), StatusCode::OK);
    assert_eq!(store.circuit("payments").state(), State::Disabled);
    assert_eq!(fetch(&format!("http://{host}/orders")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_stream_over_a_socket_shows_a_transition() {
    let store = shop();
    let host = serve(Router::new().nest_service("/admin", AdminService::new(store.clone()))).await;
    let mut body = fetch(&format!("http://{host}/admin/events")).await.into_body();
    let mut text = String::new();
    let mut forced = false;
    while !text.contains("event: transition") {
        let frame = tokio::time::timeout(Duration::from_secs(20), body.frame()).await.unwrap();
        text.push_str(std::str::from_utf8(&frame.unwrap().unwrap().into_data().unwrap()).unwrap());
        if text.contains("event: overview") && !std::mem::replace(&mut forced, true) {
            store.circuit("payments").force_open("maintenance");
        }
    }
    assert!(text.starts_with("retry: 1000\n\nevent: overview\nid: "), "{text}");
}

#[tokio::test]
async fn a_plain_hyper_server_serves_it() {
    let admin = alices(&shop());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(admin.clone());
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    assert_eq!(json_of(&format!("http://{host}/api/health")).await["status"], "healthy");
    let page = fetch(&format!("http://{host}/")).await;
    assert!(page.headers().contains_key("content-security-policy"));
}

#[tokio::test]
async fn an_upload_of_ten_megabytes_is_refused_after_its_first_bytes() {
    let host = serve(Router::new().nest_service("/admin", alices(&shop()))).await;
    let mut stream = TcpStream::connect(&host).await.unwrap();
    let head = format!(
        "POST /admin/api/reset HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
         content-length: 10485760\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    // Before anything of the body is sent.
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.len() < 1_000, "the connection is closed");
}

/// 10 000 sockets are more than many systems permit; `connections.rs` has them without sockets.
#[tokio::test]
async fn of_300_sockets_64_are_served_and_a_closed_one_makes_room() {
    let host = serve(Router::new().nest_service("/admin", AdminService::new(shop()))).await;
    let url = format!("http://{host}/admin/events");
    let mut served = Vec::new();
    let mut refused = 0;
    for _ in 0..300 {
        let response = fetch(&url).await;
        match response.status() {
            StatusCode::OK => served.push(response),
            StatusCode::SERVICE_UNAVAILABLE => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!((served.len(), refused), (64, 236));
    served.pop();
    let freed = async {
        while fetch(&url).await.status() != StatusCode::OK {
            tokio::time::sleep(ms(10)).await;
        }
    };
    tokio::time::timeout(s(20), freed).await.unwrap();
}
