//! The terminal: taken over, and given back as it was.

use std::io::{self, IsTerminal, Stdout, stdin, stdout};
use std::mem::ManuallyDrop;
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, DisableBracketedPaste, EnableBracketedPaste, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::prelude::CrosstermBackend;
use ratatui::{Frame, Terminal};
use tokio::sync::mpsc::{Receiver, channel};

use crate::failure::Failure;

/// The whole terminal. Its drop gives it back, and a panic does before it says anything.
///
/// The drop of the `Terminal` would print an error if the terminal is gone: it never runs.
pub(crate) struct Screen(ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>);

/// Whether there is something to give back.
static TAKEN: AtomicBool = AtomicBool::new(false);

impl Screen {
    pub(crate) fn check() -> Result<(), Failure> {
        if stdin().is_terminal() && stdout().is_terminal() {
            return Ok(());
        }
        let problem = "`top` needs a terminal; use `list` for the circuits by now, and `watch` for what \
                       happens, as JSON lines";
        Err(Failure::Usage(problem.to_owned()))
    }

    pub(crate) fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                restore();
                before(panic);
            }));
        });
        enable_raw_mode()?;
        TAKEN.store(true, Relaxed);
        let terminal = Terminal::new(CrosstermBackend::new(stdout()));
        let mut screen = match terminal {
            Ok(terminal) => Self(ManuallyDrop::new(terminal)),
            Err(error) => {
                restore();
                return Err(error);
            }
        };
        // Pasted text arrives as one: otherwise its line ends would answer questions.
        execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste)?;
        screen.0.clear()?;
        Ok(screen)
    }

    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(draw).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back, once: leaving the main screen would move its cursor over the message of a
/// panic. The terminal may be gone, and there is nothing to do about that.
fn restore() {
    if !TAKEN.swap(false, Relaxed) {
        return;
    }
    let _ = disable_raw_mode();
    let _ = execute!(stdout(), DisableBracketedPaste, LeaveAlternateScreen, Show);
}

/// Returns what arrives from the keyboard, and that the size changed. It ends if the terminal is gone.
///
/// The thread ends with the program: nothing can interrupt its read.
pub(crate) fn events() -> Receiver<Event> {
    let (sender, receiver) = channel(64);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[test]
    #[ignore = "takes over the terminal; the test below runs it in one"]
    fn panics_with_the_screen() {
        let _screen = Screen::enter().unwrap();
        panic!("on purpose");
    }

    #[test]
    fn a_panic_gives_the_terminal_back_before_its_message() {
        let socket = format!("tower-breaker-panic-{}", std::process::id());
        let tmux = |args: &[&str]| {
            let output = Command::new("tmux").args(["-L", &socket]).args(args).output();
            let output = output.expect("tmux: on Debian, apt-get install tmux");
            assert!(output.status.success(), "{args:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let this = std::env::current_exe().unwrap();
        let script = format!(
            "RUST_BACKTRACE=0 {} --ignored --exact --nocapture \
             top::screen::tests::panics_with_the_screen; stty -a; echo ended; sleep 60",
            this.display()
        );
        tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "40", &script]);
        let mut shown = String::new();
        for _ in 0..200 {
            shown = tmux(&["capture-pane", "-p"]);
            if shown.contains("ended") {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let modes = tmux(&["display", "-p", "#{alternate_on} #{cursor_flag}"]);
        let _ = Command::new("tmux").args(["-L", &socket, "kill-server"]).output();
        assert!(shown.contains("on purpose") && shown.contains("ended"), "{shown}");
        assert!(shown.contains(" icanon") && shown.contains(" echo "), "{shown}");
        assert_eq!(modes.trim(), "0 1", "the main screen, with a cursor");
    }
}
