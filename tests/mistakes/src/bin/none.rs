//! No mistake: the same program with a classifier that fits.

use std::marker::PhantomData;

use mistakes::{NotHttp, call_once};
use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures, Store};
use tower_layer::Layer;

fn main() {
    let layer = CircuitBreakerLayer::new(Store::in_memory()).classify(ErrorsAsFailures);
    call_once(layer.layer(NotHttp::<std::io::Error>(PhantomData)));
}
