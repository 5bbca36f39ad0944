//! What a replica is called where no name is set.

/// The longest name of a replica, in bytes. It travels with every batch.
const MOST_BYTES: usize = 128;

/// Returns the name of this host, which a replica keeps over restarts. A host without a name gets
/// one at random, with which votes after a restart are those of another replica.
pub(super) fn name() -> String {
    #[cfg(target_os = "linux")]
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(target_os = "linux"))]
    let host = String::new();
    match usable(&host) {
        name if name.is_empty() => format!("replica-{:08x}", fastrand::u32(..)),
        name => name,
    }
}

/// Returns the name as it is sent: without control characters, and not too long.
pub(crate) fn usable(name: &str) -> String {
    let mut usable: String = name.trim().chars().filter(|c| !c.is_control()).collect();
    let end = (0..=MOST_BYTES.min(usable.len())).rev().find(|&at| usable.is_char_boundary(at));
    usable.truncate(end.unwrap_or_default());
    usable
}
