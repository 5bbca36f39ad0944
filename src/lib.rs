#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

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

pub use circuit::{Circuit, Confirmation, Error, Note, OpenCircuit, Permit, Snapshot, find_open};
#[cfg(feature = "tower-http")]
pub use classify::TowerHttp;
pub use classify::{Classify, ClassifyFn, ErrorsAsFailures, HttpStatus, HttpStatusOf, NoHeaders};
pub use machine::{
    Cancelled, Event, Origin, Override, Policy, PolicyBuilder, PolicyError, Reason, State, Tally,
    Transition,
};
pub use name::{Name, NameError};
pub use observe::BackendStatus;
pub use outcome::Outcome;
#[cfg(feature = "tower")]
pub use service::RetryUnlessOpen;
pub use service::{CircuitBreaker, CircuitBreakerLayer};
pub use store::{Store, StoreBuilder};
