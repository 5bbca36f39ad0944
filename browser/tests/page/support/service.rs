//! The operator's service behind a real axum server on loopback.

use std::future::ready;
use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tower_breaker::Store;
use tower_breaker::admin::{AdminService, Denied, Operator};
use tower_breaker::backend::Backend;

/// A running server. Its drop ends it with all its connections.
pub(crate) struct Service {
    address: SocketAddr,
    /// Of its own: when it ends, so do all connections.
    runtime: Option<Runtime>,
}

impl Service {
    /// Serves a store on a free port. Every request may write, as the operator `ada`.
    pub(crate) fn start(store: &Store) -> Self {
        let admin = AdminService::new(store.clone());
        Self::of(admin.authorise(|_| ready(Ok(Operator::new("ada")))).title("orders"))
    }

    /// The same, but nobody may write.
    pub(crate) fn read_only(store: &Store) -> Self {
        Self::of(AdminService::new(store.clone()).title("orders"))
    }

    /// The same, but the authoriser refuses everybody.
    pub(crate) fn refusing(store: &Store, text: &'static str) -> Self {
        let admin = AdminService::new(store.clone());
        Self::of(admin.authorise(move |_| ready(Err(Denied::new(text)))).title("orders"))
    }

    /// Serves what a backend knows, without a store.
    pub(crate) fn of_backend(backend: impl Backend) -> Self {
        Self::of(AdminService::of_backend(backend))
    }

    fn of(admin: AdminService) -> Self {
        Self::on(([127, 0, 0, 1], 0).into(), admin)
    }

    fn on(address: SocketAddr, admin: AdminService) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let listener = TcpListener::bind(address).await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            axum::serve(listener, Router::new().nest_service("/admin", admin)).await.unwrap();
        });
        Self { address: told.recv().unwrap(), runtime: Some(runtime) }
    }

    /// Without a slash at the end, which the page has to bear.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/admin", self.address)
    }

    pub(crate) fn circuit_url(&self, name: &str) -> String {
        format!("{}#circuit={name}", self.url())
    }

    /// Ends the server with all its connections.
    pub(crate) fn stop(&mut self) {
        self.runtime.take().expect("a running server").shutdown_background();
    }

    /// Starts it again, at the same address.
    pub(crate) fn restart(&mut self, store: &Store) {
        let admin = AdminService::new(store.clone());
        *self = Self::on(self.address, admin.title("orders"));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
