//! The public API as text, so that a review sees each change of it.
//!
//! `docs/public-api.txt` lists it. `scripts/public-api` renews the file.

mod items;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use types::{ids, text};

const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/public-api.txt");

#[expect(clippy::disallowed_methods, reason = "of the tests, not of the crate")]
#[test]
fn the_public_api_is_the_one_in_docs_public_api_txt() {
    let api = Api::read();
    let now = api.list();
    if std::env::var("PUBLIC_API").is_ok_and(|value| value == "renew") {
        std::fs::write(KEPT, now).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(KEPT).unwrap_or_default();
    assert!(
        kept == now,
        "the public API is not the one in docs/public-api.txt:\n\n{}\n\nif you meant to change it, \
         run `scripts/public-api` and commit the file; if not, rustdoc's JSON may have changed: it \
         has format {}, and this test was written for {FORMAT}",
        changes(&kept, &now).join("\n"),
        api.format,
    );
    assert_eq!(api.twice(), [""; 0], "these items have more than one public path");
}

/// The lines that only one of two texts has, each under the item that it belongs to.
fn changes(before: &str, after: &str) -> Vec<String> {
    let lines = |text: &str| {
        let mut item = "";
        let mut found = BTreeSet::new();
        for line in text.lines() {
            if !line.starts_with(' ') {
                item = line;
            }
            found.insert((item.to_owned(), line.to_owned()));
        }
        found
    };
    let (before, after) = (lines(before), lines(after));
    let show = |sign, (item, line): &(String, String)| {
        let under = if item == line { String::new() } else { format!("    (in {item})") };
        format!("{sign} {}{under}", line.trim())
    };
    let gone = before.difference(&after).map(|line| show('-', line));
    gone.chain(after.difference(&before).map(|line| show('+', line))).collect()
}

const HEAD: &str = "\
# The public API of tower-breaker with all features, without auto traits and blanket impls.
# `scripts/public-api` renews this file; tests/it/public_api.rs compares it with the code.
";

/// The version of rustdoc's JSON that Rust 1.95 writes. Others may do as well.
const FORMAT: u64 = 57;

struct Api {
    json: Value,
    format: u64,
    /// Where a user finds an item: its id, and each of its paths below the crate.
    paths: BTreeMap<u64, BTreeSet<String>>,
}

impl Api {
    /// Has rustdoc describe the crate. A stable one writes JSON through `scripts/rustdoc-unstable`.
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let output = Command::new(env!("CARGO"))
            .args(["rustdoc", "--locked", "--quiet", "--lib", "--all-features", "--target-dir"])
            .arg(target)
            .args(["--", "-Z", "unstable-options", "--output-format", "json"])
            .args(["--cap-lints", "allow"])
            .current_dir(root)
            .env("RUSTDOC", root.join("scripts/rustdoc-unstable"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = std::fs::read_to_string(target.join("doc/tower_breaker.json")).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let format = json["format_version"].as_u64().unwrap();
        let crate_root = json["root"].as_u64().unwrap();
        let mut paths = BTreeMap::new();
        walk(&json["index"], crate_root, "", &mut paths);
        Self { json, format, paths }
    }

    fn item(&self, id: u64) -> &Value {
        &self.json["index"][id.to_string()]
    }

    fn twice(&self) -> Vec<String> {
        let twice = self.paths.values().filter(|paths| paths.len() > 1);
        twice.map(|paths| paths.iter().cloned().collect::<Vec<_>>().join(", ")).collect()
    }

    fn list(&self) -> String {
        let mut entries: Vec<_> = self
            .paths
            .iter()
            .flat_map(|(id, paths)| paths.iter().map(|path| (path.clone(), self.entry(*id, path))))
            .collect();
        entries.sort();
        let mut all = HEAD.to_owned();
        for (_, lines) in entries {
            all.push('\n');
            for line in lines {
                all.push_str(&line);
                all.push('\n');
            }
        }
        all
    }
}

/// Notes the path of each public item of a module.
fn walk(index: &Value, module: u64, path: &str, paths: &mut BTreeMap<u64, BTreeSet<String>>) {
    let item = |id: u64| &index[id.to_string()];
    for id in ids(&item(module)["inner"]["module"]["items"]) {
        let (mut id, mut name) = (id, text(&item(id)["name"]));
        if item(id)["visibility"] != "public" {
            continue;
        }
        let exported = &item(id)["inner"]["use"];
        if exported.is_object() {
            name = text(&exported["name"]);
            // What another crate has is in the list as `use`.
            id = exported["id"].as_u64().filter(|id| item(*id).is_object()).unwrap_or(id);
        }
        if exported["is_glob"] == true {
            walk(index, id, path, paths);
            continue;
        }
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}::{name}") };
        if item(id)["inner"]["module"].is_object() {
            walk(index, id, &path, paths);
        }
        paths.entry(id).or_default().insert(path);
    }
}
