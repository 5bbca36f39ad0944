//! A rejection is to be a response, and there is no body for it.

use std::marker::PhantomData;

use mistakes::{Http, serve};
use tower_breaker::{CircuitBreakerLayer, Store};
use tower_layer::Layer;

struct NoDefault;

fn main() {
    let layer = CircuitBreakerLayer::new(Store::in_memory());
    serve(layer.respond().layer(Http::<NoDefault>(PhantomData)));
}
