//! What counts as a failure: the classifiers beside [`Classify`], [`HttpStatus`] and
//! [`ErrorsAsFailures`](crate::ErrorsAsFailures).

pub(crate) mod classifier;
mod grpc;
pub(crate) mod http;
#[cfg(feature = "tower-http")]
mod tower_http;

pub(crate) use classifier::Classify;
pub use classifier::ClassifyFn;
pub(crate) use grpc::outcome as grpc_outcome;
pub(crate) use http::HttpStatus;
pub use http::{HttpStatusOf, NoHeaders};
#[cfg(feature = "tower-http")]
pub use tower_http::TowerHttp;
