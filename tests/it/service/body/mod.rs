//! Calls that end when the response body ends.

mod ends;
mod judged;
mod panics;
mod script;
