//! A fallback with another body than the service.

use std::marker::PhantomData;

use mistakes::{Http, serve};
use tower_breaker::{CircuitBreakerLayer, Store};
use tower_layer::Layer;

fn main() {
    let layer = CircuitBreakerLayer::new(Store::in_memory());
    let fallback = Http::<Vec<u8>>(PhantomData);
    serve(layer.fallback(fallback).layer(Http::<String>(PhantomData)));
}
