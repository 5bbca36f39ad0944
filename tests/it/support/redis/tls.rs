//! A redis-server that also speaks TLS.

use std::path::PathBuf;
use std::process::Command;

use tower_breaker::backend::RedisConfig;

use super::server::{Server, free_port};

/// A server that also speaks TLS, with a certificate of its own authority.
pub(crate) struct TlsServer {
    pub(crate) server: Server,
    tls_port: u16,
    certificates: Certificates,
}

impl TlsServer {
    pub(crate) fn start() -> Self {
        Self::with("localhost", "2")
    }

    /// Its certificate has expired yesterday.
    pub(crate) fn expired() -> Self {
        Self::with("localhost", "-1")
    }

    pub(crate) fn of_another_host() -> Self {
        Self::with("elsewhere.example", "2")
    }

    fn with(host: &str, days: &str) -> Self {
        let tls_port = free_port();
        let certificates = Certificates::new(tls_port, host, days);
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

    /// A configuration without the authority of the certificate.
    pub(crate) fn config(&self) -> RedisConfig {
        RedisConfig::new("localhost", self.tls_port)
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.certificates.file("ca.crt")
    }
}

struct Certificates(PathBuf);

impl Certificates {
    fn new(number: u16, host: &str, days: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("breaker-tls-{number}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("names"), format!("subjectAltName=DNS:{host}")).unwrap();
        let sign = format!(
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days {days} \
             -extfile names -out server.crt"
        );
        for line in [
            "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.crt -subj /CN=ca",
            "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server",
            &sign,
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

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
