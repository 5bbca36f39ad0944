//! The scripts: one per operation, and one that tries what they need.

use std::sync::LazyLock;

use fred::util::sha1_hash;

/// A script, which a server knows by its hash.
pub(super) struct Script {
    pub(super) body: &'static str,
    pub(super) hash: String,
}

macro_rules! scripts {
    ($($name:ident: $($file:literal)*;)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            let body = concat!($(include_str!($file), "\n"),*);
            Script { body, hash: sha1_hash(body) }
        });)*
    };
}

scripts! {
    SYNC: "prelude.lua" "circuit.lua" "group.lua" "report.lua" "sync.lua";
    TRANSITION: "prelude.lua" "circuit.lua" "group.lua" "over.lua" "begin.lua" "note.lua" "write.lua" "transition.lua";
    ACQUIRE: "prelude.lua" "circuit.lua" "group.lua" "over.lua" "begin.lua" "note.lua" "write.lua" "acquire.lua";
    SETTLE: "prelude.lua" "circuit.lua" "group.lua" "over.lua" "begin.lua" "note.lua" "write.lua" "settle.lua";
    RESTORE: "prelude.lua" "circuit.lua" "group.lua" "over.lua" "begin.lua" "note.lua" "write.lua" "restore.lua";
    OVERRIDE: "prelude.lua" "circuit.lua" "group.lua" "over.lua" "begin.lua" "note.lua" "write.lua" "override.lua";
    HISTORY: "prelude.lua" "circuit.lua" "over.lua" "history.lua";
    HEARTBEAT: "prelude.lua" "heartbeat.lua";
    REPLICAS: "prelude.lua" "replicas.lua";
    WATCH: "prelude.lua" "watch.lua";
    CHECK: "check.lua";
}
