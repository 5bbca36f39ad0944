//! What a replica is called where no name is set.

/// The longest name of a replica, in bytes. It travels with every batch.
const MOST_BYTES: usize = 128;

fn host() -> String {
    #[cfg(target_os = "linux")]
    return rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(target_os = "linux"))]
    String::new()
}

/// Returns the name of a replica: the one that was given, else that of the host, which a replica
/// keeps over restarts. Without either it gets one at random; its votes after a restart are then
/// those of another replica.
pub(crate) fn replica_name(given: &str) -> String {
    [usable(given), usable(&host())]
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| format!("replica-{:08x}", fastrand::u32(..)))
}

/// Returns the name as it is sent: without control characters, and not too long.
fn usable(name: &str) -> String {
    let mut usable: String = name.trim().chars().filter(|c| !c.is_control()).collect();
    let end = (0..=MOST_BYTES.min(usable.len())).rev().find(|&at| usable.is_char_boundary(at));
    usable.truncate(end.unwrap_or_default());
    usable
}
