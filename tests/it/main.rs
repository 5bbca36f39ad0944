//! The one integration test binary. A promise broken is a test failed: see the names.

mod support;

mod autotraits;
mod axum;
#[cfg(feature = "redis")]
mod backend_agrees;
mod backend_laws;
mod body;
mod cancellation;
mod classify;
mod closed;
mod cluster;
mod cluster_faults;
mod cluster_partly;
mod cluster_sim;
mod config;
mod errors;
mod execute;
mod fallback;
mod found_again;
mod half_open;
mod hyper;
mod imports;
mod keyed;
mod machine_props;
mod memory;
mod mistakes;
mod observe;
mod open;
mod overrides;
mod policy;
#[cfg(feature = "redis")]
mod processes;
#[cfg(feature = "redis")]
mod redis_access;
#[cfg(feature = "redis")]
mod redis_backend;
#[cfg(feature = "redis")]
mod redis_faults;
#[cfg(feature = "redis")]
mod redis_link;
mod reqwest;
#[cfg(feature = "tower")]
mod retry;
mod reuse;
mod running;
mod service;
mod service_props;
mod soak;
mod store;
mod store_locks;
mod threads;
mod timeouts;
mod tonic;
#[cfg(all(feature = "tower-http", feature = "tower-http-06"))]
mod tower_http;
#[cfg(feature = "tower")]
mod under_tower;
mod waiting;
