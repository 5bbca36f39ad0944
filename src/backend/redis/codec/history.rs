//! Transitions of the past, as the scripts note them.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::reply::{Reply, ReplyOverride, tally};
use crate::backend::{Overridden, View};
use crate::machine::{HistoryEntry, Origin, Reason, State, Transition};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Noted {
    generation: u64,
    from: String,
    to: String,
    reason: String,
    open_for: Option<u64>,
    tally: [u64; 4],
    contributors: Vec<String>,
    last_error: Option<String>,
    #[serde(rename = "override")]
    overridden: ReplyOverride,
}

impl Reply {
    /// Returns the history of a circuit, the newest last.
    pub(in super::super) fn history(self) -> Vec<HistoryEntry> {
        self.history.iter().filter_map(|(ago, text)| entry(*ago, text)).collect()
    }
}

/// Returns an entry, unless it is not ours, or of a later version.
fn entry(ago: u64, text: &str) -> Option<HistoryEntry> {
    let mut noted: Noted = serde_json::from_str(text).ok()?;
    let (from, to) = (State::from_name(&noted.from)?, State::from_name(&noted.to)?);
    let reason = Reason::from_name(&noted.reason)?;
    noted.contributors.truncate(View::MAX_CONTRIBUTORS);
    let transition = Transition {
        tally: tally(noted.tally),
        open_for: noted.open_for.map(Duration::from_millis),
        origin: Origin::Cluster,
        overridden: Overridden::from(noted.overridden).record.map(Arc::new),
        contributors: noted.contributors.into(),
        last_error: noted.last_error.map(|text| Transition::cut_error(&text).into()),
        ..Transition::new(from, to, reason, noted.generation)
    };
    Some(HistoryEntry::new(Duration::from_millis(ago), transition))
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_not_ours_is_left_out() {
        let good =
            r#"{"generation":9,"from":"closed","to":"open","reason":"failure_rate","new":1}"#;
        let entry = entry(7, good).unwrap();
        assert_eq!((entry.ago.as_millis(), entry.transition.generation), (7, 9));
        for wrong in ["", "{}", "7", r#"{"from":"closed","to":"what","reason":"failure_rate"}"#] {
            assert_eq!(super::entry(7, wrong), None, "{wrong}");
        }
    }
}
