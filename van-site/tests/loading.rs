//! A folder of documents: what is loaded, what is told about the rest.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use van_site::document::DocumentMap;
use van_site::load::{Documents, MAX_FILE_OCTETS};
use van_site::resource::{Connector, Kind, Link, Listener, Site};

/// A document with a name and, if any, the fields of its spec.
fn document(kind: &str, name: &str, spec: &str) -> String {
    format!("---\napiVersion: skupper.io/v2alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

fn listener(name: &str, host: &str, port: u16) -> String {
    document("Listener", name, &format!("routingKey: {name}, host: {host}, port: {port}"))
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("writable");
        fs::write(file, text).expect("writable");
    }
    folder
}

/// What is told of a folder, paths shortened.
fn told(folder: &Path) -> Vec<String> {
    let documents = Documents::load(folder, "west", &DocumentMap::new());
    let prefix = format!("{}/", folder.display());
    documents.problems().iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
}

/// Loads one file that has one thing wrong.
fn check(text: &str, expected: &str) {
    let folder = folder(&[("x.yaml", text)]);
    assert_eq!(told(folder.path()), [format!("x.yaml:{expected}")], "{text}");
}

#[test]
fn documents_come_from_all_files_and_sub_folders() {
    let folder = folder(&[
        ("site.yml", &document("Site", "west", "")),
        ("many.yaml", &(listener("a", "0.0.0.0", 1) + &listener("b", "0.0.0.0", 2))),
        (
            "sub/deep/c.json",
            r#"{"apiVersion": "skupper.io/v2alpha1", "kind": "Listener", "metadata": {"name": "c", "namespace": "west"}, "spec": {"routingKey": "c", "host": "::1", "port": 3}}"#,
        ),
        (".hidden.yaml", "nonsense"),
        ("readme.txt", "nonsense"),
        ("comment.yaml", "# nothing yet\n---\n"),
    ]);
    let documents = Documents::load(folder.path(), "west", &DocumentMap::new());
    assert!(documents.problems().is_empty(), "{:?}", documents.problems());
    assert_eq!(documents.sound::<Site>().count(), 1);
    let names: Vec<_> = documents.sound::<Listener>().map(|listener| listener.metadata.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let b = documents.entry(Kind::Listener, "b").unwrap();
    assert_eq!((b.file.as_path(), b.line), (folder.path().join("many.yaml").as_path(), 6));
}

#[test]
fn a_folder_that_is_absent_holds_nothing() {
    let documents = Documents::load(Path::new("/nonexistent"), "west", &DocumentMap::new());
    assert_eq!((documents.entries().count(), documents.problems().len()), (0, 0));
}

#[test]
fn broken_files_leave_the_others_alone() {
    let folder = folder(&[("1.yaml", "apiVersion: skupp"), ("2.yaml", &listener("b", "0.0.0.0", 2)), ("3.yaml", "{")]);
    fs::write(folder.path().join("4.yaml"), b"\xff\xfe").unwrap();
    fs::File::create(folder.path().join("5.yaml")).unwrap().set_len(MAX_FILE_OCTETS + 1).unwrap();
    fs::write(folder.path().join("6.yaml"), "\n").unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("7.yaml")).unwrap();
    std::os::unix::fs::symlink(".", folder.path().join("loop")).unwrap();
    let documents = Documents::load(folder.path(), "west", &DocumentMap::new());
    assert_eq!(documents.sound::<Listener>().count(), 1);
    let prefix = format!("{}/", folder.path().display());
    let told: Vec<_> = documents.problems().iter().map(|problem| problem.to_string().replace(&prefix, "")).collect();
    assert_eq!(
        told,
        [
            "1.yaml:1: missing field `kind`",
            "3.yaml:1: unclosed bracket '{'",
            "4.yaml: is not UTF-8 text; save it as such",
            "5.yaml: is larger than 16 MiB; divide it",
            "6.yaml: is empty; write its documents again, or remove it",
        ]
    );
}

#[test]
fn the_first_of_two_documents_counts_and_both_are_named() {
    let folder = folder(&[("b.yaml", &listener("x", "0.0.0.0", 2)), ("a.yaml", &listener("x", "0.0.0.0", 1))]);
    let documents = Documents::load(folder.path(), "west", &DocumentMap::new());
    assert_eq!(documents.sound::<Listener>().next().unwrap().spec.port, 1);
    let first = folder.path().join("a.yaml");
    assert_eq!(
        told(folder.path()),
        [format!(
            "b.yaml:1: Listener x: is also in {}, line 1, and that one counts; remove one of them",
            first.display()
        )
        .replace(&format!("{}/", folder.path().display()), "")]
    );
}

#[test]
fn one_site_is_active() {
    let folder = folder(&[("a.yaml", &document("Site", "west", "")), ("b.yaml", &document("Site", "other", ""))]);
    let documents = Documents::load(folder.path(), "west", &DocumentMap::new());
    let names: Vec<_> = documents.sound::<Site>().map(|site| site.metadata.name.as_str()).collect();
    assert_eq!(names, ["west"]);
    let other = documents.entry(Kind::Site, "other").unwrap();
    assert_eq!(other.configured(), Err("An active site already exists in the namespace (west)".to_owned()));
    assert_eq!(told(folder.path()), ["b.yaml:1: Site other: An active site already exists in the namespace (west)"]);
}

#[test]
fn what_is_in_effect_stays_so_where_documents_contradict_each_other() {
    let access = |name: &str| document("RouterAccess", name, "roles: [{name: edge, port: 7}]");
    let twins = |name: &str, key: &str| document("Site", name, "") + &listener(key, "::1", 1) + &access(key);
    let folder = folder(&[("b.yaml", &twins("west", "b"))]);
    let load = |in_effect: &DocumentMap| Documents::load(folder.path(), "west", in_effect);
    let in_effect = load(&DocumentMap::new()).entries().map(|it| (it.document.key(), it.document.clone())).collect();
    fs::write(folder.path().join("a.yaml"), twins("other", "a")).expect("writable");
    let counts = |documents: &Documents| {
        let sound = documents.entries().filter(|entry| entry.fault.is_none());
        sound.map(|entry| entry.document.key().name).collect::<Vec<_>>()
    };
    assert_eq!(counts(&load(&DocumentMap::new())), ["other", "a", "a"]);
    assert_eq!(counts(&load(&in_effect)), ["west", "b", "b"]);
    // Not where it asks for something else now.
    fs::write(folder.path().join("a.yaml"), listener("a", "::1", 2)).expect("writable");
    fs::write(folder.path().join("b.yaml"), listener("b", "::1", 2)).expect("writable");
    assert_eq!(counts(&load(&in_effect)), ["a"]);
}

#[test]
fn listeners_do_not_share_a_host_and_port() {
    let text = listener("b", "0.0.0.0", 80) + &listener("a", "0.0.0.0", 80) + &listener("c", "127.0.0.1", 80);
    check(&text, "6: Listener a: Listener b with host 0.0.0.0 and port 80 already exists in namespace");
}

#[test]
fn router_accesses_do_not_share_an_address_and_port() {
    let roles = "roles: [{name: inter-router}, {name: edge}]";
    let text = document("RouterAccess", "a", roles)
        + &document("RouterAccess", "b", roles)
        + &document("RouterAccess", "c", &format!("bindHost: 10.0.0.1, {roles}"));
    check(&text, "6: RouterAccess b: RouterAccess a has 0.0.0.0 and port 55671 already");
    check(
        &document("RouterAccess", "a", "roles: [{name: edge, port: 1}, {name: inter-router, port: 1}]"),
        "1: RouterAccess a: RouterAccess a has 0.0.0.0 and port 1 already",
    );
}

#[test]
fn a_link_needs_its_secrets() {
    let endpoints = "endpoints: [{name: inter-router, host: west.example.com, port: \"55671\"}]";
    let secret = |name: &str| format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\n");
    let link = document("Link", "l", &format!("{endpoints}, tlsCredentials: s, settings: {{proxy-configuration: p}}"));
    check(&(link.clone() + &secret("p")), "1: Link l: TLS credentials secret \"s\" not found");
    check(&(link.clone() + &secret("s")), "1: Link l: Secret not found for proxy configuration");
    let folder = folder(&[("x.yaml", &(link + &secret("s") + &secret("p")))]);
    assert_eq!(Documents::load(folder.path(), "west", &DocumentMap::new()).sound::<Link>().count(), 1);
}

#[test]
fn every_document_is_checked_alone() {
    check(&document("Site", "x", "edge: true, ha: true"), "1: Site x: Edge sites cannot have HA enabled");
    check(&document("Link", "x", ""), "1: Link x: spec.endpoints is missing");
    check(
        &document("Link", "x", "endpoints: [{name: edge, host: a, port: \"0\"}]"),
        "1: Link x: spec.endpoints.port: \"0\" is not a port: use a number from 1 to 65535",
    );
    check(&document("Listener", "x", "host: a, port: 1"), "1: Listener x: spec.routingKey is missing");
    check(&document("Listener", "x", "routingKey: a, port: 1"), "1: Listener x: spec.host is missing");
    check(&document("Listener", "x", "routingKey: a, host: a"), "1: Listener x: spec.port is missing");
    check(
        &document("Listener", "x", "routingKey: a, host: \"a b\", port: 1"),
        "1: Listener x: spec.host: \"a b\" is neither a host name nor an IP address",
    );
    check(
        &document("Listener", "x", "routingKey: a, host: a, port: 1, type: udp"),
        "1: Listener x: spec.type \"udp\" is not supported, only tcp",
    );
    check(
        &document("Connector", "x", "routingKey: a, port: 1"),
        "1: Connector x: Connector must define a non-empty spec.host or spec.selector",
    );
    check(
        &document("Connector", "x", "routingKey: a, port: 1, host: a, selector: a=b"),
        "1: Connector x: spec.host and spec.selector exclude each other",
    );
    check(&document("RouterAccess", "x", ""), "1: RouterAccess x: spec.roles is missing");
    check(
        &document("RouterAccess", "x", "roles: [{name: normal}]"),
        "1: RouterAccess x: role \"normal\" is not supported, only inter-router and edge",
    );
    check(
        &document("AccessGrant", "x", "expirationWindow: soon"),
        "1: AccessGrant x: Invalid duration \"soon\": write numbers with units, such as 15m or 1h30m",
    );
    check(
        &document("AccessGrant", "x", "settings: {ingress-hosts: \"a.example.com b.example.com\"}"),
        "1: AccessGrant x: spec.settings.ingress-hosts: \"a.example.com b.example.com\" is neither a host name nor an IP address",
    );
    check(
        &document("Site", "x", "settings: {link-hosts: \"a, b c\"}"),
        "1: Site x: spec.settings.link-hosts: \"b c\" is neither a host name nor an IP address",
    );
    check(
        &document("RouterAccess", "x", "roles: [{name: edge}], subjectAlternativeNames: [\"a b\"]"),
        "1: RouterAccess x: spec.subjectAlternativeNames: \"a b\" is neither a host name nor an IP address",
    );
    check(
        &document("Certificate", "x", "ca: a, subject: x, hosts: [\"a b\"]"),
        "1: Certificate x: spec.hosts: \"a b\" is neither a host name nor an IP address",
    );
    check(
        &document("AccessToken", "x", "url: \"http://x\", code: c, ca: c"),
        "1: AccessToken x: spec.url \"http://x\" does not start with https://",
    );
    check(&document("AccessToken", "x", "url: \"https://x\", ca: c"), "1: AccessToken x: spec.code is missing");
    check(&document("Certificate", "x", "ca: a"), "1: Certificate x: spec.subject is missing");
    check(
        &document("Site", "Big_Site", ""),
        "1: Site Big_Site: metadata.name: \"Big_Site\" is not a valid name: use lower-case letters, digits, '-' and '.', \
         at most 220, letter or digit at both ends of each part",
    );
}

#[test]
fn a_document_of_another_namespace_is_in_error() {
    check(
        "apiVersion: skupper.io/v2alpha1\nkind: Site\nmetadata: {name: x, namespace: east}\n",
        "1: Site x: it belongs to namespace \"east\", not to \"west\": move it to that namespace, or leave metadata.namespace out",
    );
}

#[test]
fn a_selector_with_commas_and_underscores_is_sound() {
    let text = document("Connector", "x", "routingKey: a, port: 1, selector: \"app=my_app,tier=api\"");
    let folder = folder(&[("x.yaml", &text)]);
    assert_eq!(Documents::load(folder.path(), "west", &DocumentMap::new()).sound::<Connector>().count(), 1);
}

#[test]
fn kinds_without_effect_are_warnings() {
    let folder = folder(&[("x.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n")]);
    let documents = Documents::load(folder.path(), "west", &DocumentMap::new());
    assert!(documents.problems()[0].is_warning());
    assert_eq!(
        told(folder.path()),
        ["x.yaml:1: Deployment (apps/v1) has no effect here: van does not support this kind"]
    );
}

#[test]
fn a_document_that_cannot_be_read_is_named() {
    check(
        &listener("x", "0.0.0.0", 80).replace("port: 80", "port: high"),
        "5: Listener x: spec.port: not a whole number from 0 to 65535",
    );
}

#[test]
fn a_listener_of_several_keys_has_one_strategy_and_each_key_once() {
    let several =
        |strategy: &str| document("MultiKeyListener", "m", &format!("host: h, port: 1, strategy: {{{strategy}}}"));
    let fault = |text: &str| {
        let folder = folder(&[("x.yaml", text)]);
        let documents = Documents::load(folder.path(), "west", &DocumentMap::new());
        let entry = documents.entry(Kind::MultiKeyListener, "m").expect("it is read");
        entry.fault.as_ref().map(ToString::to_string)
    };
    assert_eq!(fault(&several("weighted: {routingKeys: {a: 1, b: 0}}")), None);
    let one = "spec.strategy must be exactly one of priority and weighted";
    assert_eq!(fault(&several("")).as_deref(), Some(one));
    assert_eq!(fault(&several("priority: {routingKeys: [a]}, weighted: {routingKeys: {a: 1}}")).as_deref(), Some(one));
    let keys = "routingKeys must be 1 to 256, each once";
    assert_eq!(fault(&several("priority: {routingKeys: [a, b, a]}")).as_deref(), Some(keys));
    assert_eq!(fault(&several("priority: {}")).as_deref(), Some(keys));
    assert_eq!(fault(&several("priority: {routingKeys: ['']}")).as_deref(), Some("a routing key is missing"));
    let taken = listener("a", "h", 1) + &several("priority: {routingKeys: [a]}");
    assert_eq!(fault(&taken).as_deref(), Some("Listener a with host h and port 1 already exists in namespace"));
}
