//! A Redis of its own for each test.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tower_breaker::backend::RedisConfig;

/// Longer than anything here takes on any machine.
const LONG: Duration = Duration::from_secs(20);
pub(crate) const PASSWORD: &str = "s3cr3t-w0rd";

/// A redis-server with a password, on a free port. Its drop ends it.
pub(crate) struct Server {
    pub(crate) port: u16,
    child: Child,
}

impl Server {
    pub(crate) fn start() -> Self {
        for _ in 0..10 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            if let Some(child) = listening(port) {
                return Self { port, child };
            }
        }
        panic!("redis-server ends at once");
    }

    /// Ends at once, and forgets everything.
    pub(crate) fn die(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts again where it was.
    pub(crate) fn rise(&mut self) {
        self.child = listening(self.port).expect("its port is still free");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    pub(crate) fn config(&self) -> RedisConfig {
        self.url().parse::<RedisConfig>().unwrap().command_timeout(Duration::from_secs(5))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.die();
    }
}

/// A redis-server, once it listens. `None` if the port is taken.
fn listening(port: u16) -> Option<Child> {
    let args = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"];
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--requirepass", PASSWORD])
        .args(args)
        .current_dir(std::env::temp_dir())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server: on Debian, apt-get install redis-server");
    while child.try_wait().unwrap().is_none() {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

pub(crate) fn real<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(test)
}

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(LONG, waiting).await.is_ok(), "waited in vain: {what}");
}
