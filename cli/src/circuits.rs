//! Circuits: listed, shown, overridden.

use tower_breaker::CircuitName;
use tower_breaker::backend::{self, Backend, BackendError, OverrideChange, RedisBackend, View};
use tower_breaker::overrides::{Override, OverrideState};

use crate::args::{self, State};
use crate::connection::variable;
use crate::failure::Failure;
use crate::print::{Output, text};
use crate::view;

pub(crate) async fn list(backend: &RedisBackend, out: &mut Output) -> Result<(), Failure> {
    let circuits = backend::list(backend).await?;
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
            Ok(view) => (view.shown_state().to_string(), view::details(view)),
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
    print(name, &backend::read(backend, name).await?, out)
}

fn print(name: &CircuitName, view: &View, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return Ok(out.json(&view::as_json(name, view))?);
    }
    let details = view::details(view);
    let colon = if details.is_empty() { "" } else { ": " };
    let state = view.shown_state();
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
