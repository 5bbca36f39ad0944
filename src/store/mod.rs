//! Where circuits live: what belongs to a [`Store`] besides its [builder](crate::StoreBuilder).

pub(crate) mod builder;
mod configured;
mod departed;
mod entry;
mod keyed;
mod keys;
mod measured;
mod member;
#[cfg(feature = "replay")]
mod recording;
mod registry;
mod settings;
#[expect(clippy::module_inception, reason = "the store, in the module of all that belongs to it")]
pub(crate) mod store;
mod summary;
mod watch;

pub(crate) use builder::StoreBuilder;
pub(crate) use configured::{Configured, in_variables};
pub use keyed::KeyedCircuits;
pub(crate) use measured::{BackendNumbers, OperationNumbers};
#[cfg(feature = "replay")]
pub use recording::Recording;
pub(crate) use registry::Sharing;
pub(crate) use store::Store;
pub use summary::CircuitSummary;
pub use watch::{ClusterWatch, ReplicaCircuits};
