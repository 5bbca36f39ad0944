//! Settings from the environment and from files.
//!
//! [`Store::from_env`](crate::Store::from_env) makes a store with the settings of the environment.
//! A [`Config`] is the settings themselves: [`Config::from_env`] reads them, and
//! [`Config::connect`] returns a [`StoreBuilder`](crate::StoreBuilder) with them, to add observers
//! and policies. An error names every wrong setting at once, with its value and what to write.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tower_breaker::config::Config;
//!
//! // As `Config::from_env()` would read them:
//! let config = Config::from_vars([
//!     ("CIRCUIT_BREAKER_FAILURE_RATE", "0.5"),
//!     ("CIRCUIT_BREAKER_CIRCUIT_PAYMENTS_API_PRESET", "http_api"),
//!     ("CIRCUIT_BREAKER_CIRCUIT_PAYMENTS_API_FAILURE_RATE", "0.3"),
//! ])?;
//! let store = config.connect().await?.build();
//! assert_eq!(store.circuit("payments-api").policy().failure_rate(), Some(0.3));
//! assert_eq!(store.circuit("users").policy().failure_rate(), Some(0.5));
//! # Ok(()) }
//! ```
//!
//! # The store
//!
//! | variable | field | value | default |
//! | --- | --- | --- | --- |
//! | `CIRCUIT_BREAKER_ENABLED` | `enabled` | `true` or `false` | `true` |
//! | `CIRCUIT_BREAKER_REDIS_URL` | `redis_url` | a URL | none: circuits belong to this process |
//! | `CIRCUIT_BREAKER_REDIS_PASSWORD` | `redis_password` | text | that of the URL |
//! | `CIRCUIT_BREAKER_REDIS_CA_FILE` | `redis_ca_file` | a path | the certificates of the system |
//! | `CIRCUIT_BREAKER_PREFIX` | `prefix` | 1 to 64 bytes | `cb` |
//! | `CIRCUIT_BREAKER_START` | `start` | `degraded` or `fail` | `degraded` |
//! | `CIRCUIT_BREAKER_REPLICA` | `replica` | text | the name of the host |
//! | `CIRCUIT_BREAKER_DEADLINE` | `deadline` | `1ms` to `10s` | `50ms` |
//! | `CIRCUIT_BREAKER_REPORT_INTERVAL` | `report_interval` | `10ms` to `10s` | `100ms` |
//! | `CIRCUIT_BREAKER_BUDGET` | `budget` | 1 to 100000 commands per second | `50` |
//! | `CIRCUIT_BREAKER_KEY_LIMIT` | `key_limit` | 0 to 10000000 | `10000` |
//! | `CIRCUIT_BREAKER_KEY_IDLE` | `key_idle` | `1s` or more, or `off` | `10m` |
//! | `CIRCUIT_BREAKER_LATENCY_SAMPLE` | `latency_sample` | 1 to 1000000: one call in so many is measured; or `off` | `64` |
//! | `CIRCUIT_BREAKER_KEY_LATENCY_SAMPLE` | `key_latency_sample` | the same, of circuits of keys | `off` |
//! | `CIRCUIT_BREAKER_CRITICAL` | `critical` | names of circuits as in the code, with commas between them | none, or those of the code alone |
//!
//! If the deadline is set, the Redis command that asks for a probe may take two fifths of it, but
//! at least 1 ms and at most 5 s.
//!
//! # Policies
//!
//! These concern all circuits. The same names with the name of a circuit
//! (`CIRCUIT_BREAKER_CIRCUIT_PAYMENTS_OPEN_FOR`) concern [one circuit](#circuits-by-name).
//! [`PolicyBuilder`](crate::policy::PolicyBuilder) describes what each does, in the method of the
//! same name.
//!
//! | variable | field | value | default |
//! | --- | --- | --- | --- |
//! | `CIRCUIT_BREAKER_PRESET` | `preset` | `default`, `database`, `cache`, `http_api` or `authentication` | `default` |
//! | `CIRCUIT_BREAKER_CONSECUTIVE_FAILURES` | `consecutive_failures` | 1 or more, or `off` | `5` |
//! | `CIRCUIT_BREAKER_FAILURE_RATE` | `failure_rate` | more than 0, at most 1, or `off` | `0.5` |
//! | `CIRCUIT_BREAKER_FAILURE_COUNT` | `failure_count` | 1 or more, or `off` | `off` |
//! | `CIRCUIT_BREAKER_SLOW_CALL_RATE` | `slow_call_rate` | more than 0, at most 1, or `off` | `off` |
//! | `CIRCUIT_BREAKER_SLOW_CALL_DURATION` | `slow_call_duration` | a time, or `off` | `off` |
//! | `CIRCUIT_BREAKER_MINIMUM_CALLS` | `minimum_calls` | 1 or more | `20` |
//! | `CIRCUIT_BREAKER_TIME_WINDOW` | `time_window` | a time, or `off` | `60s` |
//! | `CIRCUIT_BREAKER_TIME_WINDOW_BUCKETS` | `time_window_buckets` | 1 to 3600 | `10` |
//! | `CIRCUIT_BREAKER_COUNT_WINDOW` | `count_window` | 1 to 1000000 calls, or `off` | none: a time window |
//! | `CIRCUIT_BREAKER_OPEN_FOR` | `open_for` | a time | `30s` |
//! | `CIRCUIT_BREAKER_BACKOFF` | `backoff` | 1 or more | `2` |
//! | `CIRCUIT_BREAKER_LONGEST_OPEN_FOR` | `longest_open_for` | a time | `5m` |
//! | `CIRCUIT_BREAKER_JITTER` | `jitter` | 0 to 1, or `off` | `0.1` |
//! | `CIRCUIT_BREAKER_PROBES` | `probes` | 1 or more | `3` |
//! | `CIRCUIT_BREAKER_SUCCESSES_TO_CLOSE` | `successes_to_close` | 1 or more | `2` |
//! | `CIRCUIT_BREAKER_PROBE_LEASE` | `probe_lease` | a time | `10s` |
//! | `CIRCUIT_BREAKER_CANCELLED` | `cancelled` | `failure_if_slow`, `failure` or `ignored` | `failure_if_slow` |
//! | `CIRCUIT_BREAKER_QUORUM` | `quorum` | 1 or more | `1` |
//!
//! A time is a number and a unit: `500ms`, `30s`, `5m`. `none` means the same as `off`. An empty
//! value counts as not set.
//!
//! A policy has one window. `COUNT_WINDOW` replaces a time window that was set in a more general
//! place, and the reverse; `off` for either means no window, so that only consecutive failures
//! count. Both in one place are an error.
//!
//! A preset is a whole policy. It replaces everything from more general places, and the settings
//! beside it change it.
//!
//! # Circuits by name
//!
//! A variable has the name of the circuit in upper case, with `_` for every character that is
//! neither a letter nor a digit of ASCII. `CIRCUIT_BREAKER_CIRCUIT_PAYMENTS_API_OPEN_FOR` concerns
//! `payments-api`. It also concerns `payments_api` and `Payments.API`: all circuits whose names are
//! written like this. If two circuits have such names and need different settings, use a file.
//! Names that end like a setting are read as the longest one: `…_CIRCUIT_A_LONGEST_OPEN_FOR` is the
//! setting `LONGEST_OPEN_FOR` of the circuit `a`.
//!
//! A file has the name of the circuit as it is. The name as variables write it (`PAYMENTS_API`) is
//! understood too, and means all those circuits.
//!
//! For circuits of keys, the name of their layer concerns all of them, and `name:key` one of them.
//!
//! # Precedence
//!
//! The policy of a circuit starts from the one in the code, if the circuit has one there:
//! [`StoreBuilder::policy`](crate::StoreBuilder::policy), that of a layer, or that of
//! [`circuit_with`](crate::Store::circuit_with). Otherwise it starts from
//! [`StoreBuilder::default_policy`](crate::StoreBuilder::default_policy), changed by the settings
//! for all circuits. Then these change it, each over those before:
//!
//! 1. the settings of its layer, for the circuit of a key;
//! 2. the settings of the name as variables write it, in the file and then in the environment;
//! 3. the settings of its own name in the file, changed by the same variables.
//!
//! So a variable holds over a file, and both hold over the code. Settings of earlier steps that
//! contradict those of a later one are adjusted, as
//! [`PolicyBuilder`](crate::policy::PolicyBuilder) describes. Two settings of one step that
//! contradict each other are an error. [`Store::set_policy`](crate::Store::set_policy) holds over
//! all of this.
//!
//! The policies are checked when the settings are read, before it is known what the code has. If
//! the settings of a circuit do not fit the policy in the code (a `slow_call_rate` where no call is
//! slow), they change the default policy instead, and the store logs a warning. With a `preset`
//! beside them, the policy in the code does not matter.
//!
//! # Unknown names
//!
//! An unknown variable that begins with `CIRCUIT_BREAKER_` is logged as a warning, with the known
//! name that is nearest. It is no error, because an orchestrator may set such variables: a
//! Kubernetes service named `circuit-breaker` makes a `CIRCUIT_BREAKER_SERVICE_HOST`. An unknown
//! name in a file is an error.
//!
//! # Files
//!
//! With the feature `serde`, a [`Config`] is read from any format that describes itself, for example
//! TOML, YAML and JSON. The crate brings no format with it. The names are those in the tables.
//! Numbers and booleans may be written as such or as text.
//!
//! ```
//! # #[cfg(feature = "serde")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tower_breaker::config::Config;
//!
//! let file = r#"
//!     deadline = "20ms"
//!     failure_rate = 0.5
//!
//!     [circuit.payments-api]
//!     preset = "http_api"
//!     open_for = "10s"
//! "#;
//! let config: Config = toml::from_str(file)?;
//! // In a program: `config.with_env()?`.
//! let config = config.with_vars([("CIRCUIT_BREAKER_FAILURE_RATE", "0.3")])?;
//!
//! let error = toml::from_str::<Config>("failure_raet = 50")?.check().unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "the settings cannot be used: \
//!      `failure_raet`: unknown setting; did you mean `failure_rate`?",
//! );
//! # let _ = config;
//! # Ok(()) }
//! # #[cfg(not(feature = "serde"))]
//! # fn main() {}
//! ```
//!
//! Reading a file checks only that it is TOML (or YAML, or JSON). The settings in it are checked
//! with those of the environment, by [`Config::with_env`] or [`Config::connect`], with one error for
//! both. A password in the file appears in no error of this crate. An error of the format may quote
//! a line of the file: keep the password out of it, in `CIRCUIT_BREAKER_REDIS_PASSWORD`.

mod check;
mod data;
mod env;
mod error;
#[cfg(feature = "serde")]
mod file;
mod names;
mod read;
mod start;

pub use data::{Config, Start};
pub use error::{ConfigError, Problem, StartError};
