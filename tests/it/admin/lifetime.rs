//! What ends when, and what keeps what alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tower_breaker::Store;
use tower_breaker::admin::AdminService;

use super::client::{Stream, get};
use crate::support::*;

/// A store whose observer shows whether it is alive.
fn watched() -> (Store, Arc<()>) {
    let alive = Arc::new(());
    let held = alive.clone();
    let store = Store::builder()
        .on_change(move |_, _| {
            let _ = &held;
        })
        .build();
    (store, alive)
}

#[tokio::test(start_paused = true)]
async fn when_the_last_clone_is_dropped_its_tasks_end_and_the_store_with_them() {
    let (store, alive) = watched();
    let admin = AdminService::new(store);
    let mut stream = Stream::open(&admin).await;
    stream.next("overview").await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks(), 2, "the sampler and the hub");
    let clone = admin.clone();
    drop(admin);
    tokio::time::sleep(s(3)).await;
    assert_eq!(tasks(), 2);
    drop(clone);
    stream.end().await;
    tokio::time::sleep(s(1)).await;
    assert_eq!(tasks(), 0);
    assert_eq!(Arc::strong_count(&alive), 1, "the store is gone");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_configured_keeps_one_sampler() {
    let (store, _alive) = watched();
    let admin = AdminService::new(store).title("a").connections(3).title("b");
    tokio::time::sleep(s(1)).await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 1);
    drop(admin);
}

#[tokio::test(start_paused = true)]
async fn the_hub_ends_some_seconds_after_the_last_connection() {
    let admin = AdminService::new(Store::in_memory());
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut stream = Stream::open(&admin).await;
    stream.next("overview").await;
    tokio::time::sleep(s(25)).await;
    assert_eq!(tasks(), 2);
    drop(stream);
    tokio::time::sleep(s(10)).await;
    assert_eq!(tasks(), 1, "the sampler");
    let mut again = Stream::open(&admin).await;
    again.next("overview").await;
    assert_eq!(tasks(), 2);
}

#[tokio::test(start_paused = true)]
async fn close_ends_all_streams_and_lets_no_new_ones_begin() {
    let admin = AdminService::new(Store::in_memory());
    let mut streams = [Stream::open(&admin).await, Stream::open(&admin).await];
    admin.close();
    for stream in &mut streams {
        stream.end().await;
    }
    assert_eq!(get(&admin, "/events").await.status, 503);
    assert_eq!(get(&admin, "/api/overview").await.status, 200);
}

#[test]
fn a_service_outlives_the_runtime_in_which_it_was_made() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = Store::in_memory();
    let admin = runtime().block_on(async {
        let admin = AdminService::new(store.clone());
        Stream::open(&admin).await.next("overview").await;
        admin
    });
    runtime().block_on(async {
        let mut stream = Stream::open(&admin).await;
        stream.next("overview").await;
        store.circuit("payments").force_open("x");
        stream.next("transition").await;
    });
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_uses_the_service_does_not_deadlock_it() {
    let used = Arc::new(AtomicUsize::new(0));
    let slot: Arc<std::sync::OnceLock<AdminService>> = Arc::default();
    let (counter, service) = (used.clone(), Arc::downgrade(&slot));
    let policy = fragile().jitter(0.0).build().unwrap();
    let store = Store::builder()
        .default_policy(policy)
        .on_change(move |_, _| {
            let Some(slot) = service.upgrade() else { return };
            let Some(admin) = slot.get() else { return };
            let overview = tokio_test::task::spawn(get(admin, "/api/overview")).poll();
            counter.fetch_add(usize::from(overview.is_ready()), Ordering::SeqCst);
        })
        .build();
    let payments = store.circuit("payments");
    slot.set(AdminService::new(store)).unwrap();
    let admin = slot.get().unwrap();
    let mut stream = Stream::open(admin).await;
    stream.next("overview").await;
    let set = tower_breaker::overrides::Override::force_open("x").lasting(s(3));
    payments.set_override(set);
    // The hub is the first that sees its end, so its look at the circuit calls the observer.
    while stream.circuit("payments").await["state"] != "closed" {}
    assert_eq!(used.load(Ordering::SeqCst), 2);
}
