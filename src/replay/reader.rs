//! Reads a trace line by line, in bounded memory.

use std::io::{BufRead, Read};

use super::error::Kind;
use super::line::Call;

/// The longest line, in bytes.
const LONGEST: usize = 64 * 1024;

pub(super) struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// The number of the line in the buffer.
    pub(super) number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::new(), number: 0 }
    }

    /// Returns the next call, or `None` at the end. Empty lines are skipped.
    pub(super) fn next(&mut self) -> Result<Option<Call<'_>>, Kind> {
        loop {
            self.buffer.clear();
            let mut limited = (&mut self.reader).take(LONGEST as u64 + 1);
            let read = limited.read_until(b'\n', &mut self.buffer);
            let read = read.map_err(|source| Kind::Read { line: self.number, source })?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if read > LONGEST {
                return Err(self.wrong(format!("longer than {LONGEST} bytes, expected one call")));
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        let line = self.number;
        match Call::read(&self.buffer) {
            Ok(call) => Ok(Some(call)),
            Err(problem) => Err(Kind::Line { line, problem }),
        }
    }

    pub(super) fn wrong(&self, problem: String) -> Kind {
        Kind::Line { line: self.number, problem }
    }
}
