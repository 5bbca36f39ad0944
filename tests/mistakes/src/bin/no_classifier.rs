//! A response that is not HTTP, and no classifier chosen.

use std::marker::PhantomData;

use mistakes::{NotHttp, call_once};
use tower_breaker::{CircuitBreakerLayer, Store};
use tower_layer::Layer;

fn main() {
    let layer = CircuitBreakerLayer::new(Store::in_memory());
    call_once(layer.layer(NotHttp::<std::io::Error>(PhantomData)));
}
