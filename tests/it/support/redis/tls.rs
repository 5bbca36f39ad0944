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

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
