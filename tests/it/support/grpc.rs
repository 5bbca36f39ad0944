//! A gRPC upstream over a real socket, without code that is generated from `.proto` files.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Status};
use tower::{Layer, Service, service_fn};

/// How the upstream answers the next calls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answers {
    Value,
    /// A status in the head.
    InHead(Code),
    /// A successful head, and a status in the trailers.
    InTrailers(Code),
    Never,
}

#[derive(Clone)]
pub(crate) struct Upstream {
    answers: Arc<Mutex<Answers>>,
    calls: Arc<AtomicUsize>,
}

impl Upstream {
    pub(crate) fn new(answers: Answers) -> Self {
        Self { answers: Arc::new(Mutex::new(answers)), calls: Arc::default() }
    }

    pub(crate) fn now(&self, answers: Answers) {
        *self.answers.lock().unwrap() = answers;
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Serves on a free port, behind `layer`.
    pub(crate) async fn serve<L, B>(&self, layer: L) -> Channel
    where
        L: Layer<Self> + Send + 'static,
        L::Service: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        <L::Service as Service<Request<Body>>>::Future: Send,
        <L::Service as Service<Request<Body>>>::Error:
            Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
        B: HttpBody<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = layer.layer(self.clone());
        // As in tonic itself, bodies are boxed.
        let service = tower::ServiceBuilder::new()
            .map_response(|response: Response<B>| {
                response
                    .map(|body| Body::new(body.map_err(|error| Status::from_error(error.into()))))
            })
            .service(service);
        let incoming = TcpIncoming::from(listener);
        tokio::spawn(Server::builder().serve_with_incoming(service, incoming));
        Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
    }
}

impl Service<Request<Body>> for Upstream {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let answers = *self.answers.lock().unwrap();
        let answer = service_fn(move |_: tonic::Request<u64>| async move {
            let item = match answers {
                Answers::Value => Ok(7),
                Answers::InTrailers(code) => Err(Status::new(code, "in trailers")),
                Answers::InHead(code) => return Err(Status::new(code, "in the head")),
                Answers::Never => std::future::pending().await,
            };
            Ok(tonic::Response::new(tokio_stream::once(item)))
        });
        Box::pin(async move {
            Ok(tonic::server::Grpc::new(Numbers).server_streaming(answer, request).await)
        })
    }
}

/// One unary call.
pub(crate) async fn ask<T>(channel: T) -> Result<u64, Status>
where
    T: GrpcService<Body>,
    T::ResponseBody: HttpBody + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let path = http::uri::PathAndQuery::from_static("/test.Numbers/Get");
    Ok(client.unary(tonic::Request::new(1), path, Numbers).await?.into_inner())
}

/// A message is a number.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers;

impl Codec for Numbers {
    type Encode = u64;
    type Decode = u64;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Numbers {
    type Item = u64;
    type Error = Status;

    fn encode(&mut self, item: u64, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put_u64(item);
        Ok(())
    }
}

impl Decoder for Numbers {
    type Item = u64;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<u64>, Status> {
        Ok(Some(src.get_u64()))
    }
}
