//! Where the ledger is, and how to get in.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

/// Where Redis is, and how to get in.
///
/// Mostly there is a URL, as operators hand them out:
///
/// ```
/// use tower_breaker::backend::RedisConfig;
///
/// let config: RedisConfig = "redis://breaker:secret@127.0.0.1:6379/0".parse()?;
/// assert!(!format!("{config:?}").contains("secret"));
/// # Ok::<(), tower_breaker::backend::RedisConfigError>(())
/// ```
///
/// | scheme | what answers there |
/// | --- | --- |
/// | `redis`, `rediss` | one server; a `s` more is TLS, and needs the feature `redis-tls` |
/// | `redis-sentinel`, `rediss-sentinel` | sentinels, which tell where the server is |
/// | `redis-cluster`, `rediss-cluster` | nodes of a cluster; the others are found from there |
///
/// More hosts follow as `?node=host:port&node=host:port`. Sentinels need `sentinelServiceName`, and
/// may need `sentinelUsername` and `sentinelPassword`. In a user name and a password, characters that
/// mean something in a URL are percent-encoded; or set them apart:
///
/// ```
/// use std::time::Duration;
/// use tower_breaker::backend::RedisConfig;
///
/// let config = RedisConfig::sentinel("main", [("10.0.0.1", 26379), ("10.0.0.2", 26379)])
///     .username("breaker")
///     .password("p@ss/word")
///     .key_prefix("shop:cb")
///     .command_timeout(Duration::from_millis(30));
/// config.check()?;
/// # Ok::<(), tower_breaker::backend::RedisConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RedisConfig {
    pub(super) mode: Mode,
    pub(super) hosts: Vec<(String, u16)>,
    pub(super) credentials: Credentials,
    pub(super) database: u8,
    pub(super) tls: bool,
    pub(super) tls_ca_file: Option<PathBuf>,
    pub(super) prefix: String,
    pub(super) command_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Standalone,
    Cluster,
    Sentinel { service: String, credentials: Credentials },
}

/// Who we are.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
}

impl RedisConfig {
    /// One server.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self::of(Mode::Standalone, vec![(host.into(), port)])
    }

    /// A cluster, of which these nodes are known.
    #[must_use]
    pub fn cluster<H: Into<String>>(nodes: impl IntoIterator<Item = (H, u16)>) -> Self {
        Self::of(Mode::Cluster, hosts(nodes))
    }

    /// The server that these sentinels know as `service`.
    #[must_use]
    pub fn sentinel<H: Into<String>>(
        service: impl Into<String>,
        sentinels: impl IntoIterator<Item = (H, u16)>,
    ) -> Self {
        let credentials = Credentials::default();
        Self::of(Mode::Sentinel { service: service.into(), credentials }, hosts(sentinels))
    }

    /// What a URL says.
    ///
    /// # Errors
    ///
    /// Every problem at once. The URL is not repeated: it may bear a password.
    pub fn from_url(url: &str) -> Result<Self, RedisConfigError> {
        let parsed = Url::parse(url).map_err(|error| RedisConfigError::one(error.to_string()))?;
        let mut problems = Vec::new();
        let config = parse(&parsed, &mut problems);
        problems.extend(config.problems());
        RedisConfigError::unless_none(problems).map(|()| config)
    }

    /// The user, where it is not the server's default one.
    #[must_use]
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.credentials.username = Some(username.into());
        self
    }

    /// The password. It is shown nowhere.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.credentials.password = Some(password.into());
        self
    }

    /// The user at the sentinels, if those ask for one. Without sentinels it does nothing.
    #[must_use]
    pub fn sentinel_username(mut self, name: impl Into<String>) -> Self {
        if let Mode::Sentinel { credentials, .. } = &mut self.mode {
            credentials.username = Some(name.into());
        }
        self
    }

    /// The password at the sentinels, if those ask for one. Without sentinels it does nothing.
    #[must_use]
    pub fn sentinel_password(mut self, secret: impl Into<String>) -> Self {
        if let Mode::Sentinel { credentials, .. } = &mut self.mode {
            credentials.password = Some(secret.into());
        }
        self
    }

    /// The number of the database. A cluster has none but 0.
    #[must_use]
    pub fn database(mut self, number: u8) -> Self {
        self.database = number;
        self
    }

    /// Speaks TLS, and trusts whom the system trusts.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Speaks TLS, and trusts only the certificates in this PEM file. It is read at connecting.
    #[must_use]
    pub fn tls_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls_ca_file = Some(path.into());
        self.tls()
    }

    /// What all keys begin with, and what the channel is named after: `cb`, unless said otherwise.
    /// Services that use one prefix share their circuits.
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long a command may take: 20 ms, unless said otherwise. Shorter than the deadline of
    /// admissions, or nobody waits for the answer any more.
    #[must_use]
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.command_timeout = timeout;
        self
    }

    /// Whether this can work, as far as that is known without trying.
    ///
    /// # Errors
    ///
    /// Every problem at once.
    pub fn check(&self) -> Result<(), RedisConfigError> {
        RedisConfigError::unless_none(self.problems())
    }

    fn of(mode: Mode, hosts: Vec<(String, u16)>) -> Self {
        Self {
            mode,
            hosts,
            credentials: Credentials::default(),
            database: 0,
            tls: false,
            tls_ca_file: None,
            prefix: "cb".to_owned(),
            command_timeout: Duration::from_millis(20),
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut unless = |good: bool, problem: &str| {
            if !good {
                problems.push(problem.to_owned());
            }
        };
        unless(!self.hosts.is_empty(), "no host is named");
        unless(self.hosts.iter().all(|(host, _)| !host.is_empty()), "a host has no name");
        unless(self.hosts.iter().all(|(_, port)| *port != 0), "no server has port 0");
        unless(
            !matches!(&self.mode, Mode::Sentinel { service, .. } if service.is_empty()),
            "sentinels are to be asked for a service: set sentinelServiceName",
        );
        unless(self.mode != Mode::Cluster || self.database == 0, "a cluster has no database but 0");
        unless(
            self.credentials.username.is_none() || self.credentials.password.is_some(),
            "a user name needs a password",
        );
        unless(
            !self.tls || cfg!(feature = "redis-tls"),
            "TLS needs the feature `redis-tls` of tower-breaker",
        );
        let bad = |c: char| matches!(c, '{' | '}') || c.is_whitespace() || c.is_control();
        unless(
            (1..=64).contains(&self.prefix.len()) && !self.prefix.contains(bad),
            "the key prefix has 1 to 64 bytes, and no braces, spaces or control characters",
        );
        unless(
            (Duration::from_millis(1)..=Duration::from_secs(5)).contains(&self.command_timeout),
            "the command timeout is between 1ms and 5s",
        );
        problems
    }
}

impl FromStr for RedisConfig {
    type Err = RedisConfigError;

    fn from_str(url: &str) -> Result<Self, RedisConfigError> {
        Self::from_url(url)
    }
}

fn hosts<H: Into<String>>(hosts: impl IntoIterator<Item = (H, u16)>) -> Vec<(String, u16)> {
    hosts.into_iter().map(|(host, port)| (host.into(), port)).collect()
}

fn parse(url: &Url, problems: &mut Vec<String>) -> RedisConfig {
    let mut config = RedisConfig::of(Mode::Standalone, Vec::new());
    let (scheme, tls) = match url.scheme().strip_prefix("rediss") {
        Some(rest) => (rest, true),
        None => (url.scheme().strip_prefix("redis").unwrap_or("?"), false),
    };
    config.tls = tls;
    let (service, credentials) = (String::new(), Credentials::default());
    match scheme {
        "" => {}
        "-cluster" => config.mode = Mode::Cluster,
        "-sentinel" => config.mode = Mode::Sentinel { service, credentials },
        _ => problems.push(format!(
            "{:?} is none of redis, redis-sentinel, redis-cluster, nor of these with rediss",
            url.scheme()
        )),
    }
    let default_port = if scheme == "-sentinel" { 26379 } else { 6379 };
    if let Some(host) = url.host_str() {
        // An IPv6 address is in brackets in a URL, and nowhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        config.hosts.push((host.to_owned(), url.port().unwrap_or(default_port)));
    }
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
    }
    match url.path().trim_matches('/') {
        "" => {}
        number => match number.parse() {
            Ok(number) => config.database = number,
            Err(_) => problems.push("the path is the database's number, 0 to 255".to_owned()),
        },
    }
    for (name, value) in url.query_pairs() {
        match &*name {
            "node" => match node(&value, default_port) {
                Some(node) => config.hosts.push(node),
                None => problems.push("a node is not host:port".to_owned()),
            },
            "sentinelServiceName" => {
                if let Mode::Sentinel { service, .. } = &mut config.mode {
                    *service = value.into_owned();
                }
            }
            "sentinelUsername" => config = config.sentinel_username(value),
            "sentinelPassword" => config = config.sentinel_password(value),
            _ => problems.push(format!("there is no parameter {name:?}")),
        }
    }
    config
}

fn node(text: &str, default_port: u16) -> Option<(String, u16)> {
    match text.rsplit_once(':') {
        Some((host, port)) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Some((host.to_owned(), port.parse().ok()?))
        }
        None => Some((text.to_owned(), default_port)),
    }
}

/// Percent-decoded; `None` if that is no text.
fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            decoded.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            decoded.push(*first);
        }
    }
    String::from_utf8(decoded).ok()
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("mode", &self.mode)
            .field("hosts", &self.hosts)
            .field("credentials", &self.credentials)
            .field("database", &self.database)
            .field("tls", &self.tls)
            .field("tls_ca_file", &self.tls_ca_file)
            .field("prefix", &self.prefix)
            .field("command_timeout", &self.command_timeout)
            .finish()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .finish()
    }
}

/// A configuration that cannot work: every problem with it at once, and no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Redis configuration cannot work: {}", problems.join("; "))]
pub struct RedisConfigError {
    problems: Vec<String>,
}

impl RedisConfigError {
    /// What is wrong, one by one.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    pub(super) fn one(problem: String) -> Self {
        Self { problems: vec![problem] }
    }

    fn unless_none(problems: Vec<String>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }
}
