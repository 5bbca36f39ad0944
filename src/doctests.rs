//! The pages of `docs/` that have programs in them, so that `cargo test --doc` runs these.

#[doc = include_str!("../docs/recipes.md")]
struct Recipes;

#[doc = include_str!("../docs/testing.md")]
struct Testing;

#[doc = include_str!("../docs/migrating.md")]
struct Migrating;

#[doc = include_str!("../docs/backends.md")]
struct Backends;

#[doc = include_str!("../docs/admin.md")]
struct Admin;

#[doc = include_str!("../docs/operations.md")]
struct Operations;
