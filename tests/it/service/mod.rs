//! The middleware.

mod body;
mod cancellation;
mod combinations;
mod fallback;
mod keyed;
mod random_orders;
mod readiness;
