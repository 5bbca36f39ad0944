//! A user who may only publish sends messages that no replica has written.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::Value;
use tower_breaker::State;

use super::{cluster, keys, within};
use crate::support::redis::replicas::{all_in, open_for_long};
use crate::support::redis::{LONG, Server, real};
use crate::support::{s, trip};

/// Receives everything that is published.
struct Listener(BufReader<TcpStream>);

impl Listener {
    fn new(server: &Server) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(b"PSUBSCRIBE *\r\n").unwrap();
        let mut listener = Self(BufReader::new(stream));
        // The last line of the confirmation.
        while listener.line() != ":1" {}
        listener
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line in time");
        line.trim_end().to_owned()
    }

    /// The channel and the text of the next message about a circuit that is in this state.
    fn message(&mut self, circuit: &str, state: &str) -> (String, Value) {
        let mut last = String::new();
        loop {
            let line = self.line();
            if line.contains(circuit)
                && line.contains(state)
                && let Ok(message) = serde_json::from_str(&line)
            {
                return (last, message);
            }
            if !line.starts_with(['$', '*', ':']) {
                last = line;
            }
        }
    }
}

/// Puts `number` in place of all numbers that order messages.
fn forge(message: &mut Value, number: u64) {
    match message {
        Value::Object(fields) => {
            for (name, value) in fields {
                let orders = ["generation", "revision", "version", "remaining"];
                if value.is_number() && orders.contains(&name.as_str()) {
                    *value = number.into();
                } else {
                    forge(value, number);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| forge(item, number)),
        _ => {}
    }
}

/// Everything that the server stores.
fn stored(server: &Server) -> String {
    let read = |key: String| match server.cli(&["TYPE", &key]).as_str() {
        "hash" => server.cli(&["HGETALL", &key]),
        "zset" => server.cli(&["ZRANGE", &key, "0", "-1", "WITHSCORES"]),
        _ => String::new(),
    };
    keys(server, "").into_iter().map(read).collect::<Vec<_>>().join("\n")
}

fn does_no_lasting_harm(number: u64) {
    real(async {
        let server = Server::start();
        let replicas = cluster(&server, 3, open_for_long()).await;
        let mut listener = Listener::new(&server);
        trip(&replicas[0].circuit);
        let (channel, mut message) = listener.message("test", "open");
        all_in(&replicas, State::Open).await;
        assert!(replicas[0].circuit.reset().await.is_ok());
        all_in(&replicas, State::Closed).await;
        tokio::time::sleep(s(1)).await;

        forge(&mut message, number);
        let before = server.calls("evalsha");
        let text = message.to_string();
        assert!(server.number(&["PUBLISH", &channel, &text]) >= 3, "{channel}: {text}");
        tokio::time::sleep(s(2)).await;
        let commands = (server.calls("evalsha") - before) / 2;
        assert!(commands <= 3 * 52, "{commands} commands a second of 3 replicas");
        let stored = stored(&server);
        // Scripts may round it.
        assert!(!stored.contains(&number.to_string()[..14]), "{stored}");
        let closed = || replicas.iter().all(|it| it.circuit.state() == State::Closed);
        assert!(within(5_000, closed).await, "{:?}", replicas[0].circuit.snapshot());
        replicas[1].circuit.reset().await.unwrap();
        all_in(&replicas, State::Closed).await;
    });
}

#[test]
fn a_forged_generation_of_two_to_the_64_does_no_lasting_harm() {
    does_no_lasting_harm(u64::MAX);
}

#[test]
fn a_forged_generation_of_two_to_the_53_does_no_lasting_harm() {
    does_no_lasting_harm((1 << 53) - 1);
}

#[test]
fn forged_garbage_changes_nothing() {
    real(async {
        let server = Server::start();
        let mut listener = Listener::new(&server);
        let replicas = cluster(&server, 2, open_for_long()).await;
        let (channel, _) = listener.message("test", "closed");
        let huge = "[".repeat(1 << 20);
        for text in ["", "{", "null", "{\"name\":\"test\"}", "{\"name\":7,\"view\":[]}", &huge] {
            server.cli(&["PUBLISH", &channel, text]);
        }
        tokio::time::sleep(s(1)).await;
        all_in(&replicas, State::Closed).await;
        trip(&replicas[1].circuit);
        all_in(&replicas, State::Open).await;
    });
}
