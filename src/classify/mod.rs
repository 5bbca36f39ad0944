//! What counts as a failure: the classifiers beside [`Classify`], [`HttpStatus`] and
//! [`ErrorsAsFailures`](crate::ErrorsAsFailures).

pub(crate) mod classifier;
mod describe;
mod execute;
mod grpc;
pub(crate) mod http;
#[cfg(any(feature = "tower-http", feature = "tower-http-06"))]
mod tower_http;

pub use crate::outcome::FailureKind;
pub(crate) use classifier::Classify;
pub use classifier::ClassifyFn;
pub use describe::{DescribeErrors, with_causes};
pub(crate) use grpc::{kind as grpc_kind, outcome as grpc_outcome};
pub(crate) use http::HttpStatus;
pub use http::{HttpStatusOf, NoHeaders};
#[cfg(feature = "tower-http")]
pub use tower_http::TowerHttp;
#[cfg(feature = "tower-http-06")]
pub use tower_http::TowerHttp06;
