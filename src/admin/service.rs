//! The service.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{Method, Request, Response, StatusCode, header};
use tower_service::Service;

use super::body::Body;
use super::operator::{Authoriser, Denied, Operator};
use super::respond::{Refusal, without_body};
use super::routes::Route;
use super::shared::{Settings, Shared, Source};
use super::{guard, input, read, respond, sampler, write};
use crate::backend::Backend;
use crate::store::Store;

/// How many connections read events at once, unless set otherwise.
const CONNECTIONS: usize = 64;

/// Shows the circuits of a service to its operators, and lets them set overrides: a page, a JSON
/// API and a stream of events, as a `tower` service.
///
/// Nest it under any path of a server, or give it a port of its own. [The module](super) describes
/// its paths, what it refuses, and what it costs.
///
/// Its tasks need a tokio runtime with timers. Without a runtime it answers reads, and refuses the
/// stream of events.
///
/// Clones share everything. When the last clone is dropped, the tasks of the service end, and so do
/// the streams of events.
///
/// ```
/// use tower_breaker::Store;
/// use tower_breaker::admin::AdminService;
///
/// let store = Store::in_memory();
/// let admin = AdminService::new(store.clone()).title("orders");
/// let app: axum::Router = axum::Router::new().nest_service("/admin", admin);
/// ```
#[derive(Clone)]
pub struct AdminService {
    shared: Arc<Shared>,
}

impl AdminService {
    /// Returns a service for the circuits of a store. With a backend it also shows what the other
    /// replicas say of these circuits.
    ///
    /// It keeps the store, as a clone of it does. Make it inside a tokio runtime: it starts a task
    /// that samples the circuits. Outside, the task starts with the first request.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self::start(Source::Store(store), Settings::default())
    }

    /// Returns a service for the circuits of a backend, for a program that has no store: it shows
    /// the circuits that are not plainly closed, and sets overrides. It sends no heartbeats, so it
    /// does not count as a replica.
    #[must_use]
    pub fn of_backend(backend: impl Backend) -> Self {
        Self::start(Source::Backend(Arc::new(backend)), Settings::default())
    }

    /// Permits writes by the operators that `decide` returns. Default: all writes are refused.
    ///
    /// It gets the head of each request that would change something, after the checks that the
    /// request comes from no other origin. The [`Operator`] that it returns is the actor of the
    /// override. What it needs for its future, it must take out of the head first.
    ///
    /// Compare secrets in constant time. [docs/admin.md] has authorisers for bearer tokens and for
    /// headers of a proxy.
    ///
    /// ```
    /// use tower_breaker::Store;
    /// use tower_breaker::admin::{AdminService, Denied, Operator};
    ///
    /// let admin = AdminService::new(Store::in_memory()).authorise(|request| {
    ///     // Set by the middleware that has authenticated the request.
    ///     let user = request.extensions.get::<Operator>().cloned();
    ///     async { user.ok_or_else(|| Denied::new("sign in first")) }
    /// });
    /// # let _ = admin;
    /// ```
    ///
    /// [docs/admin.md]: https://github.com/tower-breaker/tower-breaker/blob/main/docs/admin.md
    #[must_use]
    pub fn authorise<F, V>(self, decide: F) -> Self
    where
        F: Fn(&Parts) -> V + Send + Sync + 'static,
        V: Future<Output = Result<Operator, Denied>> + Send + 'static,
    {
        self.change(|settings| settings.authoriser = Some(Authoriser::new(decide)))
    }

    /// Sets how many connections may read events at once. Default: 64. Others get a 503.
    #[must_use]
    pub fn connections(self, most: usize) -> Self {
        self.change(|settings| settings.connections = most)
    }

    /// Sets the title of the page, for example the name of the service. Default: `circuits`.
    #[must_use]
    pub fn title(self, title: impl Into<String>) -> Self {
        self.change(|settings| settings.title = title.into())
    }

    /// Ends all streams of events, and refuses new ones. Call it when the server shuts down:
    /// streams do not end by themselves, and a server that waits for its connections would wait for
    /// them.
    ///
    /// ```
    /// use tower_breaker::Store;
    /// use tower_breaker::admin::AdminService;
    ///
    /// # async fn serve(listener: tokio::net::TcpListener) -> std::io::Result<()> {
    /// let admin = AdminService::new(Store::in_memory());
    /// let app: axum::Router = axum::Router::new().nest_service("/admin", admin.clone());
    /// axum::serve(listener, app)
    ///     .with_graceful_shutdown(async move {
    ///         let _ = tokio::signal::ctrl_c().await;
    ///         admin.close();
    ///     })
    ///     .await
    /// # }
    /// ```
    pub fn close(&self) {
        self.shared.tasks.close();
    }

    fn change(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.shared.settings.clone();
        change(&mut settings);
        Self::start(self.shared.source.clone(), settings)
    }

    fn start(source: Source, settings: Settings) -> Self {
        let service = Self { shared: Arc::new(Shared::new(source, settings)) };
        service.keep_sampling();
        service
    }

    fn keep_sampling(&self) {
        if self.shared.store().is_some() {
            let shared = Arc::downgrade(&self.shared);
            self.shared.tasks.keep_sampling(|| sampler::run(shared));
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { title: "circuits".to_owned(), connections: CONNECTIONS, authoriser: None }
    }
}

impl<B> Service<Request<B>> for AdminService
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        self.keep_sampling();
        let shared = self.shared.clone();
        ResponseFuture(Box::pin(async move {
            let head = request.method() == Method::HEAD;
            let response = respond(&shared, request).await;
            let response = response.unwrap_or_else(Refusal::response);
            if head { without_body(response) } else { response }
        }))
    }
}

async fn respond<B: http_body::Body>(
    shared: &Arc<Shared>,
    request: Request<B>,
) -> Result<Response<Body>, Refusal> {
    let Some(route) = Route::of(request.uri().path()) else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this path"));
    };
    let (parts, body) = request.into_parts();
    let reads = [Method::GET, Method::HEAD].contains(&parts.method);
    match route {
        Route::Write(_) if parts.method != Method::POST => Err(not_allowed("POST")),
        Route::Write(write) => {
            let (operator, body) = permitted(shared, &parts, body).await?;
            write::write(shared, write, &operator, &body).await
        }
        _ if !reads => Err(not_allowed("GET, HEAD")),
        Route::Events if parts.method == Method::HEAD => Ok(respond::events(None)),
        Route::Events => {
            guard::check_page(&parts)?;
            let last_id = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok());
            read::events(shared, last_id).await
        }
        route => read::read(shared, route).await,
    }
}

fn not_allowed(methods: &'static str) -> Refusal {
    let text = "this path does not take this method";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text).header(header::ALLOW, methods)
}

/// Returns the operator and the body of a write that is permitted.
async fn permitted<B: http_body::Body>(
    shared: &Shared,
    parts: &Parts,
    body: B,
) -> Result<(Operator, Vec<u8>), Refusal> {
    let Some(authoriser) = &shared.settings.authoriser else {
        return Err(Refusal::forbidden("writes are refused: the service has no authoriser"));
    };
    guard::check(parts)?;
    let operator = authoriser.ask(parts).await;
    let operator = operator.map_err(|denied| Refusal::forbidden(denied.to_string()))?;
    // Last: the body of a request that is refused anyway is not read.
    Ok((operator, input::read(&parts.headers, body).await?))
}

/// Resolves to the response of an [`AdminService`].
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Response<Body>> + Send>>);

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl fmt::Debug for AdminService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminService").field("shared", &self.shared).finish()
    }
}
