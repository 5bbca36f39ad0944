//! What is published. Any user who may publish can publish anything, so what is not certainly a
//! notice is dropped.

use serde::{Deserialize, Serialize};

use super::reply::ReplyView;
use super::{SCHEMA, keys};
use crate::backend::{Notice, Sender};

/// A longer notice is no change of ours.
const MAX_CHANGE: usize = 64 * 1024;

/// The longest description of a replica's circuits.
pub(in super::super) const MAX_CIRCUITS: usize = 64 * 1024;

/// The longest sender before such a description.
const MAX_SENDER: usize = 4 * 1024;

/// No server's clock is there yet (2109), in milliseconds: bounds what is accepted from a server
/// whose clock is not known.
const FAR: u64 = 1 << 42;

/// Returns the change that a script published. `now` is the server's time in milliseconds, if it is
/// known.
pub(in super::super) fn changed(text: &str, now: Option<u64>) -> Option<Notice> {
    #[derive(Deserialize)]
    struct Changed {
        schema: u64,
        name: String,
        previous: u64,
        version: u64,
        view: ReplyView,
    }
    if text.len() > MAX_CHANGE {
        return None;
    }
    let changed: Changed = serde_json::from_str(text).ok()?;
    if changed.schema != SCHEMA {
        return None;
    }
    let view = changed.view.checked(now.unwrap_or(FAR)).ok()?;
    Some(Notice::Changed {
        circuit: keys::circuit(&changed.name)?,
        view: Box::new(view),
        previous: changed.previous,
        version: changed.version,
    })
}

/// Who describes its circuits: a line of its own, so that the description is not escaped again.
#[derive(Deserialize, Serialize)]
struct Header {
    schema: u64,
    name: String,
    id: String,
}

/// Returns the message of a replica that describes its circuits.
pub(in super::super) fn circuits_message(sender: &Sender, circuits: &str) -> String {
    let Sender { name, id } = sender.clone();
    let header = Header { schema: SCHEMA, name, id };
    format!("{}\n{circuits}", serde_json::to_string(&header).expect("only texts and a number"))
}

/// Returns what a replica said of its circuits.
pub(in super::super) fn circuits(text: &str) -> Option<Notice> {
    let (header, circuits) = text.split_once('\n')?;
    if header.len() > MAX_SENDER || circuits.len() > MAX_CIRCUITS {
        return None;
    }
    let Header { schema, name, id } = serde_json::from_str(header).ok()?;
    let sender = Sender { name, id };
    (schema == SCHEMA).then(|| Notice::Circuits { sender, circuits: circuits.to_owned() })
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    fn notice(generation: &str) -> String {
        let view = format!(r#"{{"generation":{generation}}}"#);
        format!(r#"{{"schema":2,"name":"a%20b","previous":3,"version":4,"view":{view}}}"#)
    }

    #[test]
    fn a_change_is_read() {
        let Some(Notice::Changed { circuit, view, previous, version }) =
            changed(&notice("5"), Some(1_000))
        else {
            panic!("no change")
        };
        assert_eq!((circuit.as_str(), view.generation, previous, version), ("a b", 5, 3, 4));
    }

    #[test]
    fn what_cannot_be_true_is_dropped() {
        let far = ["86401001", "18446744073709551615", "9007199254740993", "1e300", "-1", "\"5\""];
        for generation in far {
            assert_eq!(changed(&notice(generation), Some(1_000)), None, "{generation}");
        }
        assert!(changed(&notice("1750000000000"), None).is_some());
        assert_eq!(changed(&notice("9007199254740993"), None), None);
        let long = notice("5") + &" ".repeat(MAX_CHANGE);
        let newer = notice("5").replace(r#""schema":2"#, r#""schema":3"#);
        let nameless = notice("5").replace("a%20b", "");
        for garbage in ["", "{}", "[]", "null", "\u{0}", &long, &newer, &nameless] {
            assert_eq!(changed(garbage, Some(1_000)), None);
            assert_eq!(circuits(garbage), None);
        }
    }

    #[test]
    fn a_description_of_circuits_is_read_back() {
        let sender = Sender { name: "shop\n0".to_owned(), id: "\"".to_owned() };
        let message = circuits_message(&sender, "[\n1]");
        let expected = Notice::Circuits { sender, circuits: "[\n1]".to_owned() };
        assert_eq!(circuits(&message), Some(expected));
        assert_eq!(circuits(&(message + &"x".repeat(MAX_CIRCUITS))), None);
    }
}
