//! The JSON schema of the file of services. The schema and the page `docs/agent-file.md` come from the flags.

use clap::Arg;
use serde_json::{Value, json};

use super::services::{TABLE, TARGET, flags, is_list};

const ABOUT_TARGET: &str = "The target to serve, as on the command line";

/// A JSON schema (draft 2020-12) of the file.
pub(in crate::cli) fn schema() -> Value {
    let keys = || flags().into_iter().map(|flag| (key(&flag), of_value(&flag)));
    let mut service: serde_json::Map<String, Value> = keys().collect();
    service.insert(TARGET.into(), json!({ "description": ABOUT_TARGET, "type": ["string", "integer"] }));
    let mut file: serde_json::Map<String, Value> = keys().collect();
    let service = json!({
        "type": "object", "properties": service, "required": [TARGET], "additionalProperties": false,
    });
    let services = json!({ "type": "object", "minProperties": 1, "additionalProperties": service });
    file.insert(TABLE.into(), services);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The services of a ptth agent",
        "type": "object",
        "properties": file,
        "required": [TABLE],
        "additionalProperties": false,
    })
}

fn key(flag: &Arg) -> String {
    flag.get_long().unwrap_or_default().to_owned()
}

fn help(flag: &Arg) -> String {
    flag.get_help()
        .map(ToString::to_string)
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn of_value(flag: &Arg) -> Value {
    let description = help(flag);
    let one = json!({ "type": ["string", "integer"] });
    match (flag.get_action().takes_values(), is_list(flag)) {
        (false, _) => json!({ "description": description, "type": "boolean" }),
        (true, false) => json!({ "description": description, "type": ["string", "integer"] }),
        (true, true) => {
            let list = json!({ "type": "array", "items": one, "minItems": 1 });
            json!({ "description": description, "anyOf": [one, list] })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/agent-file.md");
    const START: &str = "<!-- keys -->\n";

    /// The table of all keys, in Markdown.
    fn table() -> String {
        let rows = flags().into_iter().map(|flag| {
            let value = match flag.get_action().takes_values() {
                false => "true or false".to_owned(),
                true => {
                    let names = flag.get_value_names().unwrap_or_default();
                    let name = names.first().map_or("VALUE", |name| name.as_str());
                    let list = if is_list(&flag) { ", or a list" } else { "" };
                    format!("{}{list}", name.replace('|', " or "))
                }
            };
            format!("| `{}` | {value} | {} |\n", key(&flag), help(&flag).replace('|', "\\|"))
        });
        let head =
            format!("| Key | Value | Meaning |\n|---|---|---|\n| `{TARGET}` | TARGET | {ABOUT_TARGET} |\n");
        std::iter::once(head).chain(rows).collect()
    }

    /// `PTTH_DOCS=1 cargo test --lib reference` writes the table.
    #[test]
    fn the_page_about_the_file_lists_every_key() {
        let page = std::fs::read_to_string(PAGE).unwrap();
        let (text, _) = page.split_once(START).unwrap();
        let current = format!("{text}{START}{}", table());
        if std::env::var_os("PTTH_DOCS").is_some() {
            std::fs::write(PAGE, &current).unwrap();
        }
        let page = std::fs::read_to_string(PAGE).unwrap();
        assert!(
            page == current,
            "docs/agent-file.md is not current: run PTTH_DOCS=1 cargo test --lib reference"
        );
    }

    #[test]
    fn the_schema_has_every_key_with_its_type() {
        let schema = schema();
        let service = &schema["properties"]["service"]["additionalProperties"];
        assert_eq!(service["properties"]["listing"]["type"], "boolean");
        assert_eq!(service["properties"]["name"]["anyOf"][1]["type"], "array");
        assert_eq!(service["properties"]["transport"]["type"][0], "string");
        assert_eq!(schema["properties"]["relay"]["anyOf"][0]["type"][0], "string");
        assert!(schema["properties"].get("target").is_none() && service["properties"].get("json").is_none());
        assert!(flags().iter().all(|flag| !help(flag).is_empty()));
    }
}
