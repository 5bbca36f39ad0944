//! The service for operators.

mod backend;
mod client;
mod connections;
mod events;
mod hostile;
mod late;
mod lifetime;
mod mounted;
mod reads;
#[cfg(feature = "redis")]
mod redis;
mod refused;
mod writes;
