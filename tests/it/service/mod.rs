//! The middleware.

mod body;
mod cancellation;
mod fallback;
mod keyed;
mod random_orders;
mod readiness;
