//! A redis-server of one's own, to be killed, frozen, emptied and restarted.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tower_breaker::backend::{RedisBackend, RedisConfig};

use super::s;

/// More than anything here takes, on any machine.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// How often it is looked whether something has come.
const LOOK: Duration = Duration::from_millis(2);

/// A server on a free port, without persistence; gone when it is dropped.
pub(crate) struct Server {
    port: u16,
    folder: PathBuf,
    args: Vec<String>,
    child: Child,
    /// For `cli`, where the default user has a password.
    login: Option<&'static str>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With more arguments, as in a configuration file.
    pub(crate) fn with(args: &[&str]) -> Self {
        Self::new(args, &[], None)
    }

    /// The default user has this password.
    pub(crate) fn with_password(password: &'static str) -> Self {
        Self::new(&["--requirepass", password], &[], Some(password))
    }

    fn new(args: &[&str], first: &[&str], login: Option<&'static str>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("breaker-{}-{number}", std::process::id()));
        // Between the look for a free port and its use, somebody else may take it.
        for _ in 0..10 {
            // Of a process that had our number, and was killed.
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

    /// A sentinel of `master`, whose word is enough.
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

    /// What the server answers: errors begin with `-`, the items of a list are lines.
    #[track_caller]
    pub(crate) fn cli(&self, args: &[&str]) -> String {
        self.try_cli(args).unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    /// The same, after the default user's password was changed.
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

    /// False if it has ended instead.
    fn wait_until_ready(&mut self) -> bool {
        let (mut ended, ours) = (false, format!("process_id:{}\r", self.child.id()));
        until("a server that is ready", || {
            ended = self.child.try_wait().unwrap().is_some();
            // Not somebody else's, on the same port.
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

/// Where the slots of each master begin, and the last one's end.
const BOUNDS: [u64; 4] = [0, 5461, 10923, 16384];

/// Three masters that share the slots.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Server>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let nodes: Vec<_> = (0..3).map(|_| Server::with(&args)).collect();
        for (node, bound) in nodes.iter().zip(BOUNDS.windows(2)) {
            let slots: Vec<_> = (bound[0]..bound[1]).map(|slot| slot.to_string()).collect();
            // `ADDSLOTSRANGE` is of Redis 7.0.
            let add = ["CLUSTER", "ADDSLOTS"].into_iter();
            let add: Vec<_> = add.chain(slots.iter().map(String::as_str)).collect();
            assert_eq!(node.cli(&add), "OK");
        }
        let mut looks = 0;
        until("a cluster that agrees", || {
            // Said once, it may be in vain: a node that does not answer soon is forgotten.
            if looks % 500 == 0 {
                for node in &nodes[1..] {
                    let port = node.port.to_string();
                    assert_eq!(nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &port]), "OK");
                }
            }
            looks += 1;
            nodes.iter().all(|node| {
                let info = node.cli(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
        });
        Self { nodes }
    }

    /// Which node has a key.
    pub(crate) fn master_of(&self, key: &str) -> usize {
        let slot = self.nodes[0].number(&["CLUSTER", "KEYSLOT", key]);
        BOUNDS[1..].iter().position(|bound| slot < *bound).unwrap()
    }

    pub(crate) fn config(&self) -> RedisConfig {
        RedisConfig::cluster(self.nodes.iter().map(|node| ("127.0.0.1", node.port)))
    }
}

/// A server that also speaks TLS, and whose certificate a file of its own vouches for.
#[cfg(feature = "redis-tls")]
pub(crate) struct TlsServer {
    pub(crate) server: Server,
    tls_port: u16,
    certificates: Certificates,
}

#[cfg(feature = "redis-tls")]
impl TlsServer {
    pub(crate) fn start() -> Self {
        let tls_port = free_port();
        let certificates = Certificates::new(tls_port);
        let file = |name| certificates.file(name).to_str().unwrap().to_owned();
        let server = Server::with(&[
            "--tls-port",
            &tls_port.to_string(),
            "--tls-cert-file",
            &file("server.crt"),
            "--tls-key-file",
            &file("server.key"),
            "--tls-ca-cert-file",
            &file("ca.crt"),
            "--tls-auth-clients",
            "no",
        ]);
        Self { server, tls_port, certificates }
    }

    /// Trusts nobody in particular.
    pub(crate) fn config(&self) -> RedisConfig {
        RedisConfig::new("localhost", self.tls_port)
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.certificates.file("ca.crt")
    }
}

#[cfg(feature = "redis-tls")]
struct Certificates(PathBuf);

#[cfg(feature = "redis-tls")]
impl Certificates {
    fn new(number: u16) -> Self {
        let folder = std::env::temp_dir().join(format!("breaker-tls-{number}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1").unwrap();
        for line in [
            "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.crt -subj /CN=ca",
            "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
             -extfile names -out server.crt",
        ] {
            let mut openssl = Command::new("openssl");
            openssl.args(line.split_whitespace()).current_dir(&folder);
            let output = openssl.output().expect("openssl; on Debian: apt-get install openssl");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

#[cfg(feature = "redis-tls")]
impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits for what is certain to come.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..LONG.as_millis() / LOOK.as_millis() {
        if is_so() {
            return;
        }
        std::thread::sleep(LOOK);
    }
    panic!("waited in vain for {what}");
}

/// The same, while other tasks go on.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let looking = async {
        while !is_so().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    let found = tokio::time::timeout(LONG, looking).await;
    assert!(found.is_ok(), "waited in vain for {what}");
}

/// Connects, with time enough for a machine that is busy.
pub(crate) async fn connect(config: &RedisConfig) -> RedisBackend {
    let config = config.clone().command_timeout(s(5));
    let connecting = async {
        loop {
            match RedisBackend::connect(&config).await {
                Ok(backend) => return backend,
                Err(error) => assert!(error.is_unavailable(), "{error}"),
            }
        }
    };
    tokio::time::timeout(LONG, connecting).await.expect("to connect")
}

/// Runs `test` in real time, on two threads.
pub(crate) fn real<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(test)
}

fn spawn(args: &[String], folder: &Path) -> Child {
    let mut command = Command::new("redis-server");
    command.args(args).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| {
        panic!("cannot start redis-server ({error}); on Debian: apt-get install redis-server")
    })
}

/// A port of which nobody is given another's, nor the one of a server that was killed: below those
/// that systems give to whoever asks for any. A cluster's second port is 10 000 above.
fn free_port() -> u16 {
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

fn ask(stream: &mut BufReader<TcpStream>, args: &[&str]) -> std::io::Result<String> {
    let mut request = format!("*{}\r\n", args.len());
    for arg in args {
        let _ = write!(request, "${}\r\n{arg}\r\n", arg.len());
    }
    stream.get_mut().write_all(request.as_bytes())?;
    let mut lines = Vec::new();
    answer(stream, &mut lines)?;
    Ok(lines.join("\n"))
}

fn answer(stream: &mut BufReader<TcpStream>, lines: &mut Vec<String>) -> std::io::Result<()> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let (kind, rest) = line.trim_end().split_at_checked(1).unwrap_or_default();
    match kind {
        "*" => {
            for _ in 0..rest.parse().unwrap_or(0) {
                answer(stream, lines)?;
            }
        }
        "$" if rest == "-1" => lines.push(String::new()),
        "$" => {
            let mut text = vec![0; rest.parse::<usize>().unwrap() + 2];
            stream.read_exact(&mut text)?;
            text.truncate(text.len() - 2);
            lines.push(String::from_utf8_lossy(&text).into_owned());
        }
        "-" => lines.push(line.trim_end().to_owned()),
        "" => return Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => lines.push(rest.to_owned()),
    }
    Ok(())
}
