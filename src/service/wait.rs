//! An open circuit as a service that is not ready.

use std::task::{Context, Poll, ready};

use tower_service::Service;

use super::future::ResponseFuture;
use super::service::CircuitBreaker;
use crate::circuit::Error;
use crate::classify::Classify;

/// An open circuit is not ready: the mode of
/// [`wait_while_open`](crate::CircuitBreakerLayer::wait_while_open).
#[derive(Clone, Copy, Debug)]
pub struct WaitWhileOpen;

impl<S, C, R> Service<R> for CircuitBreaker<S, C, WaitWhileOpen>
where
    S: Service<R>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S::Future, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        while !ready!(self.poll_admit(cx)).map_err(Error::Inner)? {
            self.wait_for_change();
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: R) -> Self::Future {
        self.start(request)
    }
}
