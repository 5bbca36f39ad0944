//! Which part imports which, as ARCHITECTURE.md has it; and that no two files import each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A part, the parts that it may import, and the crates that appear in no part that does not list
/// them.
const PARTS: [(&str, &[&str], &[&str]); 22] = [
    ("timestamp", &[], &[]),
    ("outcome", &["data"], &[]),
    ("data", &[], &["serde"]),
    ("name", &[], &["serde"]),
    ("unwind", &[], &[]),
    ("clock", &["timestamp"], &["rustix"]),
    ("policy", &["timestamp", "outcome"], &["humantime", "serde"]),
    ("machine", &["data", "timestamp", "outcome", "policy"], &["serde"]),
    ("stats", &["data", "timestamp", "outcome", "machine"], &["serde"]),
    (
        "backend",
        &["data", "timestamp", "name", "policy", "machine", "clock"],
        &["fred", "serde", "serde_json"],
    ),
    (
        "event",
        &["data", "timestamp", "name", "unwind", "machine", "backend", "clock"],
        &["serde", "tracing"],
    ),
    (
        "sync",
        &["timestamp", "name", "unwind", "policy", "machine", "backend", "event", "clock"],
        &["rustix"],
    ),
    (
        "circuit",
        &[
            "data",
            "timestamp",
            "outcome",
            "name",
            "unwind",
            "policy",
            "machine",
            "backend",
            "sync",
            "clock",
            "stats",
        ],
        &["serde"],
    ),
    ("overrides", &["machine", "backend", "circuit"], &[]),
    (
        "replay",
        &["timestamp", "outcome", "name", "policy", "machine", "circuit", "clock"],
        &["serde", "serde_json"],
    ),
    ("classify", &["outcome", "circuit"], &["httpdate", "tower_http"]),
    (
        "store",
        &[
            "data",
            "timestamp",
            "name",
            "policy",
            "machine",
            "backend",
            "event",
            "sync",
            "circuit",
            "replay",
            "clock",
            "stats",
        ],
        &["dashmap", "serde"],
    ),
    (
        "service",
        &["name", "outcome", "policy", "machine", "sync", "circuit", "store", "classify"],
        &["tower_service", "tower_layer", "http_body"],
    ),
    (
        "metrics",
        &["machine", "event", "stats", "circuit", "store"],
        &["metrics", "prometheus_client"],
    ),
    ("health", &["data", "name", "machine", "event", "circuit", "store"], &["serde"]),
    ("config", &["name", "policy", "backend", "event", "store"], &["humantime", "serde"]),
    (
        "admin",
        &[
            "timestamp",
            "name",
            "policy",
            "machine",
            "backend",
            "event",
            "clock",
            "stats",
            "circuit",
            "overrides",
            "store",
            "health",
        ],
        &["serde", "serde_json", "sha2", "bytes", "tower_service", "http_body"],
    ),
];

#[test]
fn a_part_imports_only_what_is_above_it() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (file, text) in sources(Path::new("src")) {
        let part = part(&file);
        let Some((_, allowed, own)) = PARTS.iter().find(|(name, ..)| *name == part) else {
            assert!(["lib", "doctests"].contains(&part.as_str()), "{file} is in no part");
            continue;
        };
        seen.insert(part.clone());
        for line in code(&text) {
            for (at, _) in line.match_indices("crate::") {
                let import: String = line[at + 7..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if import != part && !allowed.contains(&import.as_str()) {
                    wrong.push(format!("{file}: {}", line.trim()));
                }
            }
            let of_others = PARTS.iter().flat_map(|(_, _, crates)| *crates);
            for owned in of_others.filter(|owned| !own.contains(owned)) {
                if line.contains(&format!("{owned}::")) && !line.contains("crate::") {
                    wrong.push(format!("{file}: {}", line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(seen.len(), PARTS.len(), "every part was read: {seen:?}");
}

#[test]
fn no_two_files_import_each_other_not_even_over_others() {
    let sources: BTreeMap<String, String> = sources(Path::new("src")).into_iter().collect();
    let modules: BTreeMap<Vec<String>, &str> =
        sources.keys().map(|file| (module(file), file.as_str())).collect();
    let imports: BTreeMap<&str, BTreeSet<&str>> = sources
        .iter()
        .map(|(file, text)| (file.as_str(), imports(file, text, &modules, &sources)))
        .collect();
    let circles: Vec<_> = imports.keys().filter_map(|file| circle(file, &imports)).collect();
    assert!(circles.is_empty(), "{circles:#?}");
}

/// The shortest way from a file back to itself.
fn circle<'a>(
    start: &'a str,
    imports: &BTreeMap<&'a str, BTreeSet<&'a str>>,
) -> Option<Vec<&'a str>> {
    let mut ways = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while let Some(way) = (!ways.is_empty()).then(|| ways.remove(0)) {
        for &next in imports.get(way[way.len() - 1]).into_iter().flatten() {
            let way = [way.as_slice(), &[next]].concat();
            if next == start {
                let whole = way.iter().min() == Some(&start);
                return whole.then_some(way);
            }
            if seen.insert(next) {
                ways.push(way);
            }
        }
    }
    None
}

/// The files in which the items are defined that a file imports.
fn imports<'a>(
    file: &str,
    text: &str,
    modules: &BTreeMap<Vec<String>, &'a str>,
    sources: &BTreeMap<String, String>,
) -> BTreeSet<&'a str> {
    let own = module(file);
    used(text)
        .into_iter()
        // What a module exports of its own files it does not use itself.
        .filter(|(exported, path)| !exported || path[0] == "crate")
        .filter_map(|(_, path)| definition(&own, &path, modules, sources))
        .filter(|found| *found != file)
        .collect()
}

/// Follows a path, through what modules export, to the file that defines its item.
fn definition<'a>(
    from: &[String],
    path: &[String],
    modules: &BTreeMap<Vec<String>, &'a str>,
    sources: &BTreeMap<String, String>,
) -> Option<&'a str> {
    let mut at = from.to_vec();
    let mut rest = path;
    match rest[0].as_str() {
        "crate" => (at, rest) = (Vec::new(), &rest[1..]),
        "self" => rest = &rest[1..],
        _ => {}
    }
    while rest.first().is_some_and(|name| name == "super") {
        at.pop();
        rest = &rest[1..];
    }
    while let Some((name, after)) = rest.split_first() {
        let child = [at.as_slice(), std::slice::from_ref(name)].concat();
        if modules.contains_key(&child) {
            (at, rest) = (child, after);
            continue;
        }
        let file = modules.get(&at)?;
        let exported = used(&sources[*file])
            .into_iter()
            // A macro is exported by its name alone.
            .find(|(exported, path)| *exported && path.len() > 1 && path.last() == Some(name));
        if let Some((_, path)) = exported {
            return definition(&at, &path, modules, sources);
        }
        // The first name of a path in none of our modules is a crate.
        let ours = at.as_slice() != from || ["crate", "self", "super"].contains(&path[0].as_str());
        return ours.then_some(*file);
    }
    modules.get(&at).copied()
}

/// The paths that `use` declarations name, each whole; and whether they export.
fn used(text: &str) -> Vec<(bool, Vec<String>)> {
    let code: Vec<_> = code(text).collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let line = code[..at].rfind('\n').map_or(0, |end| end + 1);
        let before = &code[line..at];
        if !["", "pub ", "pub(crate) ", "pub(super) "].contains(&before) {
            continue;
        }
        let Some(end) = code[at..].find(';') else { continue };
        for path in branches(code[at + 4..at + end].trim()) {
            found.push((!before.is_empty(), path));
        }
    }
    found
}

fn branches(tree: &str) -> Vec<Vec<String>> {
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        let path = path.split("::").map(|name| name.trim().to_owned());
        return vec![path.filter(|name| !name.is_empty() && name != "*").collect()];
    };
    let stem: Vec<String> = tree[..open]
        .split("::")
        .map(|name| name.trim().to_owned())
        .filter(|n| !n.is_empty())
        .collect();
    let inside = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let mut depth = 0;
    let parts = inside.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    parts
        .filter(|part| !part.trim().is_empty())
        .flat_map(branches)
        .map(|path| {
            let path = path.into_iter().filter(|name| name != "self");
            stem.iter().cloned().chain(path).collect()
        })
        .collect()
}

fn module(file: &str) -> Vec<String> {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').filter(|name| *name != "lib").map(str::to_owned).collect()
}

/// Docs may point anywhere.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let tests = text.find("\n#[cfg(all(test").unwrap_or(text.len());
    text[..tests].lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// Where the rules meet people, who write half as 0.5: what is given is checked, and turned into
/// integers; what is shown is turned back.
const FRACTIONS: [&str; 2] = ["tally.rs", "transition.rs"];

#[test]
fn the_rules_know_no_clock_no_lock_no_task_and_no_float() {
    for (file, text) in sources(Path::new("src/machine")) {
        let shown = FRACTIONS.iter().any(|name| file.ends_with(name));
        for word in ["Instant", "SystemTime", "Mutex", "Atomic", "async ", "tokio"] {
            assert!(!text.contains(word), "{file} has {word}");
        }
        for word in ["f32", "f64"] {
            assert!(shown || !text.contains(word), "{file} has {word}");
        }
    }
}

fn part(file: &str) -> String {
    let path = file.trim_start_matches("src/");
    path.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
}

/// A folder of tests, which may import what they test.
const MODEL: &str = "src/sync/model";

fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with(MODEL) {
            continue;
        }
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.to_str().unwrap().replace('\\', "/"), text));
        }
    }
    found
}
