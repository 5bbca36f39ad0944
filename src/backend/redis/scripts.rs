//! The scripts: one per operation, and one that tries what they need.

use std::sync::LazyLock;

use fred::util::sha1_hash;

/// A script, which a server knows by its hash.
pub(super) struct Script {
    pub(super) body: &'static str,
    pub(super) hash: String,
}

impl Script {
    fn new(body: &'static str) -> Self {
        Self { body, hash: sha1_hash(body) }
    }
}

macro_rules! verbs {
    ($($name:ident: $file:literal,)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(include_str!("prelude.lua"), "\n", include_str!($file)))
        });)*
    };
}

verbs! {
    LOAD: "load.lua",
    REPORT: "report.lua",
    TRANSITION: "transition.lua",
    ACQUIRE: "acquire.lua",
    SETTLE: "settle.lua",
    RESTORE: "restore.lua",
    IMPOSE: "impose.lua",
}

pub(super) static CHECK: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("check.lua")));
