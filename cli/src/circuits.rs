//! Circuits: listed, shown, overridden.

use std::collections::BTreeMap;

use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Backend, BackendError, Batch, Cursor, Group, OverrideChange, RedisBackend, Sender, View,
};
use tower_breaker::overrides::{Override, OverrideState};

use crate::args::{self, State};
use crate::connection::variable;
use crate::failure::Failure;
use crate::print::{Output, text};
use crate::view;

/// A circuit, or why its record cannot be read.
pub(crate) type Circuits = BTreeMap<CircuitName, Result<View, BackendError>>;

/// More answers than this have no end: each has some hundred circuits.
const MOST_ANSWERS: usize = 10_000;

/// Reads the circuits that are not plainly closed. It changes nothing: the batches are empty.
pub(crate) async fn read(backend: &RedisBackend) -> Result<Circuits, Failure> {
    let mut all = Circuits::new();
    for group in Group::all() {
        let mut since = Cursor::default();
        for answers in 0.. {
            if answers == MOST_ANSWERS {
                let problem = format!("group {} has no end of changes", group.number());
                return Err(Failure::Failed(problem));
            }
            let changes = backend.sync(group, &batch(since, Vec::new())).await?;
            for (name, view) in changes.views {
                // It may have been listed before it became plain.
                if view::is_plain(&view) {
                    all.remove(&name);
                } else {
                    all.insert(name, Ok(view));
                }
            }
            all.extend(changes.refused.into_iter().map(|(name, error)| (name, Err(error))));
            since = changes.cursor;
            if !changes.more {
                break;
            }
        }
    }
    Ok(all)
}

fn batch(since: Cursor, circuits: Vec<CircuitName>) -> Batch {
    let id = format!("tower-breaker-cli-{}", std::process::id());
    let sender = Sender { name: "tower-breaker-cli".to_owned(), id };
    Batch { sender, seq: 1, since, seen: 0, reports: Vec::new(), circuits }
}

pub(crate) async fn list(backend: &RedisBackend, out: &mut Output) -> Result<(), Failure> {
    let circuits = read(backend).await?;
    if out.is_json() {
        for (name, circuit) in &circuits {
            out.json(&match circuit {
                Ok(view) => view::as_json(name, view),
                Err(error) => unreadable(name, error),
            })?;
        }
        return Ok(());
    }
    if circuits.is_empty() {
        out.line("every circuit is closed")?;
        return Ok(());
    }
    let mut rows = vec![["CIRCUIT".to_owned(), "STATE".to_owned(), "DETAILS".to_owned()]];
    for (name, circuit) in &circuits {
        let (state, details) = match circuit {
            Ok(view) => (view::state(view).to_string(), view::details(view)),
            Err(error) => ("unreadable".to_owned(), text(&error.to_string())),
        };
        rows.push([text(name.as_str()), state, details]);
    }
    out.table(&rows)?;
    Ok(())
}

pub(crate) fn unreadable(name: &CircuitName, error: &BackendError) -> serde_json::Value {
    serde_json::json!({ "circuit": name.as_str(), "error": error.to_string() })
}

pub(crate) async fn show(
    backend: &RedisBackend,
    name: &CircuitName,
    out: &mut Output,
) -> Result<(), Failure> {
    let batch = batch(Cursor::default(), vec![name.clone()]);
    let changes = backend.sync(Group::of(name), &batch).await?;
    if let Some((_, error)) = changes.refused.iter().find(|(refused, _)| refused == name) {
        return Err(Failure::Failed(error.to_string()));
    }
    // A circuit without a record is closed.
    let view = changes.views.into_iter().find(|(found, _)| found == name);
    print(name, &view.map(|(_, view)| view).unwrap_or_default(), out)
}

fn print(name: &CircuitName, view: &View, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return Ok(out.json(&view::as_json(name, view))?);
    }
    let details = view::details(view);
    let colon = if details.is_empty() { "" } else { ": " };
    let state = view::state(view);
    Ok(out.line(&format!("{} is {state}{colon}{details}", text(name.as_str())))?)
}

pub(crate) async fn force(
    backend: &RedisBackend,
    state: State,
    args: args::Override,
    out: &mut Output,
) -> Result<(), Failure> {
    let state = match state {
        State::Open => OverrideState::ForcedOpen,
        State::Close => OverrideState::ForcedClosed,
        State::Disable => OverrideState::Disabled,
    };
    let mut set = Override::new(state, args.reason);
    if let Some(actor) = args.actor.or_else(|| variable("USER")) {
        set = set.actor(actor);
    }
    if let Some(lasting) = args.lasting {
        set = set.lasting(lasting);
    }
    let change = OverrideChange::Set(set.into());
    let view = backend.set_override(&args.name, &change).await?;
    print(&args.name, &view, out)
}

pub(crate) async fn reset(
    backend: &RedisBackend,
    name: &CircuitName,
    out: &mut Output,
) -> Result<(), Failure> {
    let view = backend.set_override(name, &OverrideChange::Reset).await?;
    print(name, &view, out)
}
