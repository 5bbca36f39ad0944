//! Redis as a backend under test: one server, a cluster, a server with TLS.

use std::sync::Arc;
use std::time::Duration;

use tower_breaker::backend::{Backend, RedisBackend, RedisConfig};

use super::{World, every_law};
use crate::support::redis::{Cluster, Server, eventually, real};

/// Replicas that share a Redis of their own. Its time is the servers' time.
#[derive(Clone)]
pub(super) struct InRedis {
    servers: Arc<Vec<Server>>,
    one: RedisBackend,
    other: RedisBackend,
}

impl InRedis {
    pub(super) async fn on_one_server() -> Self {
        let server = Server::start();
        let config = server.config();
        Self::of(vec![server], &config).await
    }

    async fn of(servers: Vec<Server>, config: &RedisConfig) -> Self {
        // Tests run in parallel, and a machine may be busy.
        let patience = Duration::from_secs(2);
        let config = config.clone().command_timeout(patience);
        let one = RedisBackend::connect(&config).await.unwrap();
        let other = RedisBackend::connect(&config).await.unwrap();
        Self { servers: Arc::new(servers), one, other }
    }
}

impl World for InRedis {
    fn connections(&self) -> (Arc<dyn Backend>, Arc<dyn Backend>) {
        (Arc::new(self.one.clone()), Arc::new(self.other.clone()))
    }

    async fn forget(&self) {
        for server in &*self.servers {
            server.cli(&["FLUSHALL"]);
        }
    }

    async fn wait(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        let ends: Vec<_> =
            self.servers.iter().map(|server| (server, server.millis() + millis)).collect();
        for (server, end) in ends {
            eventually("time to pass", async || server.millis() > end).await;
        }
    }
}

#[test]
fn every_law_holds_in_a_cluster() {
    real(async {
        let cluster = Cluster::start();
        let config = cluster.config();
        let world = InRedis::of(cluster.nodes, &config).await;
        every_law(|| world.clone()).await;
    });
}

#[cfg(feature = "redis-tls")]
#[test]
fn every_law_holds_over_tls() {
    real(async {
        let tls = crate::support::redis::TlsServer::start();
        let config = tls.config().tls_ca_file(tls.ca_file());
        let world = InRedis::of(vec![tls.server], &config).await;
        every_law(|| world.clone()).await;
    });
}
