//! A redis-server that a test can kill, freeze, empty and restart.

use std::io::BufReader;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tower_breaker::backend::RedisConfig;

use super::protocol::ask;
use super::{LONG, until};

/// A server on a free port, without persistence. Its drop ends it.
pub(crate) struct Server {
    pub(super) port: u16,
    folder: PathBuf,
    args: Vec<String>,
    child: Child,
    /// The password of the default user, for `cli`.
    login: Option<&'static str>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a server with more arguments, as in a configuration file.
    pub(crate) fn with(args: &[&str]) -> Self {
        Self::new(args, &[], None)
    }

    /// Starts a server whose default user has this password.
    pub(crate) fn with_password(password: &'static str) -> Self {
        Self::new(&["--requirepass", password], &[], Some(password))
    }

    fn new(args: &[&str], first: &[&str], login: Option<&'static str>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("breaker-{}-{number}", std::process::id()));
        // Another process may take the port before the server does.
        for _ in 0..10 {
            // A killed process with the same id may have left one.
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            let port = free_port();
            let mut all: Vec<String> = first.iter().map(ToString::to_string).collect();
            let own = ["--port", &port.to_string(), "--save", "", "--appendonly", "no", "--bind"];
            all.extend(own.map(str::to_owned));
            all.push("127.0.0.1".to_owned());
            all.extend(args.iter().map(ToString::to_string));
            let child = spawn(&all, &folder);
            let mut server = Self { port, folder: folder.clone(), args: all, child, login };
            if server.wait_until_ready() {
                return server;
            }
        }
        panic!("redis-server {args:?} ends at once");
    }

    /// Starts a sentinel of `master`, which needs no other to decide.
    pub(crate) fn sentinel(service: &str, master: &Server) -> Self {
        let folder = std::env::temp_dir();
        let file = folder.join(format!("breaker-sentinel-{}.conf", master.port));
        let port = master.port;
        let text = format!(
            "sentinel monitor {service} 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds {service} 500\n\
             sentinel failover-timeout {service} 3000\n"
        );
        std::fs::write(&file, text).unwrap();
        Self::new(&["--sentinel"], &[file.to_str().unwrap()], None)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn config(&self) -> RedisConfig {
        RedisConfig::new("127.0.0.1", self.port)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts a killed server again, on the same port.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.args, &self.folder);
        assert!(self.wait_until_ready(), "redis-server ends at once");
    }

    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success(), "kill {signal}");
    }

    /// The answer to a command. Errors begin with `-`; the items of a list are lines.
    #[track_caller]
    pub(crate) fn cli(&self, args: &[&str]) -> String {
        self.try_cli(args).unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    /// The same, after the password of the default user was changed.
    #[track_caller]
    pub(crate) fn cli_as(&self, password: &str, args: &[&str]) -> String {
        self.connect_and_ask(Some(password), args).unwrap()
    }

    pub(crate) fn number(&self, args: &[&str]) -> u64 {
        let answer = self.cli(args);
        answer.parse().unwrap_or_else(|_| panic!("{args:?}: {answer}"))
    }

    /// How often a command has run.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        let start = format!("cmdstat_{command}:calls=");
        let info = self.cli(&["INFO", "commandstats"]);
        let line = info.lines().find_map(|line| line.strip_prefix(&start));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }

    /// The server's time in milliseconds.
    pub(crate) fn millis(&self) -> u64 {
        let time = self.cli(&["TIME"]);
        let mut parts = time.lines().map(|part| part.parse::<u64>().unwrap());
        parts.next().unwrap() * 1000 + parts.next().unwrap() / 1000
    }

    fn try_cli(&self, args: &[&str]) -> std::io::Result<String> {
        self.connect_and_ask(self.login, args)
    }

    fn connect_and_ask(&self, login: Option<&str>, args: &[&str]) -> std::io::Result<String> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(LONG))?;
        let mut reader = BufReader::new(stream);
        if let Some(password) = login {
            ask(&mut reader, &["AUTH", password])?;
        }
        ask(&mut reader, args)
    }

    /// Returns false if the server has ended instead.
    fn wait_until_ready(&mut self) -> bool {
        let (mut ended, ours) = (false, format!("process_id:{}\r", self.child.id()));
        until("a server that is ready", || {
            ended = self.child.try_wait().unwrap().is_some();
            // It must not be another server on the same port.
            ended || self.try_cli(&["INFO", "server"]).is_ok_and(|info| info.contains(&ours))
        });
        !ended
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(args: &[String], folder: &Path) -> Child {
    let mut command = Command::new("redis-server");
    command.args(args).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| {
        panic!("cannot start redis-server ({error}); on Debian: apt-get install redis-server")
    })
}

/// A free port that no other test gets, also not after its server was killed. It is below the ports
/// that the system assigns by itself. The second port of a cluster node is 10 000 above.
pub(super) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed) + std::process::id() * 101;
        let port = 12_000 + u16::try_from(next % 10_000).unwrap();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}
