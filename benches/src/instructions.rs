//! How many instructions a call takes, counted by valgrind. Unlike times, they do not depend on what
//! else the machine does.

use std::process::{Command, Stdio};

/// Runs the program under `callgrind` with `first` and `second` calls of a subject, and returns the
/// difference per call: what starting the program takes is in both.
///
/// # Errors
///
/// If valgrind is missing, or the program failed in it.
pub fn per_call(subject: &str) -> Result<f64, String> {
    const FIRST: u64 = 1_000;
    const SECOND: u64 = 3_000;

    let few = collected(subject, FIRST)?;
    let many = collected(subject, SECOND)?;
    Ok((many - few) as f64 / (SECOND - FIRST) as f64)
}

/// Returns how many instructions a call of a subject took when `instructions.txt` was written.
#[must_use]
pub fn known(subject: &str) -> Option<f64> {
    let lines = include_str!("../instructions.txt").lines();
    lines.filter_map(|line| line.split_once(' ')).find(|(_, name)| *name == subject)?.0.parse().ok()
}

fn collected(subject: &str, calls: u64) -> Result<i64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([format!("--calls={calls}"), subject.to_owned()])
        .stdout(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind (Debian's package of that name): {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let count = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    count.filter(|_| output.status.success()).ok_or(said)
}
