//! Reads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use tokio::runtime::Handle as Runtime;

use super::body::{Body, Events};
use super::hub;
use super::page::page;
use super::respond::{self, Refusal, ok, with};
use super::routes::Route;
use super::shared::{Shared, Source, within};
use super::wire::json;
use crate::backend::BackendError;
use crate::circuit::History;
use crate::event::Origin;
use crate::health::Health;
use crate::name::CircuitName;

/// The longest time that a backend has to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// Returns what a path names, which is not a write.
pub(super) async fn read(shared: &Shared, route: Route) -> Result<Response<Body>, Refusal> {
    Ok(match route {
        Route::Page => page(),
        Route::Overview => ok(&shared.overview().await),
        Route::Replicas => ok(&shared.replicas().await?),
        Route::Health => ok(&health(shared).await),
        Route::Ready => {
            let health = health(shared).await;
            with(health.http_status(), &health)
        }
        Route::Circuit(name) => ok(&shared.circuit(&name).await?.ok_or_else(Refusal::unknown)?),
        Route::History(name) => ok(&history(shared, &name).await?.ok_or_else(Refusal::unknown)?),
        Route::Events | Route::Write(_) => return Err(Refusal::unknown()),
    })
}

async fn health(shared: &Shared) -> Health {
    match &shared.source {
        Source::Store(store) => store.health(),
        Source::Backend(_) => {
            shared.refresh(ANSWER).await;
            let (circuits, omitted) = shared.circuits();
            let circuits = circuits.iter().filter_map(super::of_view::health).collect();
            Health::new(shared.backend(), circuits, omitted)
        }
    }
}

async fn history(shared: &Shared, name: &CircuitName) -> Result<Option<History>, BackendError> {
    match &shared.source {
        Source::Store(store) => {
            let Some(circuit) = store.get(name.as_str()) else { return Ok(None) };
            Ok(Some(match Runtime::try_current() {
                Ok(_) => circuit.history().await,
                Err(_) => History { source: Origin::Local, entries: circuit.local_history() },
            }))
        }
        Source::Backend(backend) => {
            let entries = within(ANSWER, backend.history(name)).await?.unwrap_or_default();
            Ok(Some(History { source: Origin::Cluster, entries }))
        }
    }
}

/// Returns the stream of events, if there is a seat.
pub(super) async fn events(
    shared: &Arc<Shared>,
    last_id: Option<&str>,
) -> Result<Response<Body>, Refusal> {
    let busy = |text: &str| {
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text);
        Err(refusal.header(header::RETRY_AFTER, "5"))
    };
    let Some(seat) = shared.seats.take() else {
        return busy("all connections for events are in use");
    };
    let weak = Arc::downgrade(shared);
    let Some(log) = shared.tasks.hub(|writer| hub::run(weak, writer)) else {
        return busy("no events: the service is closed, or runs outside of a tokio runtime");
    };
    // The hub knows by then what it must not report as a change.
    if log.head().wait_for(|head| *head > 0).await.is_err() {
        return busy("no events: the service is closed");
    }
    let (overview, next) = if let Some(recent) = log.overview() {
        recent
    } else {
        let next = log.next();
        (log.write_overview(&json(&shared.overview().await), next), next)
    };
    let mut first = vec![Bytes::from_static(b"retry: 1000\n\n"), overview];
    first.extend(last_id.map(|id| log.missed(id, next)).unwrap_or_default());
    Ok(respond::events(Some(Events::new(first, log, seat, next))))
}
