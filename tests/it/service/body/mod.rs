//! Calls that end when the response body ends.

mod judged;
