//! The JSON Schema of the policy file, for editors and for checks outside of this crate.
//!
//! It is derived from the types and their documentation, and then put into the words of a TOML file: there is no null,
//! and no link to Rust's items.

use serde_json::{Map, Value, json};
use service_mesh_models::PolicyFile;

/// The JSON Schema (draft 2020-12) of the policy file, with the meaning and the default of every key. The repository
/// has it as `docs/policy.schema.json`.
///
/// It knows keys and kinds of values. What depends on more than one key, and most ranges, is only told in its
/// descriptions; [`read_policy_file`](crate::read_policy_file) checks everything.
pub fn policy_file_schema() -> String {
    let mut schema = schemars::schema_for!(PolicyFile).to_value();
    speak_toml(&mut schema);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is a tree of strings, numbers and switches");
    text.push('\n');
    text
}

fn speak_toml(value: &mut Value) {
    match value {
        Value::Object(schema) => {
            without_null(schema);
            if let Some(Value::String(text)) = schema.get_mut("description") {
                *text = plain(text);
            }
            schema.values_mut().for_each(speak_toml);
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(speak_toml),
        _ => {}
    }
}

/// An option is a key that may be missing. Where it is a section that could be inherited, `false` switches it off.
fn without_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type")
        && let [kind, Value::String(null)] = types.as_slice()
        && null == "null"
    {
        let kind = kind.clone();
        schema.insert(String::from("type"), kind);
    }
    if let Some(Value::Array(alternatives)) = schema.get_mut("anyOf") {
        let null = json!({ "type": "null" });
        alternatives
            .iter_mut()
            .filter(|schema| **schema == null)
            .for_each(|schema| *schema = json!({ "const": false }));
    }
}

/// The text of a documentation comment: one line a paragraph, the names of links without what they lead to, and no
/// example, which is Rust.
fn plain(documentation: &str) -> String {
    let text = documentation.split("```").next().unwrap_or_default().trim_end();
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
    let text = paragraphs.collect::<Vec<_>>().join("\n\n");
    let mut parts = text.split("[`");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push('`');
        let (name, rest) = part.split_once(']').unwrap_or((part, ""));
        plain.push_str(name);
        plain.push_str(match rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            Some((_target, rest)) => rest,
            None => rest,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_become_names_and_lines_become_paragraphs() {
        assert_eq!(plain("a\nb [`C`](d) and [`E::f`].\n\nG [h]\n\n```\ni\n```"), "a b `C` and `E::f`.\n\nG [h]");
    }

    #[test]
    fn the_schema_in_the_repository_is_the_present_one() {
        let written = include_str!("../../../../docs/policy.schema.json");
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert!(
            parse(written) == parse(&policy_file_schema()),
            "write it anew: cargo run -p service-mesh --features schema --example policy_schema -- docs/policy.schema.json"
        );
        assert!(!written.contains("\"null\""));
    }
}
