//! Changes: overrides, resets, policies.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::json;
use tokio::runtime::Handle as Runtime;
use tokio::time::timeout;

use super::body::Body;
use super::input;
use super::operator::Operator;
use super::respond::{Refusal, ok};
use super::routes::Write;
use super::shared::{Shared, Source, within};
use super::views::Viewed;
use super::wire::Changed;
use crate::backend::{Backend, OverrideChange};
use crate::circuit::Circuit;
use crate::event::log;
use crate::machine::State;
use crate::name::CircuitName;
use crate::overrides::{Override, PendingOverride};
use crate::policy::PolicySettings;

/// The longest time that a response waits for the backend.
const ACKNOWLEDGED: Duration = Duration::from_secs(1);

type Answer = Result<Response<Body>, Refusal>;

/// What becomes of a circuit.
enum Change {
    Set(Override),
    Clear,
    Reset,
}

/// Changes what the request asks for, in the name of the operator.
pub(super) async fn write(
    shared: &Shared,
    write: Write,
    operator: &Operator,
    body: &[u8],
) -> Answer {
    let (what, name, answer) = match write {
        Write::Override(name) => {
            let set = input::r#override(body)?.actor(operator.name());
            let answer = change(shared, &name, Change::Set(set)).await?;
            ("overrode", Some(name), answer)
        }
        Write::Clear(name) => {
            input::nothing(body)?;
            let answer = change(shared, &name, Change::Clear).await?;
            ("ended the override of", Some(name), answer)
        }
        Write::Reset(name) => {
            input::nothing(body)?;
            let answer = change(shared, &name, Change::Reset).await?;
            ("reset", Some(name), answer)
        }
        Write::Policy(name) => {
            let answer = set_policy(shared, &name, body).await?;
            ("changed the policy of", Some(name), answer)
        }
        Write::ResetAll => {
            input::nothing(body)?;
            ("reset", None, reset_all(shared).await?)
        }
    };
    log::operated(operator.name(), what, name.as_ref());
    Ok(answer)
}

async fn change(shared: &Shared, name: &CircuitName, to: Change) -> Answer {
    let acknowledged = match &shared.source {
        Source::Store(store) => {
            let circuit = store.get(name.as_str()).ok_or_else(Refusal::unknown)?;
            let pending = match to {
                Change::Set(set) => circuit.set_override(set),
                Change::Clear => circuit.clear_override(),
                Change::Reset => circuit.reset(),
            };
            is_stored(pending).await
        }
        Source::Backend(backend) => {
            let to = match to {
                Change::Set(set) => OverrideChange::Set(set.into()),
                Change::Clear => OverrideChange::Clear,
                Change::Reset => OverrideChange::Reset,
            };
            return of_backend(shared, backend, name, &to).await;
        }
    };
    changed(shared, name, acknowledged).await
}

async fn of_backend(
    shared: &Shared,
    backend: &Arc<dyn Backend>,
    name: &CircuitName,
    to: &OverrideChange,
) -> Answer {
    let view = within(ACKNOWLEDGED, backend.set_override(name, to)).await?;
    let circuit = shared.view(name, &Viewed::new(view), usize::MAX);
    Ok(ok(&Changed { circuit, acknowledged: true }))
}

async fn reset_all(shared: &Shared) -> Answer {
    let (mut reset, mut acknowledged) = (Vec::new(), true);
    match &shared.source {
        Source::Store(store) => {
            let not_closed = |circuit: &Circuit| circuit.state() != State::Closed;
            let circuits: Vec<_> = store.circuits().into_iter().filter(not_closed).collect();
            // All at once: the backend is waited for only once.
            let pending: Vec<_> = circuits.iter().map(Circuit::reset).collect();
            reset.extend(circuits.iter().map(|circuit| circuit.name().as_str().to_owned()));
            for pending in pending {
                acknowledged &= is_stored(pending).await;
            }
        }
        Source::Backend(backend) => {
            shared.refresh(Duration::ZERO).await;
            let names: Vec<_> = {
                let views = shared.views();
                let open = views.iter().filter(|(_, v)| v.view.shown_state() != State::Closed);
                open.map(|(name, _)| name.clone()).collect()
            };
            for name in names {
                let change = backend.set_override(&name, &OverrideChange::Reset);
                acknowledged &= within(ACKNOWLEDGED, change).await.is_ok();
                reset.push(name.as_str().to_owned());
            }
        }
    }
    Ok(ok(&json!({ "reset": reset, "acknowledged": acknowledged })))
}

async fn set_policy(shared: &Shared, name: &CircuitName, body: &[u8]) -> Answer {
    let Some(store) = shared.store() else {
        let text = "policies belong to processes, and this endpoint has no store";
        return Err(Refusal::new(StatusCode::NOT_FOUND, text));
    };
    let settings: PolicySettings =
        serde_json::from_slice(body).map_err(|error| Refusal::wrong(error.to_string()))?;
    let circuit = store.get(name.as_str()).ok_or_else(Refusal::unknown)?;
    let policy =
        settings.over(&circuit.policy()).map_err(|error| Refusal::wrong(error.to_string()))?;
    store.set_policy(name.clone(), policy);
    changed(shared, name, true).await
}

async fn changed(shared: &Shared, name: &CircuitName, acknowledged: bool) -> Answer {
    let circuit = shared.circuit(name).await?;
    // The store may have forgotten the circuit of a key meanwhile.
    let circuit = circuit.ok_or_else(Refusal::unknown)?;
    Ok(ok(&Changed { circuit, acknowledged }))
}

/// Returns whether the backend has stored the change in time.
async fn is_stored(pending: PendingOverride) -> bool {
    // Without a runtime there is no backend, and nothing to wait for.
    match Runtime::try_current() {
        Ok(_) => timeout(ACKNOWLEDGED, pending).await.is_ok_and(|stored| stored.is_ok()),
        Err(_) => true,
    }
}
