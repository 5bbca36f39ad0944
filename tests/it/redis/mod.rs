//! A real Redis, in real time.

mod access;
mod address;
mod connection;
mod data_loss;
mod edited;
mod history;
mod impaired;
mod passwords;
mod processes;
mod records;
mod replicas;
mod scale;
mod unreachable;
