//! The services that are measured bare, and what calls them.

use std::future::{Ready, ready};
use std::hint::{black_box, spin_loop};
use std::io::{Error, ErrorKind, Result};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http::{Request, Response, StatusCode};
use tower::Service;

/// The request that fails.
pub const FAIL: u64 = u64::MAX;

/// Ready at once, answers at once; what every circuit breaker here is put around.
#[derive(Clone)]
pub struct Plain;

impl Service<u64> for Plain {
    type Response = u64;
    type Error = Error;
    type Future = Ready<Result<u64>>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        ready(if request == FAIL { Err(ErrorKind::Other.into()) } else { Ok(request) })
    }
}

/// The same with HTTP's types, for what there is for HTTP only.
#[derive(Clone)]
pub struct Http;

impl Service<Request<u64>> for Http {
    type Response = Response<()>;
    type Error = Error;
    type Future = Ready<Result<Response<()>>>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request<u64>) -> Self::Future {
        let mut response = Response::new(());
        if *request.body() == FAIL {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        ready(Ok(response))
    }
}

/// Makes one call as tower asks for it: readies the service, calls it, and polls what comes of it.
#[inline]
pub fn call<S: Service<R>, R>(
    service: &mut S,
    request: R,
) -> std::result::Result<S::Response, S::Error> {
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match service.poll_ready(&mut cx) {
            Poll::Ready(Ok(())) => break,
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => spin_loop(),
        }
    }
    poll(service.call(request))
}

/// Polls until the future is ready. What waits, for a lock say, is asked again at once: that is
/// kinder to it than a runtime, which would put it to sleep.
#[inline]
pub fn poll<F: Future>(future: F) -> F::Output {
    let mut cx = Context::from_waker(Waker::noop());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        spin_loop();
    }
}

/// Makes `calls` calls, and returns how many passed. `call` says if its one did.
#[inline]
pub fn repeat(calls: u64, mut call: impl FnMut(u64) -> bool) -> u64 {
    (0..calls).map(|n| u64::from(call(black_box(n)))).sum()
}

/// Makes `calls` calls of a service, and returns how many passed.
#[inline]
pub fn calls<S: Service<u64>>(service: &mut S, calls: u64) -> u64 {
    repeat(calls, |n| black_box(call(service, n)).is_ok())
}

/// Lets calls fail until none gets through.
///
/// # Panics
///
/// If that does not happen.
pub fn trip<S: Service<u64>>(service: &mut S) {
    for _ in 0..1_000 {
        let _ = call(service, FAIL);
    }
    assert!(call(service, 0).is_err(), "a circuit did not open");
}
