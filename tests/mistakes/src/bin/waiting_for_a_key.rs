//! A service that waits while it is open, and a circuit for each key.

use std::borrow::Cow;

use tower_breaker::{CircuitBreakerLayer, Store};

fn main() {
    let layer = CircuitBreakerLayer::new(Store::in_memory());
    let _ = layer.wait_while_open().keyed_by_fn(|key: &String| Some(Cow::from(key.as_str())));
}
