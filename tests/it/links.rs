//! Every link of a page leads somewhere: to a file, a heading, or an item of the public API.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// The pages as a browser finds them. README is the front page of the crate too, and has no links
/// that hold only beside the file.
const REPOSITORY: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/");
const DOCS: &str = "https://docs.rs/tower-breaker/latest/tower_breaker/";

#[test]
fn every_link_between_pages_leads_to_a_file_and_a_heading() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for folder in ["", "docs", "examples", "benches"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let page = entry.unwrap().path();
            if page.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let front = page == root.join("README.md");
            for link in links(&fs::read_to_string(&page).unwrap()) {
                let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
                let good = if let Some(file) = file.strip_prefix(REPOSITORY) {
                    leads_to(&root.join(file), heading)
                } else if let Some(item) = file.strip_prefix(DOCS) {
                    is_documented(root, item, heading)
                } else if file.contains("://") {
                    true
                } else if file.is_empty() {
                    leads_to(&page, heading)
                } else {
                    !front && leads_to(&plain(&page.parent().unwrap().join(file)), heading)
                };
                if !good {
                    wrong.push(format!("{}: {link}", page.strip_prefix(root).unwrap().display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The targets of `[text](target)` and `[text]: target`, outside of code.
fn links(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let prose: String = page.split("```").step_by(2).collect();
    for (at, _) in prose.match_indices("](") {
        let target = &prose[at + 2..];
        found.extend(target.find(')').map(|end| target[..end].to_owned()));
    }
    for line in prose.lines().filter(|line| line.starts_with('[')) {
        found.extend(line.split_once("]: ").map(|(_, target)| target.to_owned()));
    }
    found
}

fn leads_to(file: &Path, heading: &str) -> bool {
    let Ok(text) = fs::read_to_string(file) else { return file.is_dir() && heading.is_empty() };
    let prose = text.split("```").step_by(2).flat_map(str::lines);
    heading.is_empty() || prose.filter(|line| line.starts_with('#')).any(|h| slug(h) == heading)
}

/// `struct.Policy.html#method.only`, `service/#which-mode`.
fn is_documented(root: &Path, item: &str, heading: &str) -> bool {
    let api = fs::read_to_string(root.join("docs/public-api.txt")).unwrap();
    let path = item.trim_end_matches(".html").trim_end_matches('/').replace('/', "::");
    let (modules, last) = path.rsplit_once("::").map_or(("", &path[..]), |(m, l)| (m, l));
    let head = match last.split_once('.') {
        Some((kind, name)) if modules.is_empty() => format!("{kind} {name}"),
        Some((kind, name)) => format!("{kind} {modules}::{name}"),
        None => format!("mod {path}"),
    };
    let entries = api.split("\n\n");
    let ends =
        |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    let mut entries = entries.filter(|entry| {
        entry.split_once(&head).is_some_and(|(before, rest)| !before.contains('\n') && ends(rest))
    });
    let Some(entry) = entries.next() else { return item.is_empty() };
    match heading.split_once('.') {
        None => heading.is_empty() || headings(&root.join("src")).iter().any(|h| h == heading),
        Some((_, name)) => entry
            .lines()
            .any(|line| line.split_once(&format!("fn {name}")).is_some_and(|(_, rest)| ends(rest))),
    }
}

/// The headings of all docs in the source.
fn headings(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(headings(&path));
        } else {
            let text = fs::read_to_string(&path).unwrap();
            let docs = text.lines().filter_map(|line| {
                let line = line.trim_start();
                line.strip_prefix("//! ").or_else(|| line.strip_prefix("/// "))
            });
            found.extend(docs.filter(|line| line.starts_with('#')).map(slug));
        }
    }
    found
}

/// What GitHub and rustdoc make of a heading.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}
