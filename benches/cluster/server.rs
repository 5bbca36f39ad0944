//! A redis-server that can be frozen, slowed, killed and started again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tower_breaker::backend::{RedisBackend, RedisConfig};

pub struct Server {
    port: u16,
    child: Child,
}

impl Server {
    pub fn start() -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self { port, child: spawn(port)? })
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection of its own.
    pub async fn connect(&self) -> anyhow::Result<RedisBackend> {
        Ok(RedisBackend::connect(&RedisConfig::new("127.0.0.1", self.port)).await?)
    }

    /// The same, for more commands at once than the server can answer in time.
    pub async fn connect_patiently(&self) -> anyhow::Result<RedisBackend> {
        let config = RedisConfig::new("127.0.0.1", self.port);
        let patience = Duration::from_secs(5);
        let config = config.command_timeout(patience);
        Ok(RedisBackend::connect(&config).await?)
    }

    /// The answer to a command without spaces in its arguments.
    pub fn ask(&self, command: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        let (mut reader, mut line) = (BufReader::new(stream), String::new());
        reader.read_line(&mut line)?;
        let Some(length) = line.strip_prefix('$') else { return Ok(line.trim().to_owned()) };
        let mut text = vec![0; length.trim().parse()?];
        reader.read_exact(&mut text)?;
        Ok(String::from_utf8(text)?)
    }

    /// A connection that gets everything that is published, and reads none of it.
    pub fn subscribe(&self) -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.write_all(b"PSUBSCRIBE *\r\n")?;
        Ok(stream)
    }

    /// How many commands it has run that no script has called, and how many scripts.
    pub fn commands(&self) -> anyhow::Result<f64> {
        let stats = self.ask("INFO commandstats")?;
        // Those of the naive one are not in the scripts.
        let counted = ["evalsha", "eval", "ping", "subscribe", "get", "set", "incr"];
        Ok(counted.iter().filter_map(|name| stat(&stats, name, "calls=")).sum())
    }

    /// How many scripts it has run, and how many microseconds they took in all.
    pub fn scripts(&self) -> anyhow::Result<(f64, f64)> {
        let stats = self.ask("INFO commandstats")?;
        let of = |field| stat(&stats, "evalsha", field).unwrap_or_default();
        Ok((of("calls="), of("usec=")))
    }

    /// How many seconds of a processor it has used.
    pub fn processor(&self) -> anyhow::Result<f64> {
        let info = self.ask("INFO cpu")?;
        let of = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().parse::<f64>().ok())
        };
        let used = of("used_cpu_sys:").zip(of("used_cpu_user:"));
        used.map(|(system, user)| system + user).context("it says so")
    }

    /// Stops the process, or continues it.
    pub fn freeze(&self, freeze: bool) -> anyhow::Result<()> {
        let signal = if freeze { "-STOP" } else { "-CONT" };
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status()?;
        ensure!(done.success(), "kill {signal} failed");
        Ok(())
    }

    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again after a kill, empty.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.child = spawn(self.port)?;
        Ok(())
    }

    /// Closes the connections of all clients.
    pub fn drop_clients(&self) -> anyhow::Result<()> {
        for kind in ["normal", "pubsub"] {
            self.ask(&format!("CLIENT KILL TYPE {kind} SKIPME yes"))?;
        }
        Ok(())
    }

    /// Stops the server for eight of ten milliseconds, until the answer is dropped.
    pub fn slow(&self) -> anyhow::Result<Slowed> {
        let server = self.child.id().to_string();
        // It reads from a pipe that stays empty: a sleep without a process. It ends with the server
        // or with this program.
        let script = "exec 3<> <(:); parent=$PPID
            while kill -0 $parent && kill -STOP $1; do
                read -t 0.008 -u 3; kill -CONT $1 || exit; read -t 0.002 -u 3
            done; kill -CONT $1";
        let mut shell = Command::new("bash");
        shell.args(["-c", script, "slow", &server]).stderr(Stdio::null());
        Ok(Slowed { shell: shell.spawn()?, server })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Slowed {
    shell: Child,
    server: String,
}

impl Drop for Slowed {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
        let _ = Command::new("kill").args(["-CONT", &self.server]).status();
    }
}

fn spawn(port: u16) -> anyhow::Result<Child> {
    let port_text = port.to_string();
    let arguments = ["--port", &port_text, "--bind", "127.0.0.1", "--save", ""];
    let mut child = Command::new("redis-server")
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .context("redis-server is not installed; on Debian: apt-get install redis-server")?;
    for _ in 0..500 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(child);
        }
        sleep(Duration::from_millis(20));
    }
    child.kill()?;
    bail!("redis-server did not start")
}

fn stat(stats: &str, command: &str, field: &str) -> Option<f64> {
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:")))?;
    line.split(',').find_map(|part| part.strip_prefix(field))?.parse().ok()
}
