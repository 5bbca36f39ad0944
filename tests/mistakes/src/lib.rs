//! A service that is not HTTP, and one that is.

use std::future::{Pending, Ready, pending, ready};
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

/// The body of its responses is `B`.
#[derive(Clone)]
pub struct Http<B>(pub PhantomData<B>);

impl<B> Service<http::Request<()>> for Http<B> {
    type Response = http::Response<B>;
    type Error = std::io::Error;
    type Future = Pending<Result<http::Response<B>, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<()>) -> Self::Future {
        pending()
    }
}

/// Needs one, as a server does.
pub fn serve<S: Service<http::Request<()>>>(_: S) {}

/// Calls a service once, as every user does somewhere.
pub fn call_once<S: Service<()>>(mut service: S) {
    let mut call = Box::pin(service.call(()));
    let _ = call.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
}
