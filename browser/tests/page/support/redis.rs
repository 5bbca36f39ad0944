//! A redis-server that a test can kill.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tower_breaker::backend::RedisBackend;
use tower_breaker::{Policy, Store};

/// A server on a free port, without persistence. Its drop ends it.
pub(crate) struct Redis {
    port: u16,
    child: Child,
}

impl Redis {
    pub(crate) fn start() -> Self {
        // Another process may take the port before the server does.
        for _ in 0..10 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let child = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"])
                .args(["--bind", "127.0.0.1"])
                .current_dir(std::env::temp_dir())
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server: on Debian, apt-get install redis-server");
            let mut server = Self { port, child };
            while server.child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return server;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        panic!("redis-server ends at once");
    }

    /// A replica of a service that shares its circuits here.
    pub(crate) async fn replica(&self, name: &str, policy: Policy) -> Store {
        let backend = self.backend().await;
        Store::builder().default_policy(policy).replica(name).backend(backend).build()
    }

    pub(crate) async fn backend(&self) -> RedisBackend {
        let url = format!("redis://127.0.0.1:{}", self.port);
        let config = url.parse::<tower_breaker::backend::RedisConfig>().unwrap();
        let config = config.command_timeout(Duration::from_secs(5));
        RedisBackend::connect(&config).await.unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
