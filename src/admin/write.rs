//! Changes: overrides, resets, policies.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use tokio::runtime::Handle as Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::body::Body;
use super::input;
use super::operator::Operator;
use super::respond::{Refusal, ok};
use super::routes::Write;
use super::shared::{Shared, Source, within};
use super::views::Viewed;
use super::wire::Changed;
use crate::backend::{Backend, BackendError, OverrideChange};
use crate::circuit::Circuit;
use crate::clock;
use crate::event::{BackendStatus, log};
use crate::machine::State;
use crate::name::CircuitName;
use crate::overrides::{Override, PendingOverride};
use crate::policy::PolicySettings;
use crate::timestamp::Timestamp;

/// The longest time that a response waits for the backend.
const ACKNOWLEDGED: Duration = Duration::from_secs(1);

/// How many circuits of a backend are reset at once.
const AT_ONCE: usize = 32;

type Answer = Result<Done, Refusal>;

/// The answer to a write that was possible.
struct Done {
    response: Response<Body>,
    /// Whether the backend has stored all of it.
    acknowledged: bool,
}

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
) -> Result<Response<Body>, Refusal> {
    match write {
        Write::Override(name) => {
            let set = input::r#override(body)?.actor(operator.name());
            let act = change(shared, &name, Change::Set(set));
            logged(operator, ("override", "overrode"), Some(&name), act).await
        }
        Write::Clear(name) => {
            input::nothing(body)?;
            let act = change(shared, &name, Change::Clear);
            let what = ("end the override of", "ended the override of");
            logged(operator, what, Some(&name), act).await
        }
        Write::Reset(name) => {
            input::nothing(body)?;
            let act = change(shared, &name, Change::Reset);
            logged(operator, ("reset", "reset"), Some(&name), act).await
        }
        Write::Policy(name) => {
            let settings =
                serde_json::from_slice(body).map_err(|error| Refusal::wrong(error.to_string()))?;
            let act = set_policy(shared, &name, settings);
            let what = ("change the policy of", "changed the policy of");
            logged(operator, what, Some(&name), act).await
        }
        Write::ResetAll => {
            input::all(body)?;
            logged(operator, ("reset", "reset"), None, reset_all(shared)).await
        }
    }
}

/// Acts, and logs what the operator asks for before, and what has become of it. If the client hangs
/// up, the future is dropped, and the first line is what remains.
async fn logged(
    operator: &Operator,
    (act, acted): (&str, &str),
    name: Option<&CircuitName>,
    answer: impl Future<Output = Answer>,
) -> Result<Response<Body>, Refusal> {
    log::operated(operator.name(), &format!("asks to {act}"), name);
    let answer = answer.await;
    if answer.as_ref().is_ok_and(|done| done.acknowledged) {
        log::operated(operator.name(), acted, name);
    } else {
        let what = format!("asked, without acknowledgement, to {act}");
        log::operated(operator.name(), &what, name);
    }
    answer.map(|done| done.response)
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
            is_stored(pending, clock::now().after(ACKNOWLEDGED)).await
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
    let view = within(ACKNOWLEDGED, backend.set_override(name, to)).await;
    let view = view.map_err(unacknowledged)?;
    let circuit = shared.view(name, &Viewed::new(view), usize::MAX);
    Ok(done(&Changed { circuit, acknowledged: true }, true))
}

/// The error of a change that a backend has not stored, as far as this process knows.
fn unacknowledged(error: BackendError) -> Refusal {
    if error.is_unavailable() {
        let text = format!("not acknowledged: the change may be in force or not: {error}");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)
    } else {
        error.into()
    }
}

fn done(document: &impl Serialize, acknowledged: bool) -> Done {
    Done { response: ok(document), acknowledged }
}

async fn reset_all(shared: &Shared) -> Answer {
    let (reset, failed, acknowledged) = match &shared.source {
        Source::Store(store) => {
            let not_closed = |circuit: &Circuit| circuit.state() != State::Closed;
            let circuits: Vec<_> = store.circuits().into_iter().filter(not_closed).collect();
            // All at once: the backend is waited for only once.
            let pending: Vec<_> = circuits.iter().map(Circuit::reset).collect();
            let deadline = clock::now().after(ACKNOWLEDGED);
            let mut acknowledged = true;
            for pending in pending {
                acknowledged &= is_stored(pending, deadline).await;
            }
            let reset = circuits.iter().map(|circuit| circuit.name().clone()).collect();
            (reset, Vec::new(), acknowledged)
        }
        Source::Backend(backend) => {
            shared.refresh(Duration::ZERO).await;
            if let BackendStatus::Degraded { reason } = shared.backend() {
                let text = format!("nothing was reset: the circuits could not be read: {reason}");
                return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text));
            }
            let names: Vec<_> = {
                let views = shared.views();
                let open = views.iter().filter(|(_, viewed)| viewed.state() != State::Closed);
                open.map(|(name, _)| name.clone()).collect()
            };
            let (reset, error) = reset_each(backend, &names).await;
            if let (true, Some(error)) = (reset.is_empty(), error) {
                return Err(unacknowledged(error));
            }
            let failed: Vec<_> =
                names.iter().filter(|name| !reset.contains(*name)).cloned().collect();
            let acknowledged = failed.is_empty();
            (reset.into_iter().collect::<Vec<_>>(), failed, acknowledged)
        }
    };
    let texts = |names: &[CircuitName]| -> Vec<_> {
        names.iter().map(|name| name.as_str().to_owned()).collect()
    };
    let (reset, failed) = (texts(&reset), texts(&failed));
    let document = json!({ "reset": reset, "failed": failed, "acknowledged": acknowledged });
    Ok(done(&document, acknowledged))
}

/// Resets circuits of a backend, some at once, and waits no longer than for one. Returns those that
/// the backend has acknowledged, and an error if there are others.
async fn reset_each(
    backend: &Arc<dyn Backend>,
    names: &[CircuitName],
) -> (BTreeSet<CircuitName>, Option<BackendError>) {
    let reset = |name: CircuitName| {
        let backend = backend.clone();
        async move {
            let answer = backend.set_override(&name, &OverrideChange::Reset).await;
            answer.map(|_| name)
        }
    };
    let (mut waiting, mut tasks) = (names.iter().cloned(), JoinSet::new());
    let (mut stored, mut failure) = (BTreeSet::new(), None);
    let all = async {
        loop {
            while tasks.len() < AT_ONCE
                && let Some(name) = waiting.next()
            {
                tasks.spawn(reset(name));
            }
            match tasks.join_next().await {
                Some(Ok(Ok(name))) => {
                    stored.insert(name);
                }
                Some(Ok(Err(error))) => failure = Some(error),
                Some(Err(panicked)) => {
                    failure = Some(BackendError::unavailable(panicked.to_string()));
                }
                None => return Ok(()),
            }
        }
    };
    let late = within(ACKNOWLEDGED, all).await.err();
    (stored, failure.or(late))
}

async fn set_policy(shared: &Shared, name: &CircuitName, settings: PolicySettings) -> Answer {
    let Some(store) = shared.store() else {
        let text = "policies belong to processes, and this endpoint has no store";
        return Err(Refusal::new(StatusCode::NOT_FOUND, text));
    };
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
    Ok(done(&Changed { circuit, acknowledged }, acknowledged))
}

/// Returns whether the backend has stored the change in time.
async fn is_stored(pending: PendingOverride, deadline: Timestamp) -> bool {
    // Without a runtime there is no backend, and nothing to wait for.
    match Runtime::try_current() {
        Ok(_) => {
            timeout(deadline.since(clock::now()), pending).await.is_ok_and(|stored| stored.is_ok())
        }
        Err(_) => true,
    }
}
