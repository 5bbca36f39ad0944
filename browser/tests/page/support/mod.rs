//! What the tests share: a browser, the service, a Redis, circuits in every state.

pub(crate) mod browser;
pub(crate) mod circuits;
pub(crate) mod redis;
pub(crate) mod service;

use std::time::Duration;

/// Longer than anything here takes on any machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// What the page promises, and how a state reaches other replicas.
pub(crate) const ONE_SECOND: Duration = Duration::from_secs(1);

/// How often a condition is checked.
pub(crate) const CHECK_EVERY: Duration = Duration::from_millis(5);

/// Waits for a condition in this process.
pub(crate) async fn until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(CHECK_EVERY).await;
        }
    };
    let found = tokio::time::timeout(within, waiting).await;
    assert!(found.is_ok(), "waited {within:?} in vain: {what}");
}

/// The folder of artefacts of the workspace.
pub(crate) fn target() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target")
}
