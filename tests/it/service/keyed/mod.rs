//! A circuit for each key of the requests.

mod cluster;
mod direct;
mod eviction;
mod requests;
