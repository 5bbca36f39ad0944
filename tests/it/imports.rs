//! Who imports whom, as ARCHITECTURE.md has it: a part imports parts above it, and none below.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A part, and the parts that it may import. A crate that is named here appears nowhere else.
const PARTS: [(&str, &[&str], &[&str]); 13] = [
    ("timestamp", &[], &[]),
    ("outcome", &[], &[]),
    ("name", &[], &[]),
    ("unwind", &[], &[]),
    ("clock", &["timestamp"], &["rustix"]),
    ("machine", &["timestamp", "outcome"], &[]),
    ("backend", &["timestamp", "name", "machine", "clock"], &["fred", "serde", "serde_json"]),
    ("circuit", &["timestamp", "outcome", "name", "unwind", "machine", "backend", "clock"], &[]),
    ("classify", &["outcome", "circuit"], &["httpdate", "tower_http"]),
    ("observe", &["name", "machine", "backend", "circuit"], &["tracing"]),
    (
        "store",
        &["timestamp", "name", "unwind", "machine", "backend", "circuit", "observe", "clock"],
        &["dashmap"],
    ),
    (
        "service",
        &["name", "outcome", "machine", "circuit", "store", "classify"],
        &["tower_service", "tower_layer", "http_body"],
    ),
    ("config", &["backend", "observe", "store"], &["humantime"]),
];

#[test]
fn a_part_imports_only_what_is_above_it() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (file, text) in sources(Path::new("src")) {
        let part = part(&file);
        let Some((_, allowed, _)) = PARTS.iter().find(|(name, ..)| *name == part) else {
            assert_eq!(part, "lib", "{file} is in no part");
            continue;
        };
        seen.insert(part.clone());
        // Docs may point anywhere.
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for (at, _) in line.match_indices("crate::") {
                let import: String = line[at + 7..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if import != part && !allowed.contains(&import.as_str()) {
                    wrong.push(format!("{file}: {}", line.trim()));
                }
            }
            for (owner, _, crates) in PARTS {
                let foreign = crates.iter().find(|c| line.contains(&format!("{c}::")));
                if owner != part && foreign.is_some() && !line.contains("crate::") {
                    wrong.push(format!("{file}: {}", line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(seen.len(), PARTS.len(), "every part was read: {seen:?}");
}

/// Where the rules meet people, who write half as 0.5: what is given is checked, and turned into
/// integers; what is told is turned back.
const FRACTIONS: [&str; 5] =
    ["policy/builder.rs", "policy/check.rs", "policy/fraction.rs", "policy/read.rs", "tally.rs"];

#[test]
fn the_rules_know_no_clock_no_lock_no_task_and_no_float() {
    for (file, text) in sources(Path::new("src/machine")) {
        let told = FRACTIONS.iter().any(|name| file.ends_with(name));
        for word in ["Instant", "SystemTime", "Mutex", "Atomic", "async ", "tokio"] {
            assert!(!text.contains(word), "{file} has {word}");
        }
        for word in ["f32", "f64"] {
            assert!(told || !text.contains(word), "{file} has {word}");
        }
    }
}

fn part(file: &str) -> String {
    let path = file.trim_start_matches("src/");
    path.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
}

fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.to_str().unwrap().replace('\\', "/"), text));
        }
    }
    found
}
