//! What threads share: the standard library's types, or the model checker's under `--cfg
//! breaker_loom`.

#[cfg(not(all(test, breaker_loom)))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

#[cfg(all(test, breaker_loom))]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering},
};
