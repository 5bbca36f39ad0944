//! A fallback, and bodies that are observed.

use std::marker::PhantomData;

use mistakes::Http;
use tower_breaker::{CircuitBreakerLayer, Store};

fn main() {
    let layer = CircuitBreakerLayer::new(Store::in_memory());
    let _ = layer.fallback(Http::<String>(PhantomData)).observe_body();
}
