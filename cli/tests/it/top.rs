//! `top` in a real terminal, under load of real replicas on a real Redis.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tower_breaker::backend::RedisBackend;
use tower_breaker::{Outcome, Policy, State, Store};

use crate::server::{PASSWORD, Server, real, until};

/// A terminal: a tmux of its own, with a shell in it. Its drop ends it.
struct Terminal(String);

impl Terminal {
    fn start(url: &str, more: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let terminal = Self(format!("tower-breaker-{}-{number}", std::process::id()));
        let set = |name: &str, value: &str| format!("{name}={value}");
        let mut env = vec![
            set("CIRCUIT_BREAKER_REDIS_URL", url),
            set("LC_ALL", "C.UTF-8"),
            set("PS1", "$ "),
            set("USER", "ada"),
            set("TOP", env!("CARGO_BIN_EXE_tower-breaker")),
        ];
        env.extend(more.iter().map(|(name, value)| set(name, value)));
        let mut args = vec!["-u", "-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "32"];
        for one in &env {
            args.extend(["-e", one]);
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&terminal.0);
        std::fs::create_dir_all(&folder).unwrap();
        args.extend(["-c", folder.to_str().unwrap(), "sh"]);
        terminal.tmux(&args);
        terminal
    }

    /// A file in the folder of the shell.
    fn file(&self, name: &str) -> String {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&self.0);
        folder.join(name).to_str().unwrap().to_owned()
    }

    fn tmux(&self, args: &[&str]) -> String {
        let output = Command::new("tmux").args(["-L", &self.0]).args(args).output();
        let output = output.expect("tmux: on Debian, apt-get install tmux");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Presses keys, which have names as tmux has them.
    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn types(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    fn shows(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    async fn until(&self, what: &str, holds: impl Fn(&str) -> bool) {
        for _ in 0..400 {
            if holds(&self.shows()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("waited in vain: {what}\n{}", self.shows());
    }

    async fn until_it_shows(&self, text: &str) {
        self.until(text, |shown| shown.contains(text)).await;
    }

    /// Keeps what the terminal shows.
    fn screenshot(&self, name: &str) {
        let shown = self.shows();
        assert!(!shown.contains(PASSWORD), "{shown}");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("top-{name}.txt")), shown).unwrap();
    }

    /// Runs a command, and ends with a line of the exit code and the terminal's settings.
    ///
    /// Without the control modes: the kernel writes out the speed of a line that has none.
    fn runs(&self, command: &str) {
        let modes = "stty -g | cut -d: -f1,2,4-";
        self.types(&format!(
            "clear; {modes} >before; {command}; echo \"exit=$?\"; {modes} >after; \
             cmp before after && echo as-before"
        ));
        self.keys(&["Enter"]);
    }

    /// Whether the terminal is as a shell needs it.
    async fn is_given_back(&self, exit: i32) {
        self.until_it_shows(&format!("exit={exit}\nas-before")).await;
        let state = self.tmux(&["display", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(state.trim(), "0 1", "the main screen, with a cursor");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.0, "kill-server"]).output();
        let _ = std::fs::remove_dir_all(self.file(""));
    }
}

/// Replicas that make calls, until it is dropped.
struct Load {
    stores: Vec<Store>,
    /// Whether the upstream of `payments` fails.
    broken: Arc<AtomicBool>,
    tasks: tokio::task::JoinSet<()>,
}

impl Load {
    async fn start(server: &Server) -> Self {
        let broken = Arc::new(AtomicBool::new(false));
        let mut load = Self { stores: Vec::new(), broken, tasks: tokio::task::JoinSet::new() };
        for replica in ["web-1", "web-2"] {
            let backend = RedisBackend::connect(&server.config()).await.unwrap();
            let policy = Policy::builder().open_for(Duration::from_secs(120)).build().unwrap();
            let store = Store::builder().backend(backend).replica(replica).default_policy(policy);
            let store = store.build();
            for name in ["catalogue", "payments", "search", "\x1b[31mred\n"] {
                let (circuit, broken) = (store.circuit(name), load.broken.clone());
                load.tasks.spawn(async move {
                    for n in 0_u64.. {
                        if let Ok(permit) = circuit.acquire().await {
                            let fails = match name {
                                "payments" => broken.load(Relaxed),
                                "search" => n.is_multiple_of(9),
                                _ => false,
                            };
                            permit.settle(if fails {
                                Outcome::failure()
                            } else {
                                Outcome::Success
                            });
                        }
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                });
            }
            load.stores.push(store);
        }
        load
    }
}

#[test]
fn an_operator_sees_a_circuit_open_forces_one_open_and_sees_redis_die_and_return() {
    real(async {
        let mut server = Server::start();
        let load = Load::start(&server).await;
        let terminal = Terminal::start(&server.url(), &[]);
        terminal.runs("$TOP top");

        terminal.until_it_shows("no circuit rejects calls").await;
        terminal
            .until("replicas publish", |shown| {
                shown.contains("2 replicas") && shown.contains("· catalogue")
            })
            .await;
        terminal.until_it_shows(r"\u{1b}[31mred\n").await;
        terminal.screenshot("closed");

        load.broken.store(true, Relaxed);
        terminal
            .until("a circuit opens", |shown| {
                shown.contains("1 circuit rejects calls: payments")
                    && shown.contains("■ payments")
                    && shown.contains("consecutive failures")
                    && shown.contains("probes in 1m")
            })
            .await;
        terminal.until("its history", |shown| shown.contains("closed -> open")).await;
        terminal.screenshot("open");
        terminal.keys(&["Enter"]);
        terminal.until("details on the whole screen", |shown| !shown.contains("catalogue")).await;
        terminal.screenshot("details");
        terminal.keys(&["Escape"]);

        terminal.types("/search");
        terminal.keys(&["Enter"]);
        terminal.until("one row", |shown| shown.contains("1 circuit with \"search\"")).await;
        terminal.types("o");
        terminal.until_it_shows("force open search, why?").await;
        terminal.keys(&["Enter"]);
        terminal.until_it_shows("a reason is needed").await;
        terminal.types("their index is broken");
        terminal.keys(&["Enter", "C-u"]);
        terminal.types("soon");
        terminal.keys(&["Enter"]);
        terminal.until_it_shows("expected a number and a unit").await;
        terminal.keys(&["C-u"]);
        terminal.types("5m");
        terminal.keys(&["Enter"]);
        terminal.until_it_shows("force open search for 5m: every replica rejects its calls").await;
        terminal.screenshot("confirm");
        terminal.types("y");
        terminal.until_it_shows("search is forced open: override by ada").await;
        let obeys = |store: &Store| {
            let snapshot = store.circuit("search").snapshot();
            (snapshot.state, snapshot.override_actor.as_deref()) == (State::ForcedOpen, Some("ada"))
        };
        until("both replicas obey", || load.stores.iter().all(obeys)).await;
        terminal.keys(&["Escape"]);
        terminal.until_it_shows("2 circuits reject calls: payments, search").await;
        terminal.until_it_shows("ada: their index is broken").await;
        terminal.screenshot("forced-open");

        server.die();
        terminal.until_it_shows("REDIS DOES NOT ANSWER").await;
        terminal.screenshot("away");
        server.rise();
        terminal
            .until("Redis answers", |shown| {
                shown.contains("Redis answers; 2 replicas")
                    && shown.contains("2 circuits reject calls")
            })
            .await;
        terminal.screenshot("returned");

        terminal.types("/search");
        terminal.keys(&["Enter"]);
        terminal.types("r");
        terminal.until_it_shows("reset search: its override ends").await;
        terminal.types("y");
        until("the reset", || {
            load.stores.iter().all(|store| store.circuit("search").state() == State::Closed)
        })
        .await;

        terminal.tmux(&["resize-window", "-x", "60", "-y", "12"]);
        terminal.keys(&["Escape"]);
        terminal.until_it_shows("payments").await;
        terminal.screenshot("small");
        terminal.types("q");
        terminal.is_given_back(0).await;
    });
}

#[test]
fn a_terminal_that_goes_away_leaves_no_error_of_its_cursor() {
    real(async {
        let server = Server::start();
        let terminal = Terminal::start(&server.url(), &[]);
        terminal.runs("sh -c 'trap \"\" HUP; $TOP top 2>errors; echo $? >code'");
        terminal.until_it_shows("every circuit is closed").await;
        terminal.tmux(&["kill-server"]);
        let code = terminal.file("code");
        until("it ends", || std::fs::read_to_string(&code).is_ok_and(|code| !code.is_empty()))
            .await;
        let errors = std::fs::read_to_string(terminal.file("errors")).unwrap();
        assert!(!errors.contains("cursor"), "{errors}");
    });
}

#[test]
fn the_terminal_is_given_back_after_signals_and_ctrl_c() {
    real(async {
        let server = Server::start();
        let terminal = Terminal::start(&server.url(), &[("NO_COLOR", "1")]);
        let ends: [(&str, i32); 3] = [("TERM", 143), ("HUP", 129), ("INT", 130)];
        for (signal, exit) in ends {
            // The shell becomes the program, which so has a known id; a shell around it goes on.
            terminal.runs("sh -c 'echo $$ >pid; exec $TOP top'");
            terminal.until_it_shows("every circuit is closed").await;
            let coloured = terminal.tmux(&["capture-pane", "-p", "-e"]);
            let colours = |sgr: &str| sgr.starts_with(['3', '4']) && !matches!(sgr, "39" | "49");
            let set = coloured.split("\u{1b}[").skip(1).map(|rest| rest.split('m').next().unwrap());
            assert!(!set.flat_map(|sgr| sgr.split(';')).any(colours), "{coloured:?}");
            terminal
                .tmux(&["run-shell", &format!("kill -{signal} $(cat {})", terminal.file("pid"))]);
            terminal.is_given_back(exit).await;
        }
        terminal.runs("$TOP top");
        terminal.until_it_shows("every circuit is closed").await;
        terminal.keys(&["C-c"]);
        terminal.is_given_back(0).await;
    });
}
