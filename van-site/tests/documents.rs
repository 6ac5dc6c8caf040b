//! Documents as texts: read, written, refused.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use van_site::document::Document;
use van_site::resource::access_grant::AccessGrantSpec;
use van_site::resource::connector::ConnectorSpec;
use van_site::resource::link::LinkSpec;
use van_site::resource::site::SiteSpec;
use van_site::resource::{AccessGrant, Connector, Endpoint, Kind, Link, Resource, Secret, Site};
use van_site::status::State;
use van_site::yaml;

const LISTENER: &str = "\
apiVersion: skupper.io/v2alpha1
kind: Listener
metadata:
  name: backend
spec:
  routingKey: backend
  host: 0.0.0.0
  port: 8080
";

fn texts(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder);
    let files = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let read = |file: PathBuf| (file.display().to_string(), fs::read_to_string(&file).expect("a text"));
    files.map(read).collect()
}

fn read_one(text: &str) -> Document {
    let mut documents = Document::read_all(text);
    assert_eq!(documents.len(), 1, "{text}");
    documents.remove(0).expect("a document")
}

fn survives(document: &Document) {
    assert_eq!(read_one(&yaml::write(document)), *document, "{}", yaml::write(document));
    assert_eq!(read_one(&yaml::to_json(document)), *document, "{}", yaml::to_json(document));
}

#[test]
fn seeds_survive_being_written_as_yaml_and_json() {
    let mut kinds = Vec::new();
    for (file, text) in texts("seeds") {
        for document in Document::read_all(&text) {
            match document {
                Ok(document) => {
                    survives(&document);
                    kinds.push(document.kind());
                }
                Err(error) => assert_eq!(
                    error.to_string(),
                    "Namespace (v1) has no effect here: van does not support this kind",
                    "{file}"
                ),
            }
        }
    }
    assert!(Kind::ALL.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
}

#[test]
fn documents_of_the_original_with_status_survive() {
    for (_, text) in texts("original") {
        let document = read_one(&text);
        survives(&document);
        if let Document::Site(site) = &document {
            assert_eq!(site.metadata.uid.as_deref(), Some("9a0da1a4-1544-47b9-8353-b9fec5dc68a8"));
            assert_eq!(site.status.common.state, Some(State::Ready));
            assert_eq!(site.status.endpoints[1].port, "45671");
        }
        if let Document::Listener(listener) = &document {
            assert_eq!(listener.status.common.state, Some(State::Pending));
            assert_eq!(listener.status.common.message, "Not Matched");
        }
    }
}

#[test]
fn a_document_is_written_as_people_write_it() {
    let mut listener = read_one(LISTENER);
    listener.metadata_mut().namespace = Some("west".to_owned());
    let expected =
        LISTENER.replace("0.0.0.0", "\"0.0.0.0\"").replace("backend\nspec", "backend\n  namespace: west\nspec");
    assert_eq!(yaml::write(&listener), expected);
}

/// Reads a text that has one thing wrong.
fn check(text: &str, line: usize, message: &str) {
    let documents = Document::read_all(text);
    let [Err(error)] = documents.as_slice() else { panic!("{documents:?}") };
    assert_eq!((error.line(), error.to_string().as_str()), (line, message), "{text}");
}

#[test]
fn mistakes_are_told_with_line_and_field() {
    let with = |from: &str, to: &str| LISTENER.replace(from, to);
    check(
        &with("port:", "prot:"),
        8,
        "spec.prot: unknown field `prot`, expected one of routingKey, host, port, tlsCredentials, type, observer, \
         exposePodsByName, settings",
    );
    check(&with("8080", "70000"), 8, "spec.port: not a whole number from 0 to 65535");
    check(&with("8080", "http"), 8, "spec.port: not a whole number from 0 to 65535");
    check(
        &with("port: 8080", "observer: http3"),
        8,
        "spec.observer: unknown variant `http3`, expected one of auto, none, http1, http2",
    );
    check(&with("port: 8080", "exposePodsByName: 7"), 8, "spec.exposePodsByName: neither true nor false");
    check(&with("port: 8080", "settings: {a: {b: c}}"), 8, "spec.settings.a: expected a text");
    check(&with("port: 8080", "host: ::1"), 8, "spec: duplicate mapping key `host` is not allowed here");
    check(&with("port: 8080", "port"), 8, "spec: simple key expected ':'");
    check(&with("  name: backend\n", "  namespace: west\n"), 4, "metadata: missing field `name`");
    check(&with("name: backend", "name: [backend]"), 4, "metadata.name: expected a text");
    check(
        &with("spec:", "sepc:"),
        5,
        "sepc: unknown field `sepc`, expected one of apiVersion, kind, metadata, spec, status",
    );
    check(&with("kind: Listener\n", ""), 4, "missing field `kind`");
    check("just words", 1, "expected fields, each with a name, a colon and a value");
    check(&format!("# one\n---\n---\n{}", with("8080", "-1")), 11, "spec.port: not a whole number from 0 to 65535");
    check(
        "apiVersion: skupper.io/v2alpha1\nkind: RouterAccess\nmetadata: {name: x}\nspec:\n  roles:\n  - name: edge\n  - name: edge\n    port: x",
        8,
        "spec.roles[1].port: not a whole number from 0 to 65535",
    );
}

#[test]
fn kinds_without_effect_are_named() {
    for (api_version, kind) in [
        ("apps/v1", "Deployment"),
        ("v1", "ConfigMap"),
        ("skupper.io/v2alpha1", "AttachedConnector"),
        ("skupper.io/v1", "Listener"),
    ] {
        let text = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{any: [thing]}}\n");
        check(&text, 1, &format!("{kind} ({api_version}) has no effect here: van does not support this kind"));
    }
}

#[test]
fn a_broken_document_leaves_its_neighbours_alone() {
    let stream = format!("{LISTENER}---\n{{ broken\n--- # the third\n{}", LISTENER.replace("backend", "other"));
    let documents = Document::read_all(&stream);
    assert_eq!(documents.len(), 3);
    assert!(documents[0].is_ok() && documents[1].is_err() && documents[2].is_ok(), "{documents:?}");
}

#[test]
fn aliases_cannot_make_much_out_of_little() {
    let mut text = LISTENER.replace("spec:", "  labels:\n    a0: &a0 [x,x,x,x,x,x,x,x,x]\nspec:");
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(",");
        text = text.replace("spec:", &format!("    a{level}: &a{level} [{aliases}]\nspec:"));
    }
    let documents = Document::read_all(&text);
    let [Err(error)] = documents.as_slice() else { panic!("{documents:?}") };
    assert!(error.to_string().contains("too large or too complex"), "{error}");
}

#[test]
fn windows_line_ends_a_byte_order_mark_directives_and_tabs_in_json_are_no_mistake() {
    read_one(&LISTENER.replace('\n', "\r\n"));
    read_one(&format!("\u{feff}{LISTENER}"));
    read_one(&format!("%YAML 1.2\n---\n{LISTENER}...\n"));
    read_one(
        "{\n\t\"apiVersion\": \"skupper.io/v2alpha1\",\n\t\"kind\": \"Site\",\n\t\"metadata\": {\"name\": \"x\"}\n}\n",
    );
}

#[test]
fn null_and_empty_text_are_the_same_as_nothing() {
    let text = LISTENER.replace("port: 8080", "port: 8080\n  tlsCredentials: \"\"\n  type:\n  settings: null\nstatus:");
    assert_eq!(read_one(&text), read_one(LISTENER));
    let text = "apiVersion: skupper.io/v2alpha1\nkind: Site\nmetadata: {name: x, creationTimestamp: null}\nspec:\n";
    assert_eq!(read_one(text), Document::Site(Site::new("x", SiteSpec::default())));
}

#[test]
fn what_a_cluster_adds_to_metadata_is_dropped() {
    let text = LISTENER.replace("spec:", "  resourceVersion: \"7\"\n  managedFields: [{a: b}]\n  generation: 3\nspec:");
    let Document::Listener(listener) = read_one(&text) else { panic!() };
    assert_eq!(listener.metadata.generation, Some(3));
}

#[test]
fn string_data_of_a_secret_wins_and_wrapped_base64_is_read() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata:\n  a: |\n    aGVs\n    bG8=\n  b: eA==\nstringData: {b: y}\n";
    let Document::Secret(secret) = read_one(text) else { panic!() };
    assert_eq!((secret.text("a"), secret.text("b")), (Some("hello"), Some("y")));
}

#[test]
fn secrets_are_not_shown() {
    let spec = AccessGrantSpec { code: "topsecret".into(), ..AccessGrantSpec::default() };
    let mut secret = Secret::new("x", Secret::TLS);
    secret.set("tls.key", "topsecret");
    for shown in [format!("{:?}", AccessGrant::new("x", spec)), format!("{secret:?}")] {
        assert!(!shown.contains("topsecret") && !shown.contains("116, 111, 112"), "{shown}");
    }
    for field in
        ["data: {password: topsecret!}", "data: {password: [topsecret]}", "data: topsecret", "stringData: topsecret"]
    {
        let documents = Document::read_all(&format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: x}}\n{field}\n"));
        let [Err(error)] = documents.as_slice() else { panic!("{field}") };
        assert!(!format!("{error} {error:?}").contains("topsecret"), "{error:?}");
    }
}

#[test]
fn numbers_that_are_left_out_or_senseless_have_defaults() {
    let link = |cost| LinkSpec { cost, ..LinkSpec::default() }.routing_cost();
    assert_eq!([link(0), link(-3), link(1), link(9999)], [1, 1, 1, 9999]);
    let grant = AccessGrantSpec::default();
    assert_eq!((grant.allowed(), grant.window().unwrap().as_secs()), (1, 900));
    let access = read_one(
        "apiVersion: skupper.io/v2alpha1\nkind: RouterAccess\nmetadata: {name: x}\nspec: {roles: [{name: inter-router}, {name: edge}, {name: edge, port: 7}]}",
    );
    let Document::RouterAccess(access) = access else { panic!() };
    let ports: Vec<_> = access.spec.roles.iter().map(|role| role.listening_port().unwrap()).collect();
    assert_eq!(ports, [55671, 45671, 7]);
}

/// Texts that YAML likes to take for something else, and any others.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec![
            "yes",
            "no",
            "n",
            "null",
            "~",
            "0x10",
            "010",
            "1e3",
            ".nan",
            "1_000",
            "2026-01-01",
            "12:30:45",
            "- a",
            "a: b",
            "#x",
            "x #y",
            "'",
            "\"",
            "\\",
            "|",
            ">",
            "&a",
            "*a",
            "!t",
            "%x",
            "@x",
            "---",
            "...",
            "a\n---\nb",
            "a\n...\nb",
            " lead",
            "trail ",
            "a\n",
            "\na",
            "a\n\n",
            "a\r\nb",
            "\t",
            "-----BEGIN X-----\nabc\n-----END X-----\n",
            "\u{85}",
            "\u{2028}",
            "\u{feff}",
        ])
        .prop_map(str::to_owned),
        "\\PC{1,200}",
        any::<String>(),
    ]
}

/// A field that may be left out; an empty text would be.
fn maybe() -> impl Strategy<Value = Option<String>> {
    proptest::option::of(text().prop_filter("empty", |text| !text.is_empty()))
}

fn any_document() -> impl Strategy<Value = Document> {
    let site = (maybe(), any::<bool>(), any::<bool>(), btree_map(text(), text(), 0..4)).prop_map(
        |(link_access, ha, edge, settings)| {
            Site::new("x", SiteSpec { link_access, ha, edge, settings, ..SiteSpec::default() }).into()
        },
    );
    let endpoint =
        (text(), text(), text(), maybe()).prop_map(|(name, host, port, group)| Endpoint { name, host, port, group });
    let link = (vec(endpoint, 0..3), any::<i32>(), maybe()).prop_map(|(endpoints, cost, tls_credentials)| {
        Link::new("x", LinkSpec { endpoints, cost, tls_credentials, ..LinkSpec::default() }).into()
    });
    let connector = (text(), maybe(), maybe(), any::<u16>()).prop_map(|(routing_key, host, selector, port)| {
        Connector::new("x", ConnectorSpec { routing_key, host, selector, port, ..ConnectorSpec::default() }).into()
    });
    let secret = btree_map(text(), vec(any::<u8>(), 0..300), 0..4).prop_map(|data| {
        let mut secret = Secret::new("x", "Opaque");
        data.into_iter().for_each(|(key, value)| secret.set(key, value));
        secret.into()
    });
    let grant = (text(), maybe()).prop_map(|(code, expiration_window)| {
        let mut grant: AccessGrant =
            Resource::new("x", AccessGrantSpec { expiration_window, ..AccessGrantSpec::default() });
        grant.spec.code = code.into();
        grant.into()
    });
    let document = prop_oneof![site, link, connector, secret, grant];
    (document, text(), btree_map(text(), text(), 0..3)).prop_map(|(mut document, name, labels): (Document, _, _)| {
        document.metadata_mut().name = name;
        document.metadata_mut().labels = labels;
        document
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(document in any_document()) {
        survives(&document);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[-a-z:{}\\[\\]&*!|>'\"%#\n \t.0-9]{0,200}", head in any::<bool>()) {
        let text = if head { format!("{LISTENER}{text}") } else { text };
        let _ = Document::read_all(&text);
    }
}
