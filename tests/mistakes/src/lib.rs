//! A service that is not HTTP.

use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::task::{Context, Poll};

use tower_service::Service;

pub struct NotHttp<E>(pub PhantomData<E>);

impl<E> Service<()> for NotHttp<E> {
    type Response = &'static str;
    type Error = E;
    type Future = Ready<Result<&'static str, E>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok("not HTTP"))
    }
}

/// Calls a service once, as every user does somewhere.
pub fn call_once<S: Service<()>>(mut service: S) {
    let mut call = Box::pin(service.call(()));
    let _ = call.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
}
