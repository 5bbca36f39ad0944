//! Replicas.

use serde_json::json;
use tower_breaker::backend::{Backend, RedisBackend};

use crate::failure::Failure;
use crate::print::{Output, text};
use crate::view::{millis, span};

pub(crate) async fn list(backend: &RedisBackend, out: &mut Output) -> Result<(), Failure> {
    let mut replicas = backend.replicas().await?;
    replicas.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    if out.is_json() {
        for replica in &replicas {
            out.json(&json!({
                "replica": replica.name,
                "id": replica.id,
                "version": replica.version,
                "silent_for_ms": millis(replica.silent_for),
                "is_silent": replica.is_silent(),
                "impaired": replica.impaired,
            }))?;
        }
        return Ok(());
    }
    if replicas.is_empty() {
        out.line("no replica sent a heartbeat within the last minute")?;
        return Ok(());
    }
    let head = ["REPLICA", "VERSION", "LAST HEARTBEAT", "STATUS"];
    let mut rows = vec![head.map(str::to_owned)];
    for replica in &replicas {
        let status = match (replica.is_silent(), replica.impaired.as_str()) {
            (true, _) => "silent: it is degraded, or has ended".to_owned(),
            (false, "") => "running".to_owned(),
            (false, impaired) => text(impaired),
        };
        let ago = format!("{} ago", span(replica.silent_for));
        rows.push([text(&replica.name), text(&replica.version), ago, status]);
    }
    out.table(&rows)?;
    Ok(())
}
