//! Reads a Redis URL. No error repeats a part of the URL: a password with a `/`, `?`, `#` or `@`
//! that is not percent-encoded makes any part of it a secret.

use std::str::FromStr;

use url::Url;

use super::config::{Mode, RedisConfig, RedisConfigError};

const PARAMETERS: &str = "node, sentinelServiceName, sentinelUsername, sentinelPassword";

impl RedisConfig {
    /// Returns the configuration of a URL.
    ///
    /// # Errors
    ///
    /// Returns an error that names every problem at once. It does not repeat the URL, which may
    /// contain a password.
    pub fn from_url(url: &str) -> Result<Self, RedisConfigError> {
        let (config, mut problems) = Self::read(url);
        problems.extend(config.problems().into_iter().map(|(_, problem)| problem));
        RedisConfigError::unless_none(problems).map(|()| config)
    }

    /// Like [`from_url`](Self::from_url), but not checked as a whole: parts that the URL lacks may
    /// be set apart.
    pub(crate) fn read(url: &str) -> (Self, Vec<String>) {
        read(url)
    }
}

impl FromStr for RedisConfig {
    type Err = RedisConfigError;

    fn from_str(url: &str) -> Result<Self, RedisConfigError> {
        Self::from_url(url)
    }
}

/// Returns what can be read of a URL, and what is wrong with the rest.
fn read(url: &str) -> (RedisConfig, Vec<String>) {
    match Url::parse(url) {
        Ok(url) => {
            let mut problems = Vec::new();
            (parse(&url, &mut problems), problems)
        }
        // With a host, so that none is reported as missing.
        Err(error) => {
            (RedisConfig::new("unknown", 6379), vec![format!("it is not a URL: {error}")])
        }
    }
}

fn parse(url: &Url, problems: &mut Vec<String>) -> RedisConfig {
    let mut config = RedisConfig::of(Mode::Standalone, Vec::new());
    let (scheme, tls) = match url.scheme().strip_prefix("rediss") {
        Some(rest) => (rest, true),
        None => (url.scheme().strip_prefix("redis").unwrap_or("?"), false),
    };
    config.tls = tls;
    match scheme {
        "" => {}
        "-cluster" => config.mode = Mode::Cluster,
        "-sentinel" => {
            let (service, credentials) = Default::default();
            config.mode = Mode::Sentinel { service, credentials };
        }
        _ => problems.push(
            "it does not begin with redis://, redis-sentinel:// or redis-cluster://, or for TLS \
             with rediss://, rediss-sentinel:// or rediss-cluster://"
                .to_owned(),
        ),
    }
    let default_port = if scheme == "-sentinel" { 26379 } else { 6379 };
    config.hosts.extend(host(url, default_port));

    let decoded = |text: &str, what: &str, problems: &mut Vec<String>| {
        let decoded = decode(text);
        if decoded.is_none() {
            problems.push(format!("the {what} is not percent-encoded UTF-8"));
        }
        decoded
    };
    if !url.username().is_empty() {
        config.credentials.username = decoded(url.username(), "user name", problems);
    }
    if let Some(password) = url.password() {
        config.credentials.password = decoded(password, "password", problems);
        if config.credentials.password.is_none() {
            // There is one, so none must be reported as missing.
            config.credentials.username = None;
        }
    }
    match url.path().trim_matches('/') {
        "" => {}
        number => match number.parse() {
            Ok(number) => config.database = number,
            Err(_) => {
                problems.push("the path is not the number of a database, 0 to 255".to_owned());
            }
        },
    }
    if url.fragment().is_some() {
        problems.push("there is a fragment after a #: in a password, write # as %23".to_owned());
    }
    let pairs = url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    for (name, value) in pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
        match name {
            "node" => match node(value, default_port) {
                Some(node) => config.hosts.push(node),
                None => problems.push("a node is not host:port".to_owned()),
            },
            "sentinelServiceName" => {
                let name = decoded(value, name, problems).unwrap_or_default();
                if let Mode::Sentinel { service, .. } = &mut config.mode {
                    *service = name;
                }
            }
            "sentinelUsername" => {
                let name = decoded(value, name, problems).unwrap_or_default();
                config = config.sentinel_username(name);
            }
            "sentinelPassword" => {
                let secret = decoded(value, name, problems).unwrap_or_default();
                config = config.sentinel_password(secret);
            }
            _ => problems.push(format!("there is an unknown parameter: known are {PARAMETERS}")),
        }
    }
    config
}

fn host(url: &Url, default_port: u16) -> Option<(String, u16)> {
    // An IPv6 address is in brackets in a URL, and nowhere else.
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), url.port().unwrap_or(default_port)))
}

/// Returns a host and a port, and refuses everything else that a URL may have.
fn node(text: &str, default_port: u16) -> Option<(String, u16)> {
    let url = Url::parse(&format!("redis://{}", decode(text)?)).ok()?;
    let more = !url.username().is_empty()
        || url.password().is_some()
        || !url.path().is_empty()
        || url.query().is_some()
        || url.fragment().is_some();
    if more { None } else { host(&url, default_port) }
}

/// Decodes percent-encoding; `None` if the result is no text. A `+` stays a `+`: it is frequent in
/// passwords.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let [high, low, tail @ ..] = tail else { return None };
            let digit = |byte: u8| char::from(byte).to_digit(16);
            decoded.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
            rest = tail;
        } else {
            decoded.push(*first);
        }
    }
    String::from_utf8(decoded).ok()
}
