#![doc = include_str!("../README.md")]
//!
//! # Crate features
//!
#![cfg_attr(feature = "document-features", doc = document_features::document_features!())]
#![cfg_attr(
    not(feature = "document-features"),
    doc = "The comments of `[features]` in Cargo.toml describe them. \
           `cargo doc --all-features` shows them here."
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(target_has_atomic = "64"))]
compile_error!(
    "tower-breaker needs 64-bit atomics, which this target lacks: its circuits keep their state in \
     `AtomicU64`s. Build for a target that has them: every 64-bit one, x86, ARMv7 or wasm32; \
     `rustc --print cfg --target <target>` lists `target_has_atomic=\"64\"` for those"
);

#[cfg(feature = "admin")]
pub mod admin;
pub mod backend;
pub mod circuit;
pub mod classify;
mod clock;
pub mod config;
#[cfg(feature = "serde")]
mod data;
#[cfg(doctest)]
mod doctests;
pub mod event;
pub mod health;
mod machine;
pub mod metrics;
mod name;
mod outcome;
pub mod overrides;
pub mod policy;
#[cfg(feature = "replay")]
pub mod replay;
pub mod service;
pub mod stats;
pub mod store;
mod sync;
mod timestamp;
mod unwind;

pub use circuit::error::Error;
pub use circuit::handle::Circuit;
pub use circuit::rejected::Rejected;
pub use classify::classifier::{Classify, ErrorsAsFailures};
pub use classify::http::HttpStatus;
pub use machine::State;
pub use name::CircuitName;
pub use outcome::Outcome;
pub use policy::check::PolicyError;
pub use policy::settings::Policy;
pub use service::layer::CircuitBreakerLayer;
pub use service::service::CircuitBreaker;
pub use store::builder::StoreBuilder;
pub use store::store::Store;
