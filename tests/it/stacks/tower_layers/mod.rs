//! Which mode works under which layer: the table in the docs of `service`, cell by cell.

mod errors;
mod waiting;
