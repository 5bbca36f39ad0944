//! One command over a plain connection: enough of the Redis protocol to look into a server.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

pub(super) fn ask(stream: &mut BufReader<TcpStream>, args: &[&str]) -> std::io::Result<String> {
    let mut request = format!("*{}\r\n", args.len());
    for arg in args {
        let _ = write!(request, "${}\r\n{arg}\r\n", arg.len());
    }
    stream.get_mut().write_all(request.as_bytes())?;
    let mut lines = Vec::new();
    answer(stream, &mut lines)?;
    Ok(lines.join("\n"))
}

fn answer(stream: &mut BufReader<TcpStream>, lines: &mut Vec<String>) -> std::io::Result<()> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let (kind, rest) = line.trim_end().split_at_checked(1).unwrap_or_default();
    match kind {
        "*" => {
            for _ in 0..rest.parse().unwrap_or(0) {
                answer(stream, lines)?;
            }
        }
        "$" if rest == "-1" => lines.push(String::new()),
        "$" => {
            let mut text = vec![0; rest.parse::<usize>().unwrap() + 2];
            stream.read_exact(&mut text)?;
            text.truncate(text.len() - 2);
            lines.push(String::from_utf8_lossy(&text).into_owned());
        }
        "-" => lines.push(line.trim_end().to_owned()),
        "" => return Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => lines.push(rest.to_owned()),
    }
    Ok(())
}
