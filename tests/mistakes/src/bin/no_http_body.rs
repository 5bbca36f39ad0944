//! Bodies are to be observed, and there are none.

use std::marker::PhantomData;

use mistakes::{NotHttp, call_once};
use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures, Store};
use tower_layer::Layer;

fn main() {
    let layer = CircuitBreakerLayer::new(Store::in_memory()).classify(ErrorsAsFailures);
    call_once(layer.observe_body().layer(NotHttp::<std::io::Error>(PhantomData)));
}
