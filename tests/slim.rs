//! Scratch.
#![allow(dead_code, unused_imports, missing_docs)]
mod support {
    #[path = "/work/wt/sync/tests/it/support/log.rs"]
    pub(crate) mod log;
    #[path = "/work/wt/sync/tests/it/support/outage.rs"]
    pub(crate) mod outage;
    #[path = "/work/wt/sync/tests/it/support/redis/mod.rs"]
    pub(crate) mod redis;
    #[path = "/work/wt/sync/tests/it/support/replica.rs"]
    pub(crate) mod replica;
    #[path = "/work/wt/sync/tests/it/support/traffic.rs"]
    pub(crate) mod traffic;
    include!("slim_support.rs");
}
#[path = "/work/wt/sync/tests/it/cluster/scale/mod.rs"]
mod cluster_scale;
#[path = "/work/wt/sync/tests/it/redis/scale/mod.rs"]
mod redis_scale;
