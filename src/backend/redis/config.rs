//! Where the ledger is, and how to get in.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "redis-tls")]
use crate::backend::BackendError;

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
/// may need `sentinelUsername` and `sentinelPassword`. In user names and passwords, characters that
/// mean something in a URL are percent-encoded (`%`, `/`, `?`, `#`, `@`, `:`, `&`); or set them apart:
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

/// A setting, or those that a URL may bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Address,
    CaFile,
    Prefix,
    CommandTimeout,
}

impl RedisConfig {
    /// Finer than the first, a server's clock cannot tell; the last is longer than anybody waits.
    pub(crate) const COMMAND_TIMEOUTS: RangeInclusive<Duration> =
        Duration::from_millis(1)..=Duration::from_secs(5);

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

    /// How long a command may take, 1 ms to 5 s: 20 ms, unless said otherwise. Shorter than the
    /// deadline of admissions, or nobody waits for the answer any more.
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
        let problems = self.problems().into_iter().map(|(_, problem)| problem);
        RedisConfigError::unless_none(problems.collect())
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
            command_timeout: Duration::from_millis(20),
        }
    }

    /// What is wrong, and with which setting.
    pub(crate) fn problems(&self) -> Vec<(Part, String)> {
        let mut problems = Vec::new();
        let mut unless = |good: bool, part: Part, problem: &str| {
            if !good {
                problems.push((part, problem.to_owned()));
            }
        };
        let address = Part::Address;
        unless(!self.hosts.is_empty(), address, "no host is named");
        unless(self.hosts.iter().all(|(host, _)| !host.is_empty()), address, "a host has no name");
        unless(
            self.hosts.iter().all(|(host, _)| is_host(host)),
            address,
            "a host is a name or an address, and no URL",
        );
        unless(self.hosts.iter().all(|(_, port)| *port != 0), address, "no server has port 0");
        unless(
            !matches!(&self.mode, Mode::Sentinel { service, .. } if service.is_empty()),
            address,
            "sentinels are to be asked for a service: set sentinelServiceName",
        );
        unless(
            self.mode != Mode::Cluster || self.database == 0,
            address,
            "a cluster has no database but 0",
        );
        unless(
            self.credentials.username.is_none() || self.credentials.password.is_some(),
            address,
            "a user name needs a password",
        );
        unless(
            !self.tls || cfg!(feature = "redis-tls"),
            if self.tls_ca_file.is_some() { Part::CaFile } else { address },
            "TLS needs the feature `redis-tls` of tower-breaker",
        );
        let bad = |c: char| matches!(c, '{' | '}') || c.is_whitespace() || c.is_control();
        unless(
            (1..=64).contains(&self.prefix.len()) && !self.prefix.contains(bad),
            Part::Prefix,
            "the key prefix has 1 to 64 bytes, and no braces, spaces or control characters",
        );
        unless(
            Self::COMMAND_TIMEOUTS.contains(&self.command_timeout),
            Part::CommandTimeout,
            "the command timeout is between 1ms and 5s",
        );
        problems
    }

    /// Whether the CA file can be used now, if there is one.
    #[cfg(feature = "redis-tls")]
    pub(crate) fn check_ca_file(&self) -> Result<(), BackendError> {
        match &self.tls_ca_file {
            Some(path) => super::tls::config(Some(path)).map(drop),
            None => Ok(()),
        }
    }
}

/// Not to be mixed up with a URL, whose password would be shown.
fn is_host(host: &str) -> bool {
    !host.contains(|c: char| "/?#@".contains(c) || c.is_whitespace() || c.is_control())
}

fn hosts<H: Into<String>>(hosts: impl IntoIterator<Item = (H, u16)>) -> Vec<(String, u16)> {
    hosts.into_iter().map(|(host, port)| (host.into(), port)).collect()
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is no host may be a whole URL.
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

    pub(super) fn unless_none(problems: Vec<String>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }
}
