//! Changes: overrides, resets, policies.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::json;
use tokio::runtime::Handle as Runtime;
use tokio::time::timeout;

use super::body::Body;
use super::input::{self, wrong};
use super::operator::Operator;
use super::respond::{ok, refuse};
use super::routes::Write;
use super::shared::{Shared, Source, within};
use super::views::Viewed;
use super::wire::Changed;
use crate::backend::{Backend, BackendError, OverrideChange};
use crate::circuit::Circuit;
use crate::machine::State;
use crate::name::CircuitName;
use crate::overrides::{Override, PendingOverride};
use crate::policy::PolicySettings;

/// The longest time that a response waits for the backend.
const ACKNOWLEDGED: Duration = Duration::from_secs(1);

type Answer = Result<Response<Body>, Response<Body>>;

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
    operator: Operator,
    body: &[u8],
) -> Response<Body> {
    let answer = match write {
        Write::Override(name) => match input::r#override(body) {
            Ok(set) => change(shared, &name, Change::Set(set.actor(operator.name()))).await,
            Err(refused) => Err(refused),
        },
        Write::Clear(name) => plain(shared, &name, Change::Clear, body).await,
        Write::Reset(name) => plain(shared, &name, Change::Reset, body).await,
        Write::ResetAll => reset_all(shared, body).await,
        Write::Policy(name) => set_policy(shared, &name, body).await,
    };
    answer.unwrap_or_else(|refused| refused)
}

async fn plain(shared: &Shared, name: &CircuitName, to: Change, body: &[u8]) -> Answer {
    input::nothing(body)?;
    change(shared, name, to).await
}

async fn change(shared: &Shared, name: &CircuitName, to: Change) -> Answer {
    let acknowledged = match &shared.source {
        Source::Store(store) => {
            let circuit = store.get(name.as_str()).ok_or_else(unknown)?;
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
    let view =
        within(ACKNOWLEDGED, backend.set_override(name, to)).await.map_err(|e| failed(&e))?;
    let circuit = shared.view(name, &Viewed::new(view), usize::MAX);
    Ok(ok(&Changed { circuit, acknowledged: true }))
}

async fn reset_all(shared: &Shared, body: &[u8]) -> Answer {
    input::nothing(body)?;
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
                acknowledged &= within(ACKNOWLEDGED, change).await.map_err(|e| failed(&e)).is_ok();
                reset.push(name.as_str().to_owned());
            }
        }
    }
    Ok(ok(&json!({ "reset": reset, "acknowledged": acknowledged })))
}

async fn set_policy(shared: &Shared, name: &CircuitName, body: &[u8]) -> Answer {
    let Some(store) = shared.store() else {
        let text = "policies belong to processes, and this endpoint has no store";
        return Err(refuse(StatusCode::NOT_FOUND, text));
    };
    let settings: PolicySettings =
        serde_json::from_slice(body).map_err(|error| wrong(&error.to_string()))?;
    let circuit = store.get(name.as_str()).ok_or_else(unknown)?;
    let policy = settings.over(&circuit.policy()).map_err(|error| wrong(&error.to_string()))?;
    store.set_policy(name.clone(), policy);
    changed(shared, name, true).await
}

async fn changed(shared: &Shared, name: &CircuitName, acknowledged: bool) -> Answer {
    let circuit = shared.circuit(name).await.map_err(|error| failed(&error))?;
    // The store may have forgotten the circuit of a key meanwhile.
    let circuit = circuit.ok_or_else(unknown)?;
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

pub(super) fn unknown() -> Response<Body> {
    refuse(StatusCode::NOT_FOUND, "there is no circuit with this name")
}

/// The response if the backend does not answer, or refuses.
pub(super) fn failed(error: &BackendError) -> Response<Body> {
    let status = if error.is_unavailable() {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::BAD_GATEWAY
    };
    refuse(status, &error.to_string())
}
