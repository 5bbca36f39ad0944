//! A rejection as an HTTP response.

use std::fmt;
use std::marker::PhantomData;

use ::http::{Request, Response, StatusCode, header};

use super::sealed::Sealed;
use super::{Known, OnRejected, Replied, Unchanged};
use crate::circuit::Rejected;
use crate::service::{decimal, grpc};

/// Answers a rejected call with a response: the choice of
/// [`respond`](crate::CircuitBreakerLayer::respond) and
/// [`respond_with`](crate::CircuitBreakerLayer::respond_with).
#[derive(Clone, Copy)]
pub struct Respond<F>(pub(in crate::service) F);

/// Makes the body of a response to a rejected call with `Default`.
#[derive(Clone, Copy, Debug)]
pub struct DefaultBody;

/// Makes the response to a rejected call. [`DefaultBody`] and closures implement it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` makes no body of type `{B}` for a rejection",
    note = "`.respond()` is for bodies with a `Default`",
    note = "otherwise: `.respond_with(|rejected, response| response.map(|()| MyBody::empty()))`",
    note = "hyper's client: `.map_response(|response| response.map(BoxBody::new))` below the layer",
    note = "tonic: put the circuit breaker inside the interceptor"
)]
pub trait RejectionBody<B> {
    /// Returns the whole response, made from `response`, which has status and headers but no body.
    fn response(&self, rejected: &Rejected, response: Response<()>) -> Response<B>;
}

impl<B: Default> RejectionBody<B> for DefaultBody {
    fn response(&self, _: &Rejected, response: Response<()>) -> Response<B> {
        response.map(|()| B::default())
    }
}

impl<B, F: Fn(&Rejected, Response<()>) -> Response<B>> RejectionBody<B> for F {
    fn response(&self, rejected: &Rejected, response: Response<()>) -> Response<B> {
        self(rejected, response)
    }
}

/// The protocol in which a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Protocol {
    Http,
    Grpc,
}

impl Protocol {
    pub(in crate::service) fn of<B>(request: &Request<B>) -> Self {
        match grpc::is_grpc(request.headers()) {
            Some(true) => Self::Grpc,
            Some(false) | None => Self::Http,
        }
    }
}

impl<F> Respond<F> {
    pub(in crate::service) fn response<B>(
        &self,
        rejected: Rejected,
        protocol: Protocol,
        mut empty: Response<()>,
    ) -> Response<B>
    where
        F: RejectionBody<B>,
    {
        match protocol {
            Protocol::Http => unavailable(&rejected, &mut empty),
            Protocol::Grpc => grpc::unavailable(&rejected, empty.headers_mut()),
        }
        let mut response = self.0.response(&rejected, empty);
        response.extensions_mut().insert(rejected);
        response
    }
}

fn unavailable(rejected: &Rejected, response: &mut Response<()>) {
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    if let Some(seconds) = rejected.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, decimal::header_value(seconds));
    }
}

/// Returns an empty response in the memory of the request: its maps of headers and extensions,
/// which most requests have allocated, and which a response would otherwise allocate again.
fn in_place_of<B>(request: Request<B>) -> Response<()> {
    let (mut parts, _) = request.into_parts();
    parts.headers.clear();
    parts.extensions.clear();
    let mut response = Response::new(());
    *response.headers_mut() = parts.headers;
    *response.extensions_mut() = parts.extensions;
    response
}

impl<F> Sealed for Respond<F> {}

impl<F, Req, Res, E> OnRejected<Request<Req>, Response<Res>, E> for Respond<F>
where
    F: RejectionBody<Res>,
{
    type Error = E;
    type Errors = Unchanged;
    type Reply = Replied<Response<Res>, Result<Response<Res>, E>>;

    #[inline]
    fn reply(&self, rejected: Rejected, request: Request<Req>) -> Self::Reply {
        let protocol = Protocol::of(&request);
        let response = self.response(rejected, protocol, in_place_of(request));
        Replied(Some(response), PhantomData)
    }
}

impl<B, E> Known<Result<Response<B>, E>> for Response<B> {
    #[inline]
    fn output(self) -> Result<Self, E> {
        Ok(self)
    }
}

impl<F> fmt::Debug for Respond<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Respond").field(&std::any::type_name::<F>()).finish()
    }
}
