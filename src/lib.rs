#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(target_has_atomic = "64"))]
compile_error!(
    "tower-breaker needs 64-bit atomics, which this target lacks: its circuits keep their state in \
     `AtomicU64`s. Build for a target that has them, as all 64-bit ones do, x86, ARMv7 and wasm32; \
     `rustc --print cfg --target <target>` lists `target_has_atomic=\"64\"` for those"
);

pub mod backend;
mod circuit;
mod classify;
mod clock;
pub mod config;
mod machine;
mod name;
mod observe;
mod outcome;
pub mod service;
mod store;
mod timestamp;
mod unwind;

pub use circuit::{
    Circuit, Confirmation, Error, Note, OpenCircuit, Permit, Snapshot, Unserved, find_open,
};
#[cfg(feature = "tower-http")]
pub use classify::TowerHttp;
pub use classify::{Classify, ClassifyFn, ErrorsAsFailures, HttpStatus, HttpStatusOf, NoHeaders};
pub use machine::{
    Cancelled, Event, Origin, Override, Policy, PolicyBuilder, PolicyError, Reason, State, Tally,
    Transition, Window,
};
pub use name::{Name, NameError};
pub use observe::BackendStatus;
pub use outcome::Outcome;
#[cfg(feature = "tower")]
pub use service::RetryUnlessOpen;
pub use service::{CircuitBreaker, CircuitBreakerLayer};
pub use store::{KeyedCircuits, Store, StoreBuilder};
