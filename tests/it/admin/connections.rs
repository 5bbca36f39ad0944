//! How many connections there may be, and what each may cost.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use tower::ServiceExt;
use tower_breaker::admin::AdminService;
use tower_breaker::overrides::Override;

use super::client::{Stream, get, read};
use crate::support::*;

async fn open(admin: &AdminService) -> http::Response<tower_breaker::admin::Body> {
    let request = Request::get("/events").body(Full::<Bytes>::default()).unwrap();
    admin.clone().oneshot(request).await.unwrap()
}

/// Without sockets, of which many systems permit fewer. `mounted.rs` has 300.
#[test]
fn of_ten_thousand_connections_64_are_served_and_the_others_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let store = store(fragile());
    for n in 0..100 {
        store.circuit(format!("circuit {n}"));
    }
    let admin = AdminService::new(store);
    let mut served = Vec::new();
    let used = allocation_counter::measure(|| {
        runtime.block_on(async {
            for _ in 0..10_000 {
                let response = open(&admin).await;
                match response.status() {
                    StatusCode::OK => served.push(response),
                    StatusCode::SERVICE_UNAVAILABLE => {
                        assert_eq!(response.headers()["retry-after"], "5");
                    }
                    other => panic!("{other}"),
                }
            }
        });
    });
    assert_eq!(served.len(), 64);
    // The overview of 100 circuits, which all of them share, is the larger part.
    assert!(used.bytes_max < 2 << 20, "{used:?}");
    runtime.block_on(async {
        drop(served);
        assert_eq!(open(&admin).await.status(), StatusCode::OK);
    });
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_drops_frees_its_seat_at_once() {
    let admin = AdminService::new(store(fragile())).connections(1);
    for _ in 0..100 {
        let first = open(&admin).await;
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(open(&admin).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
    }
    let none = AdminService::new(store(fragile())).connections(0);
    assert_eq!(get(&none, "/events").await.error(), "all connections for events are in use");
    assert_eq!(read(&none, "/api/replicas").await, serde_json::json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_falls_behind_is_ended_and_frees_its_seat() {
    let store = store(fragile());
    let payments = store.circuit("payments");
    let admin = AdminService::new(store).connections(2);
    let mut slow = Stream::open(&admin).await;
    let mut quick = Stream::open(&admin).await;
    quick.next("overview").await;
    let reason = "x".repeat(512);
    for _ in 0..1_500 {
        payments.set_override(Override::force_open(&*reason).actor(&*reason));
        payments.reset();
        for _ in 0..2 {
            quick.next("transition").await;
        }
    }
    // The slow one has a seat as long as nothing has looked for its lag; it is not even polled.
    tokio::time::sleep(s(2)).await;
    let third = open(&admin).await;
    assert_eq!(third.status(), StatusCode::OK, "the seat of the slow one is free");
    slow.end().await;
    payments.force_open("afterwards");
    assert_eq!(quick.next("transition").await.data["transition"]["to"], "forced_open");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_reads_nothing_frees_its_seat_after_half_a_minute() {
    let admin = AdminService::new(store(fragile())).connections(2);
    let mut stalled = Stream::open(&admin).await;
    let mut reads = Stream::open(&admin).await;
    let start = now();
    while start.elapsed() < s(25) {
        reads.block().await.unwrap();
    }
    assert_eq!(open(&admin).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    while start.elapsed() < s(50) {
        reads.block().await.unwrap();
    }
    assert_eq!(open(&admin).await.status(), StatusCode::OK, "the seat of the stalled one is free");
    stalled.end().await;
    assert!(reads.block().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn connections_that_come_at_once_share_one_overview() {
    let store = store(fragile());
    let payments = store.circuit("payments");
    let admin = AdminService::new(store);
    let mut first = Stream::open(&admin).await;
    payments.force_open("in between");
    let mut second = Stream::open(&admin).await;
    let overviews = [first.next("overview").await, second.next("overview").await];
    assert_eq!(overviews[0].id, overviews[1].id);
    assert_eq!(overviews[0].data, overviews[1].data);
    // What the shared one does not have follows.
    for stream in [&mut first, &mut second] {
        assert_eq!(stream.circuit("payments").await["state"], "forced_open");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_of_another_site_takes_no_seat() {
    let admin = AdminService::new(store(fragile())).connections(1);
    for (header, value, expected) in [
        ("sec-fetch-site", "cross-site", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "same-site", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "same-origin", StatusCode::OK),
        ("sec-fetch-site", "none", StatusCode::OK),
        ("origin", "http://evil.example", StatusCode::FORBIDDEN),
        ("origin", "null", StatusCode::FORBIDDEN),
        ("origin", "http://orders.internal", StatusCode::OK),
    ] {
        let request = Request::get("/events").header("host", "orders.internal");
        let request = request.header(header, value);
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let response = admin.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), expected, "{header}: {value}");
    }
}
