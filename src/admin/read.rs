//! Reads.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode, header};
use tokio::runtime::Handle as Runtime;

use super::body::{Body, Events};
use super::hub;
use super::respond::{self, ok, refuse_with, with};
use super::routes::Route;
use super::shared::{Shared, Source, within};
use super::wire::json;
use super::write::{failed, unknown};
use crate::backend::BackendError;
use crate::circuit::History;
use crate::event::Origin;
use crate::health::Health;
use crate::name::CircuitName;

/// The longest time that a backend has to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// Returns what a path names, which is not a write.
pub(super) async fn read(shared: &Shared, route: Route) -> Response<Body> {
    match route {
        Route::Overview => ok(&shared.overview().await),
        Route::Replicas => match shared.replicas().await {
            Ok(replicas) => ok(&replicas),
            Err(error) => failed(&error),
        },
        Route::Health => ok(&health(shared).await),
        Route::Ready => {
            let health = health(shared).await;
            with(health.http_status(), &health)
        }
        Route::Circuit(name) => match shared.circuit(&name).await {
            Ok(Some(circuit)) => ok(&circuit),
            Ok(None) => unknown(),
            Err(error) => failed(&error),
        },
        Route::History(name) => match history(shared, &name).await {
            Ok(Some(history)) => ok(&history),
            Ok(None) => unknown(),
            Err(error) => failed(&error),
        },
        Route::Page => super::page::page(),
        Route::Events | Route::Write(_) => unknown(),
    }
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
pub(super) async fn events(shared: &Arc<Shared>, last_id: Option<String>) -> Response<Body> {
    let busy =
        |text: &str| refuse_with(StatusCode::SERVICE_UNAVAILABLE, text, header::RETRY_AFTER, "5");
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
    let (overview, next) = match log.overview() {
        Some(recent) => recent,
        None => {
            let next = log.next();
            let overview = json(&shared.overview().await);
            log.keep_overview(overview.clone(), next);
            (overview, next)
        }
    };
    let mut first =
        vec![bytes::Bytes::from_static(b"retry: 1000\n\n"), log.event("overview", &overview, next)];
    first.extend(last_id.map(|id| log.missed(&id, next)).unwrap_or_default());
    respond::events(Some(Events::new(first, log, seat, next)))
}
