//! The program as a whole, on servers of its own.

mod program;
mod server;
mod top;
