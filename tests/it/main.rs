//! The one integration test binary. A folder per subject; the files here concern the whole crate.

#[cfg(feature = "admin")]
mod admin;
mod circuit;
mod cluster;
mod machine;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "replay")]
mod replay;
mod service;
mod stacks;
mod support;

mod autotraits;
mod classify;
mod config;
#[cfg(feature = "serde")]
mod data;
mod health;
mod imports;
mod memory;
mod metrics;
mod mistakes;
mod soak;
mod stats;
mod store;
mod stream;
#[cfg(all(feature = "tower-http", feature = "tower-http-06"))]
mod tower_http;
mod user_code;

// Of the project, not of the crate.
mod links;
#[cfg(feature = "redis")] // It reads JSON with serde_json, which that feature has.
mod public_api;
mod words;
