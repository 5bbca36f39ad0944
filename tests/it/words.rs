//! One word per thing: public docs use none of the words that the project has replaced.
//!
//! It reads doc comments and Markdown. Code is not read: blocks, spans in backticks, link targets.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// What is not used, and what is used instead. A phrase is found in any case and over line ends.
const REPLACED: [(&str, &str); 70] = [
    ("a hand", "an operator"),
    ("adopt", "apply"),
    ("adopted", "applied"),
    ("adopting", "applying"),
    ("adopts", "applies"),
    ("anybody", "the subject by its name: a call, a replica, an operator"),
    ("are lost", "do not answer (backends), are dropped (data)"),
    ("are told", "are notified, get, are logged"),
    ("as it likes", "as often as needed"),
    ("as one likes", "as you choose"),
    ("asks for leave", "asks for a permit"),
    ("be told", "be notified, get, be logged"),
    ("been told", "been notified, been logged, been stored"),
    ("by hand", "by an operator, manually"),
    ("cool-down", "open interval"),
    ("cooldown", "open interval"),
    ("decide alone", "decide without the backend"),
    ("decided alone", "decided without the backend"),
    ("decides alone", "decides without the backend"),
    ("deciding alone", "deciding without the backend"),
    ("do not go", "are rejected, are not supported"),
    ("does not go", "is rejected, is not supported"),
    ("ear", "observer, receiver"),
    ("everybody", "the subject by its name: all replicas, all calls"),
    ("for who", "for readers that, for services that"),
    ("for whom", "for readers that, for services that"),
    ("gate", "circuit"),
    ("helper", "what it does"),
    ("helpers", "what they do"),
    ("impose", "set an override"),
    ("imposed", "set as an override"),
    ("imposes", "sets an override"),
    ("is lost", "does not answer (a backend), is dropped (data)"),
    ("is told", "is notified, gets, is logged"),
    ("keeper", "replicator"),
    ("keepers", "replicators"),
    ("lane", "stripe"),
    ("lanes", "stripes"),
    ("leave for one", "a permit for one"),
    ("leave to call", "a permit"),
    ("leave to make", "a permit to make"),
    ("ledger", "backend, or record"),
    ("ledgers", "backends"),
    ("manager", "what it does"),
    ("news", "views, events, results"),
    ("nobody", "the subject by its name: no call, no replica"),
    ("of no use", "useless"),
    ("of use", "useful"),
    ("outran", "superseded"),
    ("outrun", "superseded"),
    ("probe's place", "probe slot"),
    ("probes' places", "probe slots"),
    ("puts down", "queues, stores"),
    ("refusal", "rejection"),
    ("refusals", "rejections"),
    ("shut", "open, closed"),
    ("somebody", "the subject by its name: a call, a replica, an operator"),
    ("stand alone", "are detached"),
    ("stands alone", "is detached"),
    ("start alone", "start without the backend"),
    ("starts alone", "starts without the backend"),
    ("to be had", "available, supported"),
    ("trial call", "probe"),
    ("trial request", "probe"),
    ("util", "what it does"),
    ("was told", "was notified, got, was logged"),
    ("were told", "were notified, got, were logged"),
    ("whoever", "the subject by its name: the caller, the replica that"),
    ("wish", "override, proposal"),
    ("wishes", "overrides, proposals"),
];

/// Phrases that only begin like one of those.
const ALLOWED: [&str; 1] = ["shut down"];

/// Names that the API had once, in code too.
const RENAMED: [(&str, &str); 4] = [
    ("OpenCircuit", "Rejected"),
    ("find_open", "Rejected::find_in"),
    ("RespondToOpenLayer", "service::RespondToRejectedLayer"),
    ("RetryUnlessOpen", "service::RetryUnlessRejected"),
];

#[test]
fn public_docs_use_one_word_per_thing() {
    let mut found = String::new();
    for file in public_docs() {
        let text = fs::read_to_string(&file).unwrap();
        let docs = if file.extension().is_some_and(|kind| kind == "rs") {
            doc_comments(&text)
        } else {
            text
        };
        let name = file.to_str().unwrap();
        let problems = problems(&docs);
        for (line, problem) in problems {
            writeln!(found, "{name}:{line}: {problem}").unwrap();
        }
    }
    assert!(found.is_empty(), "words that were replaced:\n{found}");
}

#[test]
fn words_are_found_in_prose_and_not_in_code() {
    let found = |text| -> Vec<usize> { problems(text).into_iter().map(|(line, _)| line).collect() };
    let none: [usize; 0] = [];
    assert_eq!(found("the Ledger.\nit **is\ntold** of"), [1, 2]);
    assert_eq!(
        found("`ledger`, ``a ` ledger``, [it](ledger), https://x/ledger, a ledger-like"),
        none
    );
    assert_eq!(found("[it]: ledger\n```\nledger\n```\nledger"), [5]);
    assert_eq!(found("shut down; shut"), [1]);
    assert_eq!(found("what it is. told of"), none);
    assert_eq!(found("```\nOpenCircuit\n```"), [2]);
    assert_eq!(doc_comments("use x;\n/// a\n//! b\n// c\n//// d"), "\n a\n b\n\n\n");
}

fn public_docs() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("examples/README.md")];
    for folder in [".", "docs"] {
        let markdown = |file: &PathBuf| file.extension().is_some_and(|kind| kind == "md");
        files.extend(entries(Path::new(folder)).into_iter().filter(markdown));
    }
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in entries(&folder) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|kind| kind == "rs") {
                files.push(entry);
            }
        }
    }
    let relative = |file: PathBuf| file.strip_prefix(".").map(Path::to_owned).unwrap_or(file);
    let mut files: Vec<_> = files.into_iter().map(relative).collect();
    files.sort();
    files
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The doc comments of a source file, with an empty line for each other line.
fn doc_comments(source: &str) -> String {
    let mut docs = String::new();
    for line in source.lines() {
        let line = line.trim_start();
        let doc = line.strip_prefix("//!").or_else(|| line.strip_prefix("///"));
        docs.push_str(doc.filter(|doc| !doc.starts_with('/')).unwrap_or_default());
        docs.push('\n');
    }
    docs
}

/// What is wrong, with its line.
fn problems(text: &str) -> Vec<(usize, String)> {
    let mut problems = Vec::new();
    for (n, line) in text.lines().enumerate() {
        // `Theirs::Name` is another crate's.
        let ours = |old: &str| line.contains(old) && !line.contains(&format!("::{old}"));
        for (old, new) in RENAMED.iter().filter(|(old, _)| ours(old)) {
            problems.push((n + 1, format!("`{old}` is now `{new}`")));
        }
    }
    let words = words(text);
    for at in 0..words.len() {
        let starts = |phrase: &str| {
            let mut rest = words[at..].iter().map(|(_, word)| word.as_str());
            phrase.split(' ').all(|word| rest.next() == Some(word))
        };
        if ALLOWED.iter().any(|phrase| starts(phrase)) {
            continue;
        }
        for (phrase, instead) in REPLACED.iter().filter(|(phrase, _)| starts(phrase)) {
            problems.push((words[at].0, format!("{phrase:?}: use {instead}")));
        }
    }
    problems.sort();
    problems
}

/// The words of Markdown without its code, in lower case, with their lines. Punctuation that ends a
/// phrase is an empty word.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut words: Vec<(usize, String)> = Vec::new();
    for (line, text) in prose(text) {
        for chunk in text.split_whitespace().filter(|chunk| !chunk.contains("://")) {
            let mut inside = false;
            for character in chunk.chars() {
                match character {
                    '*' => {}
                    '\'' | '’' if inside => words.last_mut().unwrap().1.push('\''),
                    '-' | '_' if inside => words.last_mut().unwrap().1.push(character),
                    _ if character.is_alphanumeric() => {
                        if !std::mem::replace(&mut inside, true) {
                            words.push((line, String::new()));
                        }
                        words.last_mut().unwrap().1.extend(character.to_lowercase());
                    }
                    _ => {
                        inside = false;
                        words.push((line, String::new()));
                    }
                }
            }
        }
    }
    words
}

/// The lines of Markdown without code blocks, code spans and link targets.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut fenced = false;
    // The length of the backticks of a code span that is open: it may go over lines.
    let mut span = 0;
    for (n, line) in text.lines().enumerate() {
        let start = line.trim_start();
        if start.starts_with("```") {
            fenced = !fenced;
        }
        let reference = start.starts_with('[') && start.contains("]: ");
        if fenced || reference || start.starts_with("```") {
            span = 0;
            continue;
        }
        if start.is_empty() {
            span = 0;
        }
        let mut kept = String::new();
        let mut rest = line;
        while let Some(next) = rest.chars().next() {
            let ticks = rest.len() - rest.trim_start_matches('`').len();
            if ticks > 0 {
                span = if span == 0 { ticks } else { span * usize::from(span != ticks) };
                kept.push('`');
                rest = &rest[ticks..];
            } else if span == 0 && rest.starts_with("](") {
                let end = rest.find(')').map_or(rest.len(), |end| end + 1);
                kept.push(']');
                rest = &rest[end..];
            } else {
                if span == 0 {
                    kept.push(next);
                }
                rest = &rest[next.len_utf8()..];
            }
        }
        lines.push((n + 1, kept));
    }
    lines
}
