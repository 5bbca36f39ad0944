//! What has happened to a circuit.

use std::time::{Duration, SystemTime};

use tower_breaker::CircuitName;
use tower_breaker::backend::{Backend, RedisBackend};
use tower_breaker::event::{HistoryEntry, Transition};

use crate::failure::Failure;
use crate::print::{Output, text};
use crate::view::{self, span};

pub(crate) async fn show(
    backend: &RedisBackend,
    name: &CircuitName,
    out: &mut Output,
) -> Result<(), Failure> {
    let entries = backend.history(name).await?.unwrap_or_default();
    if out.is_json() {
        for entry in &entries {
            out.json(&as_json(name, entry)?)?;
        }
        return Ok(());
    }
    if entries.is_empty() {
        let hours = HistoryEntry::KEPT_FOR.as_secs() / 3600;
        let name = text(name.as_str());
        return Ok(out.line(&format!("{name} has not changed within the last {hours} hours"))?);
    }
    let mut rows = vec![["WHEN", "AGO", "CHANGE", "DETAILS"].map(str::to_owned)];
    for entry in &entries {
        let HistoryEntry { ago, transition, .. } = entry;
        rows.push([moment(*ago), span(*ago), change(transition), explained(transition)]);
    }
    Ok(out.table(&rows)?)
}

/// An entry as the library writes it, with the name of the circuit.
fn as_json(name: &CircuitName, entry: &HistoryEntry) -> Result<serde_json::Value, Failure> {
    let value = serde_json::to_value(entry);
    let mut value = value.map_err(|error| Failure::Failed(error.to_string()))?;
    value["circuit"] = name.as_str().into();
    Ok(value)
}

/// A moment of the past by the clock of this machine, as logs have it.
pub(crate) fn moment(ago: Duration) -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "a person compares it with logs; nothing decides"
    )]
    let then = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(then).to_string()
}

/// `closed -> open`.
pub(crate) fn change(transition: &Transition) -> String {
    format!("{} -> {}", transition.from, transition.to)
}

/// Why it changed, on what evidence, and who changed it, in one line.
pub(crate) fn explained(transition: &Transition) -> String {
    let whole = transition.to_string();
    let why = whole.split_once(": ").map_or(&*whole, |(_, why)| why);
    let mut parts = vec![text(why)];
    if let Some(record) = &transition.overridden {
        let ended = if record.state.state() == transition.to { "" } else { "ended: " };
        parts.push(format!("{ended}{}", view::overridden(record)));
    }
    parts.extend(view::last_error(transition.last_error.as_deref()));
    parts.extend(view::failures_on(&transition.contributors));
    parts.join("; ")
}
