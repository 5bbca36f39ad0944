//! The circuit breaker in real servers and clients, and under the layers of tower.

mod axum;
mod hyper;
mod reqwest;
#[cfg(feature = "tower")]
mod retry;
mod timeouts;
mod tonic;
#[cfg(feature = "tower")]
mod tower_layers;
