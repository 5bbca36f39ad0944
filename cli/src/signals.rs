//! Signals.

use crate::failure::Failure;

/// The signals that end a program: that the terminal interrupts it or is gone, and that something asks.
#[cfg(unix)]
pub(crate) struct Ends([(tokio::signal::unix::Signal, i32); 3]);

#[cfg(unix)]
impl Ends {
    pub(crate) fn new() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};

        let of = |kind: SignalKind| Ok::<_, Failure>((signal(kind)?, kind.as_raw_value()));
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(of);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    /// The number of the signal.
    pub(crate) async fn next(&mut self) -> i32 {
        let [(a, first), (b, second), (c, third)] = &mut self.0;
        tokio::select! {
            _ = a.recv() => *first,
            _ = b.recv() => *second,
            _ = c.recv() => *third,
        }
    }
}

#[cfg(not(unix))]
pub(crate) struct Ends;

#[cfg(not(unix))]
impl Ends {
    #[expect(clippy::unnecessary_wraps, reason = "as on unix")]
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self)
    }

    pub(crate) async fn next(&mut self) -> i32 {
        let _ = tokio::signal::ctrl_c().await;
        2
    }
}
