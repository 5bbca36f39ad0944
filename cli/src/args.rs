//! The arguments.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as Group, Parser, Subcommand};
use tower_breaker::CircuitName;

/// Shows and overrides the circuits of tower-breaker, and replays traces of calls.
#[derive(Parser)]
#[command(name = "tower-breaker", version, after_help = AFTER, propagate_version = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) redis: Redis,

    /// Write JSON instead of text: one object, or one for each line.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER: &str = "\
Exit codes: 0 done; 1 not done, the reason is on standard error; 2 the arguments are wrong.

The URL of Redis, its password, a file with certificate authorities and the key prefix are read from \
CIRCUIT_BREAKER_REDIS_URL, CIRCUIT_BREAKER_REDIS_PASSWORD, CIRCUIT_BREAKER_REDIS_CA_FILE and \
CIRCUIT_BREAKER_PREFIX, as services read them. Other users of this machine can see arguments: give a \
password in the environment.";

/// Where the Redis is.
#[derive(Group)]
pub(crate) struct Redis {
    /// The URL of Redis. Default: CIRCUIT_BREAKER_REDIS_URL.
    #[arg(long, global = true, hide_default_value = true)]
    pub(crate) url: Option<String>,

    /// The first part of all keys. Default: CIRCUIT_BREAKER_PREFIX, or `cb`.
    #[arg(long, global = true)]
    pub(crate) prefix: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the circuits that are not plainly closed: open, half-open, suspect or overridden.
    List,

    /// Show one circuit.
    Show {
        /// Its name; of a circuit of a key `name:key`.
        #[arg(value_parser = name)]
        name: CircuitName,
    },

    /// Show the last transitions of a circuit, the newest last: at most 64 of the last 24 hours.
    History {
        /// Its name; of a circuit of a key `name:key`.
        #[arg(value_parser = name)]
        name: CircuitName,
    },

    /// Force a circuit open: every replica rejects its calls.
    Open(Override),

    /// Force a circuit closed: every replica admits its calls.
    Close(Override),

    /// Disable a circuit: calls pass, and nothing is counted.
    Disable(Override),

    /// End the override of a circuit, and close it.
    Reset {
        /// Its name; of a circuit of a key `name:key`.
        #[arg(value_parser = name)]
        name: CircuitName,
    },

    /// List the replicas that sent a heartbeat within the last minute.
    Replicas,

    /// Show the circuits live in the terminal; override and reset them.
    Top {
        /// Who sets overrides. At most 512 bytes. Default: the user's name, if USER has it.
        #[arg(long, value_parser = words)]
        actor: Option<String>,
    },

    /// Serve a page of the circuits, and its API, from this machine.
    Serve(Serve),

    /// Write what happens, as JSON lines, until it is interrupted.
    ///
    /// First the circuits that `list` lists, then each change, and the circuits of each replica
    /// about once a second.
    Watch {
        /// End after this time, for example 30s.
        #[arg(long = "for", value_name = "TIME", value_parser = time)]
        lasting: Option<Duration>,
    },

    /// Say what a policy would have done, by a trace of calls. Needs no Redis.
    Replay(Replay),
}

/// An override.
#[derive(Group)]
pub(crate) struct Override {
    /// The name of the circuit; of a circuit of a key `name:key`.
    #[arg(value_parser = name)]
    pub(crate) name: CircuitName,

    /// Why, for those who see it later. At most 512 bytes.
    #[arg(long, value_parser = words)]
    pub(crate) reason: String,

    /// Who sets it. At most 512 bytes. Default: the user's name, if USER has it.
    #[arg(long, value_parser = words)]
    pub(crate) actor: Option<String>,

    /// How long it lasts, for example 10m. Default: until it is reset.
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    pub(crate) lasting: Option<Duration>,
}

/// A server.
#[derive(Group)]
pub(crate) struct Serve {
    /// The address and the port; port 0 is any that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    pub(crate) listen: SocketAddr,

    /// Permit overrides and resets, with the URL that is then printed. Only on a loopback address.
    #[arg(long)]
    pub(crate) write: bool,

    /// Who sets overrides. At most 512 bytes. Default: the user's name, if USER has it.
    #[arg(long, value_parser = words)]
    pub(crate) actor: Option<String>,
}

#[derive(Clone, Copy)]
pub(crate) enum State {
    Open,
    Close,
    Disable,
}

/// A replay.
#[derive(Group)]
pub(crate) struct Replay {
    /// The trace: JSON lines, as `Store::record` writes them. `-` reads standard input.
    pub(crate) file: PathBuf,

    /// The file is the answer of Prometheus to `query_range` for `tower_breaker_calls_total`. The
    /// calls of a step are spread evenly over it, and count as quick.
    #[arg(long)]
    pub(crate) prometheus: bool,

    /// The policy: `default`, `database`, `cache`, `http_api`, `authentication` or `only` (without
    /// conditions), and settings after it, as in `http_api,failure_rate=0.3,open_for=10s`.
    #[arg(long, default_value = "default", value_parser = crate::policy::parse)]
    pub(crate) policy: tower_breaker::Policy,

    /// Also try policies around it, and rank all of them.
    #[arg(long)]
    pub(crate) grid: bool,

    /// Replay only the calls of this circuit.
    #[arg(long, value_parser = name)]
    pub(crate) circuit: Option<CircuitName>,

    /// How many bad calls a good call is worth in the ranking: the score of a policy is the bad
    /// calls it rejects, minus this many times the good calls it rejects.
    #[arg(long, default_value = "1", value_parser = cost)]
    pub(crate) cost: f64,

    /// How long before its end a call may have started.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    pub(crate) longest_call: Duration,
}

fn name(text: &str) -> Result<CircuitName, String> {
    CircuitName::new(text.to_owned()).map_err(|error| error.to_string())
}

/// A duration as people write it.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).ok().filter(|time| !time.is_zero());
    time.ok_or_else(|| "expected a number and a unit, as in 10m, 30s or 500ms".to_owned())
}

/// A text that is stored with an override.
fn words(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("it is empty".to_owned()),
        1..=512 => Ok(text.to_owned()),
        bytes => Err(format!("it has {bytes} bytes, expected at most 512")),
    }
}

fn cost(text: &str) -> Result<f64, String> {
    let cost = text.parse().ok().filter(|cost: &f64| cost.is_finite() && *cost >= 0.0);
    cost.ok_or_else(|| "expected a number, zero or more".to_owned())
}
