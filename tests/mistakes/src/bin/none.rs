//! No mistake: the same programs as they should be.

use std::borrow::Cow;
use std::marker::PhantomData;

use mistakes::{Http, NotHttp, call_once, serve};
use tower_breaker::{CircuitBreakerLayer, ErrorsAsFailures, Store};
use tower_layer::Layer;

fn main() {
    let layer = CircuitBreakerLayer::new(Store::in_memory());
    call_once(layer.clone().classify(ErrorsAsFailures).layer(NotHttp::<std::io::Error>(PhantomData)));

    let fallback = || Http::<String>(PhantomData);
    serve(layer.clone().fallback(fallback()).layer(fallback()));
    let _ = layer.clone().respond().observe_body();
    let _ = layer.clone().keyed_by_fn(|key: &String| Some(Cow::from(key.as_str())));
    serve(layer.respond().layer(Http::<String>(PhantomData)));
}
