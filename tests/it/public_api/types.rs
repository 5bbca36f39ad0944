//! Types, bounds and paths of rustdoc's JSON, as Rust writes them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Api;

impl Api {
    pub(super) fn params(&self, generics: &Value) -> String {
        let params = generics["params"].as_array().into_iter().flatten();
        let params = params.filter(|param| param["kind"]["type"]["is_synthetic"] != true);
        angles(params.map(|param| self.param(param)))
    }

    fn param(&self, param: &Value) -> String {
        let (name, kind) = (text(&param["name"]), &param["kind"]);
        let with = |sign: &str, what: String| {
            if what.is_empty() { what } else { format!("{sign}{what}") }
        };
        if kind["type"].is_object() {
            let bounds = with(": ", self.bounds(&kind["type"]["bounds"]));
            let default = &kind["type"]["default"];
            let default = if default.is_null() { String::new() } else { self.ty(default) };
            format!("{name}{bounds}{}", with(" = ", default))
        } else if kind["const"].is_object() {
            format!("const {name}: {}", self.ty(&kind["const"]["type"]))
        } else {
            let outlives = kind["lifetime"]["outlives"].as_array().into_iter().flatten();
            let outlives: Vec<_> = outlives.map(text).collect();
            format!("{name}{}", with(": ", outlives.join(" + ")))
        }
    }

    pub(super) fn wheres(&self, generics: &Value) -> String {
        let predicates = generics["where_predicates"].as_array().into_iter().flatten();
        let predicates: Vec<_> = predicates.map(|predicate| self.predicate(predicate)).collect();
        if predicates.is_empty() {
            return String::new();
        }
        format!(" where {}", predicates.join(", "))
    }

    fn predicate(&self, predicate: &Value) -> String {
        let (kind, it) = only(predicate);
        match kind {
            "bound_predicate" => {
                let bounds = self.bounds(&it["bounds"]);
                format!("{}{}: {bounds}", self.higher(it), self.ty(&it["type"]))
            }
            "lifetime_predicate" => {
                let outlives = it["outlives"].as_array().into_iter().flatten();
                let outlives: Vec<_> = outlives.map(text).collect();
                format!("{}: {}", text(&it["lifetime"]), outlives.join(" + "))
            }
            _ => format!("{} == {}", self.ty(&it["lhs"]), self.ty(&it["rhs"]["type"])),
        }
    }

    /// `for<'a>`, where there is one.
    fn higher(&self, it: &Value) -> String {
        let params = it["generic_params"].as_array().into_iter().flatten();
        match angles(params.map(|param| self.param(param))) {
            params if params.is_empty() => params,
            params => format!("for{params} "),
        }
    }

    pub(super) fn bounds(&self, bounds: &Value) -> String {
        let bounds = bounds.as_array().into_iter().flatten();
        let bounds: Vec<_> = bounds.map(|bound| self.bound(bound)).collect();
        bounds.join(" + ")
    }

    fn bound(&self, bound: &Value) -> String {
        let (kind, it) = only(bound);
        match kind {
            "trait_bound" => {
                let modifier = if it["modifier"] == "maybe" { "?" } else { "" };
                format!("{modifier}{}{}", self.higher(it), self.path(&it["trait"]))
            }
            "outlives" => text(it).to_owned(),
            _ => {
                let args = it.as_array().into_iter().flatten();
                format!("use{}", angles(args.map(|arg| text(only(arg).1).to_owned())))
            }
        }
    }

    /// A path as a user writes it, with its arguments.
    pub(super) fn path(&self, path: &Value) -> String {
        let id = path["id"].as_u64().unwrap_or_default();
        let name = match self.paths.get(&id).and_then(BTreeSet::first) {
            Some(ours) => ours.clone(),
            None => self.foreign(id, text(&path["path"])),
        };
        name + &self.args(&path["args"])
    }

    /// What the standard library has goes by its last name, what another crate has by that and the
    /// crate's.
    fn foreign(&self, id: u64, written: &str) -> String {
        let known = &self.json["paths"][id.to_string()]["path"];
        let known: Vec<_> = known.as_array().into_iter().flatten().map(text).collect();
        match known.as_slice() {
            ["core", "result", "Result"] => "Result".to_owned(),
            // Names that this crate has too, or the prelude.
            ["std" | "core" | "alloc", .., module, name @ ("Error" | "Result")] => {
                format!("{module}::{name}")
            }
            ["std" | "core" | "alloc", .., name] => (*name).to_owned(),
            [origin, .., name] if *origin != "tower_breaker" => format!("{origin}::{name}"),
            _ => written.rsplit("::").next().unwrap_or_default().to_owned(),
        }
    }

    fn args(&self, args: &Value) -> String {
        if args["parenthesized"].is_object() {
            let args = &args["parenthesized"];
            let inputs =
                commas(args["inputs"].as_array().into_iter().flatten().map(|t| self.ty(t)));
            return match &args["output"] {
                Value::Null => format!("({inputs})"),
                output => format!("({inputs}) -> {}", self.ty(output)),
            };
        }
        let args = &args["angle_bracketed"];
        let given = args["args"].as_array().into_iter().flatten().map(|arg| match only(arg) {
            ("type", ty) => self.ty(ty),
            ("const", constant) => text(&constant["expr"]).to_owned(),
            (_, lifetime) => text(lifetime).to_owned(),
        });
        let named = args["constraints"].as_array().into_iter().flatten().map(|constraint| {
            let name = text(&constraint["name"]);
            match only(&constraint["binding"]) {
                ("equality", term) => format!("{name} = {}", self.ty(&term["type"])),
                (_, bounds) => format!("{name}: {}", self.bounds(bounds)),
            }
        });
        angles(given.chain(named))
    }

    pub(super) fn ty(&self, ty: &Value) -> String {
        let (kind, it) = only(ty);
        match kind {
            "resolved_path" => self.path(it),
            "generic" | "primitive" => text(it).to_owned(),
            "tuple" => match it.as_array().map_or(&[][..], Vec::as_slice) {
                [one] => format!("({},)", self.ty(one)),
                more => format!("({})", commas(more.iter().map(|ty| self.ty(ty)))),
            },
            "slice" => format!("[{}]", self.ty(it)),
            "array" => format!("[{}; {}]", self.ty(&it["type"]), text(&it["len"])),
            "impl_trait" => format!("impl {}", self.bounds(it)),
            "dyn_trait" => {
                let traits = it["traits"].as_array().into_iter().flatten();
                let traits = traits.map(|of| self.higher(of) + &self.path(&of["trait"]));
                let lifetime = it["lifetime"].as_str().map(str::to_owned);
                format!("dyn {}", traits.chain(lifetime).collect::<Vec<_>>().join(" + "))
            }
            "borrowed_ref" => {
                let lifetime = it["lifetime"].as_str().map_or(String::new(), |a| format!("{a} "));
                let mutable = if it["is_mutable"] == true { "mut " } else { "" };
                let ty = self.ty(&it["type"]);
                let several =
                    ty.contains(" + ") && (ty.starts_with("dyn") || ty.starts_with("impl"));
                let ty = if several { format!("({ty})") } else { ty };
                format!("&{lifetime}{mutable}{ty}")
            }
            "raw_pointer" => format!("*{}", self.ty(&it["type"])),
            "function_pointer" => self.function("", it).replace("fn (", "fn(").replace(';', ""),
            "qualified_path" => {
                let (this, name) = (self.ty(&it["self_type"]), text(&it["name"]));
                let args = self.args(&it["args"]);
                // `Self::Error` and `S::Error` need not name the trait.
                if it["trait"].is_null() || it["self_type"]["generic"].is_string() {
                    return format!("{this}::{name}{args}");
                }
                format!("<{this} as {}>::{name}{args}", self.path(&it["trait"]))
            }
            _ => "_".to_owned(),
        }
    }
}

/// The one key of an object, and its value. A word alone is a key without one.
pub(super) fn only(value: &Value) -> (&str, &Value) {
    match value.as_object().and_then(|object| object.iter().next()) {
        Some((key, value)) => (key, value),
        None => (text(value), &Value::Null),
    }
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn ids(list: &Value) -> impl Iterator<Item = u64> {
    list.as_array().into_iter().flatten().filter_map(Value::as_u64)
}

pub(super) fn commas(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

fn angles(parts: impl Iterator<Item = String>) -> String {
    match commas(parts) {
        parts if parts.is_empty() => parts,
        parts => format!("<{parts}>"),
    }
}
