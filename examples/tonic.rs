//! A gRPC client with a circuit breaker around its channel, and an interceptor; and its server.
//!
//! ```sh
//! cargo run --example tonic
//! ```
//!
//! Expect, first for unary calls and then for server-streaming ones: `Ok`; `Internal` three times,
//! while the server fails; `Unavailable` twice, from the circuit breaker, with the time to come
//! back; and `Ok` after a second. The status of a stream comes after its messages, in the trailers:
//! `.observe_body()` counts it there.
//!
//! The messages are strings, by a codec at the end of this file. With code generated from a
//! `.proto` file, give the client the same service: `GreeterClient::new(protect(channel,
//! "greeter")?)`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use http::{Request, Response};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::service::interceptor::InterceptorLayer;
use tonic::transport::{Channel, Endpoint, Server, server::TcpIncoming};
use tonic::{Code, Status};
use tower::{BoxError, Service, ServiceBuilder, service_fn};
use tower_breaker::{CircuitBreakerLayer, Policy, Store};

fn protect(channel: Channel, name: &'static str) -> Result<impl GrpcChannel, BoxError> {
    let policy = Policy::builder()
        .consecutive_failures(3)
        .open_for(Duration::from_secs(1))
        .jitter(0.0)
        .successes_to_close(1)
        .build()?;
    let breaker = CircuitBreakerLayer::new(Store::in_memory())
        .named(name)
        .policy(policy)
        // An open circuit is the status `Unavailable`. An error would become `Unknown`.
        .respond()
        .observe_body();
    // The interceptor is outside: the circuit counts no call that it refuses.
    let interceptor = InterceptorLayer::new(authorize);
    Ok(ServiceBuilder::new().layer(interceptor).layer(breaker).service(channel))
}

fn authorize(mut call: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
    let token = "Bearer demo".parse().map_err(|_| Status::unauthenticated("not a token"))?;
    call.metadata_mut().insert("authorization", token);
    Ok(call)
}

async fn greet(client: &mut Grpc<impl GrpcChannel>) -> Result<(), Status> {
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let path = PathAndQuery::from_static("/demo.Greeter/Greet");
    client.unary(tonic::Request::new("Ada".to_owned()), path, Text).await.map(|_| ())
}

async fn greet_often(client: &mut Grpc<impl GrpcChannel>) -> Result<(), Status> {
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let path = PathAndQuery::from_static("/demo.Greeter/GreetOften");
    let request = tonic::Request::new("Ada".to_owned());
    let mut greetings = client.server_streaming(request, path, Text).await?.into_inner();
    while greetings.message().await?.is_some() {}
    Ok(())
}

/// What a client needs of its channel. Generated clients have these bounds too.
trait GrpcChannel:
    GrpcService<
        Body,
        ResponseBody: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    >
{
}

impl<S> GrpcChannel for S where
    S: GrpcService<
            Body,
            ResponseBody: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
        >
{
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let server = Greeter::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let incoming = TcpIncoming::from(listener);
    tokio::spawn(Server::builder().serve_with_incoming(server.clone(), incoming));
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;

    for kind in ["unary", "server-streaming"] {
        println!("{kind}:");
        let mut client = Grpc::new(protect(channel.clone(), kind)?);
        for turn in 0..7 {
            server.broken.store((1..5).contains(&turn), Relaxed);
            if turn == 6 {
                println!("  a second later");
                tokio::time::sleep(Duration::from_millis(1_100)).await;
            }
            let result = match kind {
                "unary" => greet(&mut client).await,
                _ => greet_often(&mut client).await,
            };
            let code = result.as_ref().map_or_else(Status::code, |()| Code::Ok);
            let metadata = result.as_ref().err().map(Status::metadata);
            match metadata.and_then(|metadata| metadata.get("grpc-retry-pushback-ms")) {
                Some(millis) => println!("  {code:?}, retry in {} ms", millis.to_str()?),
                None => println!("  {code:?}"),
            }
        }
    }
    Ok(())
}

/// The server. Yours is generated from a `.proto` file.
#[derive(Clone, Default)]
struct Greeter {
    broken: Arc<AtomicBool>,
}

impl Service<Request<Body>> for Greeter {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let broken = self.broken.load(Relaxed);
        let greeting = move |name: &str| {
            if broken {
                return Err(Status::internal("out of greetings"));
            }
            Ok(format!("hello, {name}"))
        };
        let one = service_fn(move |request: tonic::Request<String>| async move {
            greeting(request.get_ref()).map(tonic::Response::new)
        });
        let many = service_fn(move |request: tonic::Request<String>| async move {
            let name = request.into_inner();
            let first = Ok(format!("one moment, {name}"));
            Ok(tonic::Response::new(tokio_stream::iter([first, greeting(&name)])))
        });
        Box::pin(async move {
            let mut server = tonic::server::Grpc::new(Text);
            Ok(match request.uri().path() {
                "/demo.Greeter/Greet" => server.unary(one, request).await,
                "/demo.Greeter/GreetOften" => server.server_streaming(many, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// A codec of strings.
#[derive(Clone, Copy, Default)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, item: String, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(item.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let text = String::from_utf8(bytes.to_vec());
        text.map(Some).map_err(|_| Status::internal("not UTF-8"))
    }
}
