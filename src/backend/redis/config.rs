//! Where Redis is, and how to connect to it.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "redis-tls")]
use crate::backend::BackendError;

/// The address of a Redis, and how to connect to it.
///
/// Most deployments have a URL:
///
/// ```
/// use tower_breaker::backend::RedisConfig;
///
/// let config: RedisConfig = "redis://breaker:secret@127.0.0.1:6379/0".parse()?;
/// assert!(!format!("{config:?}").contains("secret"));
/// # Ok::<(), tower_breaker::backend::RedisConfigError>(())
/// ```
///
/// | scheme | server |
/// | --- | --- |
/// | `redis`, `rediss` | one server; `rediss` is TLS, and needs the feature `redis-tls` |
/// | `redis-sentinel`, `rediss-sentinel` | sentinels, which say where the server is |
/// | `redis-cluster`, `rediss-cluster` | nodes of a cluster; the other nodes are found through them |
///
/// Add more hosts as `?node=host:port&node=host:port`. Sentinels need `sentinelServiceName`, and
/// may need `sentinelUsername` and `sentinelPassword`. In user names and passwords, percent-encode
/// the characters that mean something in a URL (`%`, `/`, `?`, `#`, `@`, `:`, `&`). Or set the
/// parts with methods:
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
///
/// Its `Debug` output shows no secret.
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

/// A user name and a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
}

/// A setting, or those that a URL may contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Address,
    CaFile,
    Prefix,
    CommandTimeout,
}

impl RedisConfig {
    /// The least is the resolution of a server's clock; the largest is longer than any caller
    /// waits.
    pub(crate) const COMMAND_TIMEOUTS: RangeInclusive<Duration> =
        Duration::from_millis(1)..=Duration::from_secs(5);

    /// Returns the configuration of one server.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self::of(Mode::Standalone, vec![(host.into(), port)])
    }

    /// Returns the configuration of a cluster. The other nodes are found through these.
    #[must_use]
    pub fn cluster<H: Into<String>>(nodes: impl IntoIterator<Item = (H, u16)>) -> Self {
        Self::of(Mode::Cluster, hosts(nodes))
    }

    /// Returns the configuration of the server that these sentinels know as `service`.
    #[must_use]
    pub fn sentinel<H: Into<String>>(
        service: impl Into<String>,
        sentinels: impl IntoIterator<Item = (H, u16)>,
    ) -> Self {
        let credentials = Credentials::default();
        Self::of(Mode::Sentinel { service: service.into(), credentials }, hosts(sentinels))
    }

    /// Sets the user. Default: the server's default user.
    #[must_use]
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.credentials.username = Some(username.into());
        self
    }

    /// Sets the password. It is never shown.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.credentials.password = Some(password.into());
        self
    }

    /// Sets the user for the sentinels, if they need one. Has no effect without sentinels.
    #[must_use]
    pub fn sentinel_username(mut self, name: impl Into<String>) -> Self {
        if let Mode::Sentinel { credentials, .. } = &mut self.mode {
            credentials.username = Some(name.into());
        }
        self
    }

    /// Sets the password for the sentinels, if they need one. Has no effect without sentinels.
    #[must_use]
    pub fn sentinel_password(mut self, secret: impl Into<String>) -> Self {
        if let Mode::Sentinel { credentials, .. } = &mut self.mode {
            credentials.password = Some(secret.into());
        }
        self
    }

    /// Sets the number of the database. Default: 0, which is the only one of a cluster.
    #[must_use]
    pub fn database(mut self, number: u8) -> Self {
        self.database = number;
        self
    }

    /// Connects with TLS, and trusts the certificate authorities of the system. Needs the feature
    /// `redis-tls`.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Connects with TLS, and trusts only the certificate authorities in this PEM file. The file is
    /// read when the backend connects. Needs the feature `redis-tls`.
    #[must_use]
    pub fn tls_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls_ca_file = Some(path.into());
        self.tls()
    }

    /// Sets the first part of all keys and channels: 1 to 64 bytes. Default: `cb`. Services
    /// with the same prefix share their circuits.
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets how long a command may take that a call waits for, which asks for a probe: 1 ms to 5 s.
    /// Default: 50 ms. After the store's [deadline](crate::StoreBuilder::deadline), no call waits
    /// for the answer.
    ///
    /// Commands that no call waits for may take 1 s, or as long as this if this is longer.
    #[must_use]
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.command_timeout = timeout;
        self
    }

    /// Checks the configuration, without connecting.
    ///
    /// # Errors
    ///
    /// Returns an error that names every problem at once.
    pub fn check(&self) -> Result<(), RedisConfigError> {
        let problems = self.problems().into_iter().map(|(_, problem)| problem);
        RedisConfigError::unless_none(problems.collect())
    }

    /// How long a command may take that no call waits for. Circuits go on deciding meanwhile.
    pub(super) fn background_timeout(&self) -> Duration {
        self.command_timeout.max(Duration::from_secs(1))
    }

    pub(super) fn of(mode: Mode, hosts: Vec<(String, u16)>) -> Self {
        Self {
            mode,
            hosts,
            credentials: Credentials::default(),
            database: 0,
            tls: false,
            tls_ca_file: None,
            prefix: "cb".to_owned(),
            command_timeout: Duration::from_millis(50),
        }
    }

    /// Returns what is wrong, and with which setting.
    pub(crate) fn problems(&self) -> Vec<(Part, String)> {
        let mut problems = Vec::new();
        let mut unless = |good: bool, part: Part, problem: &str| {
            if !good {
                problems.push((part, problem.to_owned()));
            }
        };
        let address = Part::Address;
        unless(!self.hosts.is_empty(), address, "the host is missing");
        unless(self.hosts.iter().all(|(host, _)| !host.is_empty()), address, "a host is empty");
        unless(
            self.hosts.iter().all(|(host, _)| is_host(host)),
            address,
            "a host is not a name or an address: write it without scheme, user and path",
        );
        unless(self.hosts.iter().all(|(_, port)| *port != 0), address, "port 0 cannot be used");
        unless(
            !matches!(&self.mode, Mode::Sentinel { service, .. } if service.is_empty()),
            address,
            "the name of the service is missing, which sentinels need: set sentinelServiceName",
        );
        unless(
            self.mode != Mode::Cluster || self.database == 0,
            address,
            "a cluster has only database 0",
        );
        unless(
            self.credentials.username.is_none() || self.credentials.password.is_some(),
            address,
            "a user name needs a password",
        );
        unless(
            !self.tls || cfg!(feature = "redis-tls"),
            if self.tls_ca_file.is_some() { Part::CaFile } else { address },
            "TLS is not available: enable the feature `redis-tls` of tower-breaker",
        );
        let bad = |c: char| matches!(c, '{' | '}') || c.is_whitespace() || c.is_control();
        unless(
            (1..=64).contains(&self.prefix.len()) && !self.prefix.contains(bad),
            Part::Prefix,
            "the key prefix must have 1 to 64 bytes, without braces, spaces and control characters",
        );
        unless(
            Self::COMMAND_TIMEOUTS.contains(&self.command_timeout),
            Part::CommandTimeout,
            "the command timeout must be between 1ms and 5s",
        );
        problems
    }

    /// Checks whether the CA file can be used now, if there is one.
    #[cfg(feature = "redis-tls")]
    pub(crate) fn check_ca_file(&self) -> Result<(), BackendError> {
        match &self.tls_ca_file {
            Some(path) => super::tls::config(Some(path)).map(drop),
            None => Ok(()),
        }
    }
}

/// Whether this is a host, and not by mistake a URL, whose password would be shown.
fn is_host(host: &str) -> bool {
    !host.contains(|c: char| "/?#@".contains(c) || c.is_whitespace() || c.is_control())
}

fn hosts<H: Into<String>>(hosts: impl IntoIterator<Item = (H, u16)>) -> Vec<(String, u16)> {
    hosts.into_iter().map(|(host, port)| (host.into(), port)).collect()
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A host that is no host may be a whole URL.
        let shown = |(host, port): &(String, u16)| {
            (if is_host(host) { host.clone() } else { "…".to_owned() }, *port)
        };
        f.debug_struct("RedisConfig")
            .field("mode", &self.mode)
            .field("hosts", &self.hosts.iter().map(shown).collect::<Vec<_>>())
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

/// The error of a configuration that cannot work. It names every problem at once, and no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Redis configuration cannot work: {}", problems.join("; "))]
pub struct RedisConfigError {
    problems: Vec<String>,
}

impl RedisConfigError {
    /// Returns the problems, one per wrong setting.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    pub(super) fn unless_none(problems: Vec<String>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }
}
