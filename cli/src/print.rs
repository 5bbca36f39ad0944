//! What is written. Texts from outside are data: nothing in them acts on a terminal.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::Value;

/// Standard output, as text or as JSON.
pub(crate) struct Output {
    json: bool,
    out: io::Stdout,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, out: io::stdout() }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Writes an object as one line.
    pub(crate) fn json(&mut self, value: &Value) -> io::Result<()> {
        self.line(&json(value))
    }

    /// Writes a line, which is escaped already where it must be.
    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }

    /// Writes rows with aligned columns. The last column is as wide as it is.
    pub(crate) fn table<const N: usize>(&mut self, rows: &[[String; N]]) -> io::Result<()> {
        let width = |n: usize| rows.iter().map(|row| row[n].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        for row in rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                let _ = write!(line, "{cell:width$}  ");
            }
            self.line(line.trim_end())?;
        }
        Ok(())
    }
}

/// A text as a terminal may show it: characters that control it, or that change the direction of
/// text, are escaped.
pub(crate) fn text(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if acts(c) {
            let _ = write!(shown, "{}", c.escape_default());
        } else {
            shown.push(c);
        }
        shown
    })
}

/// A value as one line. JSON leaves characters as they are that some terminals obey: those are
/// escaped too, which they can only need in strings.
fn json(value: &Value) -> String {
    value.to_string().chars().fold(String::new(), |mut shown, c| {
        if acts(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
        shown
    })
}

/// Whether a character does something else than to appear.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_acts_on_a_terminal() {
        assert_eq!(text("päy ments<script>"), "päy ments<script>");
        assert_eq!(text("a\x1b[2Jb\nc\td"), "a\\u{1b}[2Jb\\nc\\td");
        assert_eq!(text("\u{9b}31m\u{202e}abc\u{7f}"), "\\u{9b}31m\\u{202e}abc\\u{7f}");
    }

    #[test]
    fn json_is_one_line_of_plain_characters_and_reads_back() {
        let name = "a\x1b[2J\n\u{9b}31m\u{202e}\u{e0041}ü\"\\";
        let value = serde_json::json!({ "circuit": name });
        let line = json(&value);
        assert!(!line.chars().any(acts), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }
}
