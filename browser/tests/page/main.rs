//! The page of the operator's service, in a real headless Chromium.
//!
//! Needs Debian's `chromium`, `chromium-driver` and `redis-server`, and axe-core in `target/axe-core`:
//! `scripts/test-browser` gets them. Each test starts its own server and its own browser.

#![expect(
    clippy::disallowed_methods,
    reason = "the lint is for the crate; these are tests on the real clock"
)]

mod keyboard;
mod live;
mod looks;
mod many;
mod overrides;
mod support;
mod text;
