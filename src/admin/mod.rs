//! Circuits for operators: a page, a JSON API and a stream of events, as a `tower` service.

mod body;
mod guard;
mod hub;
mod input;
mod inputs;
mod log;
mod of_store;
mod of_view;
mod operator;
mod page;
mod read;
mod respond;
mod routes;
mod said;
mod sampler;
mod samples;
mod seats;
mod service;
mod shared;
mod tasks;
mod views;
mod wire;
mod write;

pub use body::Body;
pub use operator::{Denied, Operator};
pub use service::{AdminService, ResponseFuture};
