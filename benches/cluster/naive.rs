//! What one would write first: the state is in Redis, and each call asks for it before and tells it
//! after.

use fred::prelude::*;

use super::load::Breaker;
use super::server::Server;

const STATE: &str = "naive:state";
const FAILURES: &str = "naive:failures";

#[derive(Clone)]
pub struct Naive {
    redis: Client,
    threshold: usize,
}

pub async fn join(
    server: &Server,
    replicas: usize,
    threshold: usize,
) -> anyhow::Result<Vec<Naive>> {
    let mut joined = Vec::new();
    for _ in 0..replicas {
        let client = Client::new(Config::from_url(&server.url())?, None, None, None);
        client.init().await?;
        joined.push(Naive { redis: client, threshold });
    }
    Ok(joined)
}

impl Naive {
    pub async fn close(&self) -> anyhow::Result<()> {
        self.redis.set::<(), _, _>(FAILURES, 0, None, None, false).await?;
        self.redis.set::<(), _, _>(STATE, "closed", None, None, false).await?;
        Ok(())
    }

    async fn tell(&self, well: bool) -> Result<(), Error> {
        if well {
            return self.redis.set(FAILURES, 0, None, None, false).await;
        }
        let failures: usize = self.redis.incr(FAILURES).await?;
        if failures >= self.threshold {
            self.redis.set::<(), _, _>(STATE, "open", None, None, false).await?;
        }
        Ok(())
    }
}

impl Breaker for Naive {
    async fn call<F: Future<Output = bool> + Send>(&self, call: impl FnOnce() -> F + Send) {
        if self.is_closed().await {
            let well = call().await;
            self.tell(well).await.expect("Redis is there");
        }
    }

    async fn is_closed(&self) -> bool {
        let state: Option<String> = self.redis.get(STATE).await.expect("Redis is there");
        state.as_deref() != Some("open")
    }
}
