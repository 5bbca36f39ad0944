//! An item of rustdoc's JSON as lines of Rust.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Api;
use super::types::{commas, ids, only, text};

impl Api {
    /// An item, and below it what it has.
    pub(super) fn entry(&self, id: u64, path: &str) -> Vec<String> {
        let item = self.item(id);
        let (kind, inner) = inner(item);
        let generics = &inner["generics"];
        let (given, wheres) = (self.params(generics), self.wheres(generics));
        let mut below = Vec::new();
        let head = match kind {
            "struct" => match inner["kind"].as_object().and_then(|kind| kind.iter().next()) {
                None => format!("struct {path}{given}{wheres};"),
                Some((shape, fields)) if shape == "tuple" => {
                    format!("struct {path}{given}({}){wheres};", self.tuple(fields))
                }
                Some((_, kind)) => {
                    below.extend(self.fields(kind));
                    format!("struct {path}{given}{wheres}")
                }
            },
            "enum" => {
                for id in ids(&inner["variants"]) {
                    below.extend(self.variant(id));
                }
                format!("enum {path}{given}{wheres}")
            }
            "trait" => {
                let items = ids(&inner["items"]);
                below.extend(sorted(items.map(|id| self.associated(id, true))));
                let over = self.bounds(&inner["bounds"]);
                let over = if over.is_empty() { over } else { format!(": {over}") };
                format!("trait {path}{given}{over}{wheres}")
            }
            "function" => self.function(path, inner),
            "type_alias" => format!("type {path}{given} = {}{wheres};", self.ty(&inner["type"])),
            "constant" => format!("const {path}: {};", self.ty(&inner["type"])),
            "module" => format!("mod {path}"),
            "use" => format!("use {} as {path};", text(&inner["source"])),
            other => format!("{other} {path}"),
        };
        below.extend(self.implementations(id, inner));
        let mut lines = vec![attributes(item) + &head];
        lines.extend(below.into_iter().map(|line| format!("    {line}")));
        lines
    }

    fn fields(&self, kind: &Value) -> Vec<String> {
        let mut lines: Vec<_> = ids(&kind["fields"])
            .map(|id| self.item(id))
            .map(|field| {
                format!("{}: {},", text(&field["name"]), self.ty(&field["inner"]["struct_field"]))
            })
            .collect();
        if kind["has_stripped_fields"] == true && !lines.is_empty() {
            lines.push("..".to_owned());
        }
        lines
    }

    fn tuple(&self, fields: &Value) -> String {
        let fields = fields.as_array().into_iter().flatten();
        commas(fields.map(|field| match field.as_u64() {
            Some(id) => self.ty(&self.item(id)["inner"]["struct_field"]),
            None => "_".to_owned(),
        }))
    }

    fn variant(&self, id: u64) -> Vec<String> {
        let item = self.item(id);
        let (name, kind) =
            (attributes(item) + text(&item["name"]), &item["inner"]["variant"]["kind"]);
        if kind["tuple"].is_array() {
            vec![format!("{name}({}),", self.tuple(&kind["tuple"]))]
        } else if kind["struct"].is_object() {
            let fields = self.fields(&kind["struct"]);
            vec![format!("{name} {{ {} }},", fields.join(" ").trim_end_matches(','))]
        } else {
            vec![format!("{name},")]
        }
    }

    /// Methods and constants of an item itself, and the traits that it implements. A trait has
    /// those of its implementations that are for foreign types.
    fn implementations(&self, item: u64, inner: &Value) -> Vec<String> {
        // Blocks of one head are one: how the source splits them is no part of the API.
        let (mut own, mut traits) = (BTreeMap::<String, Vec<_>>::new(), Vec::new());
        let of_trait = inner["implementations"].is_array();
        for id in ids(&inner[if of_trait { "implementations" } else { "impls" }]) {
            let block = &self.item(id)["inner"]["impl"];
            let blanket = !block["blanket_impl"].is_null() && !of_trait;
            let of = block["for"]["resolved_path"]["id"].as_u64();
            let of = of.filter(|id| self.paths.contains_key(id));
            let elsewhere = of.is_some_and(|of| of != item);
            if block["is_synthetic"] == true || blanket || elsewhere {
                continue;
            }
            let (given, wheres) =
                (self.params(&block["generics"]), self.wheres(&block["generics"]));
            let subject = self.ty(&block["for"]);
            let items = ids(&block["items"]);
            if block["trait"].is_null() {
                let plain = given.is_empty() && wheres.is_empty() && !subject.contains('<');
                let head =
                    if plain { String::new() } else { format!("impl{given} {subject}{wheres}") };
                let public = items.filter(|id| self.item(*id)["visibility"] == "public");
                own.entry(head).or_default().extend(public.map(|id| self.associated(id, false)));
                continue;
            }
            let name = self.path(&block["trait"]);
            if ["StructuralPartialEq", "Unpin"].contains(&name.as_str()) {
                continue;
            }
            let not = if block["is_negative"] == true { "!" } else { "" };
            let types = items.filter(|id| self.item(*id)["inner"]["assoc_type"].is_object());
            // The item is the one above, unless its parameters or a trait say otherwise.
            let subject = if of.is_some() && !subject.contains('<') {
                String::new()
            } else {
                format!(" for {subject}")
            };
            let mut lines = vec![format!("impl{given} {not}{name}{subject}{wheres}")];
            let types = sorted(types.map(|id| self.associated(id, false)));
            lines.extend(types.iter().map(|line| format!("    {line}")));
            traits.push(lines);
        }
        traits.sort();
        let mut lines = Vec::new();
        for (head, items) in own.into_iter().filter(|(_, items)| !items.is_empty()) {
            let indent = if head.is_empty() { "" } else { "    " };
            lines.extend((!head.is_empty()).then_some(head));
            lines.extend(
                sorted(items.into_iter()).into_iter().map(|line| format!("{indent}{line}")),
            );
        }
        lines.extend(traits.into_iter().flatten());
        lines
    }

    /// An item of a trait or of an implementation: its name, and its line.
    fn associated(&self, id: u64, of_trait: bool) -> (String, String) {
        let item = self.item(id);
        let name = text(&item["name"]);
        let (kind, inner) = inner(item);
        let line = match kind {
            "function" => {
                let provided = of_trait && inner["has_body"] == true;
                self.function(name, inner) + if provided { "    // provided" } else { "" }
            }
            "assoc_const" => format!("const {name}: {};", self.ty(&inner["type"])),
            "assoc_type" => {
                let bounds = self.bounds(&inner["bounds"]);
                let bounds = if bounds.is_empty() { bounds } else { format!(": {bounds}") };
                let is = &inner["type"];
                let is = if is.is_null() { String::new() } else { format!(" = {}", self.ty(is)) };
                format!("type {name}{}{bounds}{is};", self.params(&inner["generics"]))
            }
            other => format!("{other} {name}"),
        };
        (name.to_owned(), attributes(item) + &line)
    }

    pub(super) fn function(&self, name: &str, function: &Value) -> String {
        let header = &function["header"];
        let word = |key, word| if header[key] == true { word } else { "" };
        let inputs = function["sig"]["inputs"].as_array().into_iter().flatten();
        let inputs = commas(inputs.map(|input| self.input(text(&input[0]), &input[1])));
        let output = match &function["sig"]["output"] {
            Value::Null => String::new(),
            output => format!(" -> {}", self.ty(output)),
        };
        let generics = &function["generics"];
        format!(
            "{}{}{}fn {name}{}({inputs}){output}{};",
            word("is_const", "const "),
            word("is_async", "async "),
            word("is_unsafe", "unsafe "),
            self.params(generics),
            self.wheres(generics),
        )
    }

    fn input(&self, name: &str, ty: &Value) -> String {
        let ty = self.ty(ty);
        match (name, ty.strip_suffix("Self")) {
            ("self", Some(before)) if before.is_empty() || before.starts_with('&') => {
                format!("{before}self")
            }
            _ => format!("{name}: {ty}"),
        }
    }
}

/// What is part of the contract, of all attributes.
fn attributes(item: &Value) -> String {
    let mut words = String::new();
    if !item["deprecation"].is_null() {
        words.push_str("#[deprecated] ");
    }
    for attribute in item["attrs"].as_array().into_iter().flatten() {
        if attribute == "non_exhaustive" {
            words.push_str("#[non_exhaustive] ");
        } else if attribute["must_use"].is_object() {
            words.push_str("#[must_use] ");
        }
    }
    words
}

fn inner(item: &Value) -> (&str, &Value) {
    only(&item["inner"])
}

/// Lines by the names of their items, whatever stands before those.
fn sorted(named: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut named: Vec<_> = named.collect();
    named.sort();
    named.into_iter().map(|(_, line)| line).collect()
}
