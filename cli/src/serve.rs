//! The page of operators, served from this machine.
//!
//! Reading needs nothing. What a page of another site could make a browser do is refused: requests
//! whose `Host` is a name that its owner may point at this machine (DNS rebinding), and, by the
//! library, writes that come from another origin. Writing needs a token too, because other users of
//! this machine reach its loopback addresses: the printed URL has it, once, and leaves it in a cookie.
//! Browsers send cookies to every port of a host, so also to what another user listens on. But they
//! send this one only beneath a random path, at which the page is, and which nobody else knows.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower_breaker::admin::{AdminService, Denied, Operator};
use tower_breaker::backend::RedisBackend;
use tower_service::Service;

use crate::args;
use crate::connection::variable;
use crate::failure::Failure;
use crate::print::Output;
use crate::signals::Ends;

/// The most connections at once.
const CONNECTIONS: usize = 256;

/// For how long a client may take to send the head of a request.
const HEAD: Duration = Duration::from_secs(10);

type Body = UnsyncBoxBody<Bytes, Infallible>;

pub(crate) async fn run(
    backend: &RedisBackend,
    args: args::Serve,
    out: &mut Output,
) -> Result<(), Failure> {
    let args::Serve { listen, write, actor } = args;
    if write && !listen.ip().is_loopback() {
        let problem = "--write needs a loopback address, as in --listen 127.0.0.1:8090: on its \
                       way over a network, others could read the token; use a tunnel";
        return Err(Failure::Usage(problem.to_owned()));
    }
    let mut ends = Ends::new()?;
    let listener = TcpListener::bind(listen).await;
    let cannot = |error| Failure::Failed(format!("cannot listen on {listen}: {error}"));
    let listener = listener.map_err(cannot)?;
    let address = listener.local_addr()?;
    let mut admin = AdminService::of_backend(backend.clone()).title("tower-breaker");
    let mut url = format!("http://{address}/");
    let token = if write { Some(Arc::new(Token::new(address)?)) } else { None };
    if let Some(token) = &token {
        url = format!("{url}?token={}", token.secret);
        let actor = actor.or_else(|| variable("USER")).unwrap_or_else(|| "unknown".to_owned());
        let (operator, token) = (Operator::new(actor), token.clone());
        admin = admin.authorise(move |request| {
            let known = token.is_in(&request.headers);
            let operator = operator.clone();
            let problem = "open the URL that `tower-breaker serve --write` has printed";
            async move { known.then_some(operator).ok_or_else(|| Denied::new(problem)) }
        });
    }
    if out.is_json() {
        out.json(&json!({ "url": url, "writes": write }))?;
    } else {
        out.line(&format!("serving on {url}"))?;
        out.line(if write {
            "this URL permits overrides: keep it to yourself; Ctrl-C ends it"
        } else {
            "it is for reading, --write permits overrides; Ctrl-C ends it"
        })?;
    }
    let site = Site { admin: admin.clone(), address, token };
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let connects = async {
            // A connection without a seat waits in the queue of the listener.
            let seat = seats.clone().acquire_owned().await;
            (seat, listener.accept().await)
        };
        let (seat, accepted) = tokio::select! {
            connected = connects => connected,
            _ = ends.next() => break,
        };
        let Ok((stream, _)) = accepted else {
            // For example no file descriptor is left: one may be later.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let site = site.clone();
        tokio::spawn(async move {
            serve(site, stream).await;
            drop(seat);
        });
    }
    admin.close();
    Ok(())
}

async fn serve(site: Site, stream: TcpStream) {
    let service = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(site.respond(request).await) }
    });
    let mut connection = http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(HEAD);
    // The client went away, or sent nonsense: neither is a problem of the server.
    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
}

#[derive(Clone)]
struct Site {
    admin: AdminService,
    address: SocketAddr,
    token: Option<Arc<Token>>,
}

impl Site {
    async fn respond(mut self, mut request: Request<Incoming>) -> Response<Body> {
        if !is_host(request.headers(), self.address) {
            let problem = r#"{"error":"the host is another one than this address"}"#;
            return plain(StatusCode::MISDIRECTED_REQUEST, problem);
        }
        if let Some(token) = &self.token
            && request.uri().path() == "/"
            && let Some(given) = request.uri().query().and_then(|q| q.strip_prefix("token="))
        {
            return token.exchange(given);
        }
        let inner = self.token.as_ref().and_then(|token| token.beneath(request.uri()));
        if let Some(inner) = inner {
            *request.uri_mut() = inner;
        }
        match self.admin.call(request).await {
            Ok(response) => response.map(BodyExt::boxed_unsync),
            Err(never) => match never {},
        }
    }
}

/// Whether the `Host` of a request is an address, which no name server can forge, or `localhost`.
fn is_host(headers: &HeaderMap, address: SocketAddr) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    let (name, port) = match host.rsplit_once(':') {
        // An IPv6 address without a port ends with a bracket.
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, "80"),
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let known = match name.parse::<IpAddr>() {
        Ok(ip) => ip == address.ip() || address.ip().is_unspecified(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    };
    known && port.parse() == Ok(address.port())
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// What permits writes.
struct Token {
    secret: String,
    /// The first segment of the path at which browsers send the cookie.
    path: String,
    /// The name of the cookie. Its own for each port: servers on other ports have their own.
    cookie: String,
}

impl Token {
    fn new(address: SocketAddr) -> Result<Self, Failure> {
        let cookie = format!("tower-breaker-{}", address.port());
        Ok(Self { secret: random()?, path: random()?, cookie })
    }

    /// Whether it is this one.
    fn is(&self, given: &str) -> bool {
        same(given, &self.secret)
    }

    /// The rest of a URI beneath the path. `None`: it is not beneath it.
    fn beneath(&self, uri: &Uri) -> Option<Uri> {
        let all = uri.path_and_query()?.as_str();
        let (first, _) = uri.path().strip_prefix('/')?.split_once('/')?;
        if !same(first, &self.path) {
            return None;
        }
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(all[1 + first.len()..].parse().ok()?);
        Uri::from_parts(parts).ok()
    }

    /// Whether a request has it: as a cookie, or as a bearer, for programs.
    fn is_in(&self, headers: &HeaderMap) -> bool {
        let texts = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let bearer = texts(header::AUTHORIZATION).filter_map(|value| value.strip_prefix("Bearer "));
        let cookies = texts(header::COOKIE).flat_map(|value| value.split(';'));
        let cookies = cookies.filter_map(|cookie| cookie.trim().split_once('='));
        let cookies = cookies.filter(|(name, _)| *name == self.cookie).map(|(_, value)| value);
        bearer.chain(cookies).any(|given| self.is(given))
    }

    /// The token leaves the URL, and becomes a cookie that no script reads.
    fn exchange(&self, given: &str) -> Response<Body> {
        let path = format!("/{}/", self.path);
        let cookie =
            format!("{}={}; Path={path}; HttpOnly; SameSite=Strict", self.cookie, self.secret);
        match (HeaderValue::from_str(&cookie), HeaderValue::from_str(&path)) {
            (Ok(cookie), Ok(path)) if self.is(given) => {
                let mut response = plain(StatusCode::SEE_OTHER, "");
                response.headers_mut().insert(header::SET_COOKIE, cookie);
                response.headers_mut().insert(header::LOCATION, path);
                response
            }
            _ => {
                plain(StatusCode::FORBIDDEN, r#"{"error":"this token is not that of this server"}"#)
            }
        }
    }
}

/// 256 random bits, as letters.
fn random() -> Result<String, Failure> {
    let mut bits = [0; 32];
    let filled = getrandom::getrandom(&mut bits);
    filled.map_err(|error| Failure::Failed(format!("there is no randomness: {error}")))?;
    let digit = |bits: u8| char::from_digit(u32::from(bits), 16);
    let letters = bits.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    Ok(letters.flatten().collect())
}

/// Whether two texts are the same, in a time that says nothing of where they differ.
fn same(given: &str, secret: &str) -> bool {
    let (given, secret) = (given.as_bytes(), secret.as_bytes());
    let differ = given.iter().zip(secret).fold(0, |differ, (a, b)| differ | (a ^ b));
    given.len() == secret.len() && differ == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_or_localhost_with_the_port() {
        let is = |host: &'static str, address: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            is_host(&headers, address.parse().unwrap())
        };
        for (host, address) in [
            ("127.0.0.1:8090", "127.0.0.1:8090"),
            ("localhost:8090", "127.0.0.1:8090"),
            ("LOCALHOST:8090", "[::1]:8090"),
            ("[::1]:8090", "[::1]:8090"),
            ("[::1]", "[::1]:80"),
            ("10.0.0.7:8090", "0.0.0.0:8090"),
            ("127.0.0.1", "127.0.0.1:80"),
        ] {
            assert!(is(host, address), "{host} {address}");
        }
        for (host, address) in [
            ("evil.example:8090", "127.0.0.1:8090"),
            ("127.0.0.1.evil.example:8090", "127.0.0.1:8090"),
            ("localhost.evil.example:8090", "0.0.0.0:8090"),
            ("127.0.0.1:8091", "127.0.0.1:8090"),
            ("127.0.0.1", "127.0.0.1:8090"),
            ("10.0.0.7:8090", "127.0.0.1:8090"),
            ("", "127.0.0.1:8090"),
            (":8090", "127.0.0.1:8090"),
        ] {
            assert!(!is(host, address), "{host} {address}");
        }
        assert!(!is_host(&HeaderMap::new(), "127.0.0.1:80".parse().unwrap()));
    }

    #[test]
    fn a_token_is_known_as_a_cookie_or_as_a_bearer_and_only_whole() {
        let token = Token::new("127.0.0.1:8090".parse().unwrap()).unwrap();
        let secret = token.secret.clone();
        assert_eq!(secret.len(), 64);
        let has = |name: header::HeaderName, value: String| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(&value).unwrap());
            token.is_in(&headers)
        };
        assert!(has(header::COOKIE, format!("a=b; tower-breaker-8090={secret}")));
        assert!(has(header::AUTHORIZATION, format!("Bearer {secret}")));
        assert!(!has(header::COOKIE, format!("tower-breaker-8091={secret}")));
        assert!(!has(header::COOKIE, format!("tower-breaker-8090={}", &secret[1..])));
        assert!(!has(header::COOKIE, "tower-breaker-8090=".to_owned()));
        assert!(!has(header::AUTHORIZATION, format!("Bearer {secret}0")));
        assert!(!token.is_in(&HeaderMap::new()));
    }

    #[test]
    fn what_is_beneath_the_random_path_is_served_as_if_it_were_not() {
        let token = Token::new("127.0.0.1:8090".parse().unwrap()).unwrap();
        let path = token.path.clone();
        assert!(path.len() == 64 && path != token.secret);
        let beneath = |uri: String| token.beneath(&uri.parse().unwrap()).map(|u| u.to_string());
        assert_eq!(beneath(format!("/{path}/")).as_deref(), Some("/"));
        let inner = "/api/circuits/a%2Fb/history?x=%20/";
        assert_eq!(beneath(format!("/{path}{inner}")).as_deref(), Some(inner));
        assert_eq!(beneath(format!("/{path}//x")).as_deref(), Some("//x"));
        for other in [format!("/{path}"), format!("/{path}0/"), format!("/{}/", &path[1..])] {
            assert_eq!(beneath(other.clone()), None, "{other}");
        }
        assert_eq!(beneath("/".to_owned()), None);
        assert_eq!(beneath("*".to_owned()), None);
    }
}
