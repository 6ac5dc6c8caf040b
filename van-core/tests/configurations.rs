//! Files that skupper-router's users have: those that its controller writes and those of test rigs, in both syntaxes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use van_core::management::config::Configuration;

/// What is read from a file, all of it, as text.
fn read(text: &str) -> String {
    match Configuration::parse(text, |name| (name == "HOSTNAME").then(|| "pod-1".to_owned())) {
        Ok(configuration) => format!("{configuration:#?}"),
        Err(error) => panic!("{error}\n{text}"),
    }
}

fn files() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configurations");
    let paths = fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("a file").path());
    let files: BTreeMap<_, _> =
        paths.map(|path| (path.display().to_string(), fs::read_to_string(&path).expect("a text"))).collect();
    assert!(files.len() >= 9, "some are missing");
    files
}

/// The older syntax of what is written in JSON; texts stand in quotes only where they must.
fn to_conf(pairs: &Value) -> String {
    let mut conf = String::from("# made of JSON\n\n");
    for pair in pairs.as_array().expect("a list") {
        conf += &format!("{} {{\n", pair[0].as_str().expect("a type"));
        for (key, value) in pair[1].as_object().expect("attributes") {
            let value = match value {
                Value::String(text) if is_plain(text) => text.clone(),
                Value::Object(_) => format!("{value:#}"),
                value => value.to_string(),
            };
            conf += &format!("    {key}: {value}\n");
        }
        conf += "}  # the end\n\n";
    }
    conf
}

fn is_plain(text: &str) -> bool {
    let starts_json = text.starts_with(['{', '"']);
    let has_more = text.contains(['#', '\\']) || text.chars().any(char::is_control);
    !text.is_empty() && text.trim() == text && !starts_json && !has_more
}

#[test]
fn every_file_means_the_same_in_the_older_syntax() {
    for (file, text) in files() {
        let pairs = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read(&to_conf(&pairs)), read(&text), "{file}");
    }
}

/// Without dollars: those begin variables.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z#:/{}\" .\\\\]{1,12}", "[^$]{0,12}"]
}

fn json_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from)
    ];
    scalar.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_and_any_properties_mean_the_same_in_the_older_syntax(
        [metadata, address, name] in [text(), text(), text()],
        properties in prop::collection::btree_map("my[a-z{}\"#]{1,8}", json_value(), 0..4),
        port: u16,
    ) {
        let pairs = json!([
            ["router", {"id": "a", "mode": "interior", "metadata": metadata}],
            ["tcpListener", {"name": name, "port": port, "address": address}],
            ["listener", {"name": "web", "port": port, "http": true, "openProperties": properties}],
        ]);
        prop_assert_eq!(read(&to_conf(&pairs)), read(&pairs.to_string()));
    }
}
