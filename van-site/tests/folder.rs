//! The folder of a namespace.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use van_site::document::{Document, Key};
use van_site::folder::{FolderError, Namespace, base};
use van_site::input::Input;
use van_site::resource::link::LinkSpec;
use van_site::resource::listener::ListenerSpec;
use van_site::resource::{Endpoint, Kind, Link, Listener, Secret};
use van_site::store::Store;

fn listener(name: &str, port: u16) -> Document {
    let spec =
        ListenerSpec { routing_key: name.to_owned(), host: "0.0.0.0".to_owned(), port, ..ListenerSpec::default() };
    Listener::new(name, spec).into()
}

fn namespace() -> (tempfile::TempDir, Namespace) {
    let folder = tempfile::tempdir().expect("a folder");
    let namespace = Namespace::below(folder.path(), "west");
    (folder, namespace)
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).expect("a file").permissions().mode() & 0o777
}

fn key(name: &str) -> Key {
    Key::new(Kind::Listener, name)
}

#[test]
fn the_base_is_the_users_or_the_systems() {
    let check = |variables: &[(&str, &str)], is_root, expected: Option<&str>| {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        assert_eq!(base(variable, is_root), expected.map(PathBuf::from));
    };
    check(&[("HOME", "/home/me")], false, Some("/home/me/.local/share/skupper"));
    check(&[("HOME", "/home/me"), ("XDG_DATA_HOME", "")], false, Some("/home/me/.local/share/skupper"));
    check(&[("HOME", "/home/me"), ("XDG_DATA_HOME", "/data")], false, Some("/data/skupper"));
    check(&[("HOME", "/root"), ("XDG_DATA_HOME", "/data")], true, Some("/data/skupper"));
    check(&[("HOME", "/root")], true, Some("/var/lib/skupper"));
    check(&[], false, None);
}

#[test]
fn a_document_gets_a_file_of_its_own() {
    let (base, namespace) = namespace();
    let file = namespace.put_input(&listener("backend", 80)).unwrap();
    assert_eq!(file, base.path().join("namespaces/west/input/resources/Listener-backend.yaml"));
    assert_eq!(mode(&file), 0o644);
    assert_eq!(mode(&namespace.put_input(&Secret::new("s", Secret::TLS).into()).unwrap()), 0o600);
    assert_eq!(namespace.load_input().entries().count(), 2);
    // Nothing else is left behind.
    assert_eq!(fs::read_dir(namespace.input_resources()).unwrap().count(), 2);
}

#[test]
fn a_document_is_replaced_where_it_stands() {
    let (_base, namespace) = namespace();
    fs::create_dir_all(namespace.input_resources()).unwrap();
    let file = namespace.input_resources().join("all.yaml");
    let one = "apiVersion: skupper.io/v2alpha1\nkind: Site\nmetadata: {name: west} # mine\n";
    let third = "---\n# kept\napiVersion: skupper.io/v2alpha1\nkind: Listener\nmetadata: {name: other}\n";
    // Even one that cannot be read.
    let second = "---\napiVersion: skupper.io/v2alpha1\nkind: Listener\nmetadata: {name: backend}\nspec: {prot: 1}\n";
    fs::write(&file, [one, second, third].concat()).unwrap();
    assert_eq!(namespace.put_input(&listener("backend", 8080)).unwrap(), file);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with(&format!("{one}---\napiVersion")) && text.ends_with(third), "{text}");
    assert!(text.contains("port: 8080") && !text.contains("prot"), "{text}");
    assert_eq!(fs::read_dir(namespace.input_resources()).unwrap().count(), 1);
}

#[test]
fn a_file_called_like_a_document_keeps_what_else_it_holds() {
    let (_base, namespace) = namespace();
    let file = namespace.put_input(&listener("backend", 80)).unwrap();
    let renamed = fs::read_to_string(&file).unwrap().replace("name: backend", "name: other");
    fs::write(&file, renamed).unwrap();
    assert_eq!(namespace.put_input(&listener("backend", 81)).unwrap(), file);
    let kept: Vec<_> = namespace.load_input().entries().map(|entry| entry.document.key().name).collect();
    assert_eq!(kept, ["backend", "other"]);
}

#[test]
fn a_file_that_is_not_understood_is_not_written_over() {
    let (_base, namespace) = namespace();
    let file = namespace.put_input(&listener("backend", 80)).unwrap();
    for text in
        ["# a note\n", "apiVersion: skupper.io/v9\nkind: Listenr\nmetadata: {name: backend}\n", "apiVersion: sk"]
    {
        fs::write(&file, text).unwrap();
        assert_eq!(namespace.put_input(&listener("backend", 81)).unwrap(), file);
        let now = fs::read_to_string(&file).unwrap();
        assert!(now.starts_with(text) && now.contains("port: 81"), "{now}");
        assert_eq!(namespace.load_input().entries().count(), 1, "{now}");
    }
    fs::write(&file, b"\xff").unwrap();
    let error = namespace.put_input(&listener("backend", 82)).unwrap_err();
    assert!(error.to_string().ends_with("Listener-backend.yaml cannot be read"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"\xff");
}

#[test]
fn a_file_in_the_middle_of_an_edit_takes_nothing_away() {
    let (_base, namespace) = namespace();
    let endpoint = Endpoint { name: "inter-router".into(), host: "10.0.0.7".into(), port: "55671".into(), group: None };
    let tls_credentials = Some("to-hub".to_owned());
    let settings = [("proxy-configuration".to_owned(), "way-out".to_owned())].into();
    let spec = LinkSpec { endpoints: vec![endpoint], tls_credentials, settings, ..LinkSpec::default() };
    namespace.put_input(&Link::new("to-hub", spec).into()).unwrap();
    let secrets = ["to-hub", "way-out"].map(|name| {
        let file = namespace.put_input(&Secret::new(name, Secret::TLS).into()).unwrap();
        (name, fs::read_to_string(&file).unwrap(), file)
    });
    let before = Input::read(&namespace, &Input::default());
    assert_eq!((before.documents.len(), before.is_complete), (3, true));
    for (name, whole, file) in secrets {
        for text in ["", "apiVersion: v1\nkind: Sec"] {
            fs::write(&file, text).unwrap();
            let now = Input::read(&namespace, &before);
            assert_eq!((&now.documents, now.is_complete), (&before.documents, false), "{name}: {text}");
            assert!(now.outdated[&Key::new(Kind::Secret, name)].ends_with("what it said before stays in effect"));
        }
        fs::write(&file, whole).unwrap();
    }
}

#[test]
fn what_is_wrong_with_a_secret_is_told_for_it_has_no_status() {
    let (_base, namespace) = namespace();
    let mut secret = Secret::new("to-hub", Secret::TLS);
    secret.metadata.namespace = Some("elsewhere".to_owned());
    namespace.put_input(&secret.into()).unwrap();
    let input = Input::read(&namespace, &Input::default());
    let told: Vec<_> = input.problems.iter().map(|problem| problem.message.as_str()).collect();
    assert!(matches!(told[..], [told] if told.contains("to-hub") && told.contains("\"elsewhere\"")), "{told:?}");
    assert!(input.is_complete, "it can be read");
}

#[test]
fn what_is_shown_of_certificates_is_what_is_wanted() {
    let (_base, namespace) = namespace();
    let certs = namespace.runtime_certs();
    for name in ["perf-profile", "gone-profile", "gone"] {
        fs::create_dir_all(certs.join(name)).unwrap();
    }
    Store::folder(namespace).put_router_config("[]", &["perf-profile"].into(), &[], &[]).unwrap();
    let kept: Vec<_> = fs::read_dir(certs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(kept, ["perf-profile"]);
}

#[test]
fn a_json_file_stays_json() {
    let (_base, namespace) = namespace();
    let file = namespace.put_input(&listener("backend", 80)).unwrap();
    let json = file.with_extension("json");
    fs::write(&json, van_site::yaml::to_json(&listener("backend", 80))).unwrap();
    fs::remove_file(file).unwrap();
    assert_eq!(namespace.put_input(&listener("backend", 81)).unwrap(), json);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&fs::read(json).unwrap()).unwrap()["spec"]["port"], 81);
}

#[test]
fn a_deleted_document_is_nowhere() {
    let (_base, namespace) = namespace();
    let own = namespace.put_input(&listener("backend", 80)).unwrap();
    let text = fs::read_to_string(&own).unwrap();
    let shared = namespace.input_resources().join("all.yaml");
    fs::write(&shared, format!("{text}---\n{}---\n{text}", text.replace("backend", "other"))).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(namespace.delete_input(&key("backend")).unwrap(), [own.clone(), shared.clone()]);
    assert!(!own.exists());
    assert_eq!(mode(&shared), 0o600);
    let left = namespace.load_input();
    assert_eq!(left.entries().map(|entry| entry.document.key()).collect::<Vec<_>>(), [key("other")]);
    assert!(left.problems().is_empty());
    assert_eq!(namespace.delete_input(&key("backend")).unwrap(), [] as [PathBuf; 0]);
}

#[test]
fn a_file_that_cannot_be_read_is_in_nobodys_way() {
    let (_base, namespace) = namespace();
    namespace.put_input(&listener("backend", 80)).unwrap();
    fs::write(namespace.input_resources().join("A.yaml"), b"\xff").unwrap();
    namespace.put_input(&listener("backend", 81)).unwrap();
    assert_eq!(namespace.delete_input(&key("backend")).unwrap().len(), 1);
}

#[test]
fn what_has_not_changed_is_not_written() {
    let (_base, namespace) = namespace();
    assert!(namespace.write_runtime(&listener("backend", 80)).unwrap());
    assert!(!namespace.write_runtime(&listener("backend", 80)).unwrap());
    assert!(namespace.write_runtime(&listener("backend", 81)).unwrap());
    let entry = namespace.read_runtime().entry(Kind::Listener, "backend").cloned().unwrap();
    assert_eq!(entry.document, listener("backend", 81));
    namespace.remove_runtime(&key("backend")).unwrap();
    namespace.remove_runtime(&key("backend")).unwrap();
    assert_eq!(namespace.read_runtime().entries().count(), 0);
}

#[test]
fn one_controller_runs_a_namespace() {
    let (_base, namespace) = namespace();
    assert_eq!(namespace.controller().unwrap(), None);
    let lock = namespace.lock_controller().unwrap();
    let process = Some(std::process::id());
    assert_eq!(namespace.controller().unwrap().unwrap().process, process);
    let refused = namespace.lock_controller().unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("another controller (process {}) runs namespace \"west\"; stop it first", std::process::id())
    );
    drop(lock);
    assert_eq!(namespace.controller().unwrap(), None);
    drop(namespace.lock_controller().unwrap());
}

#[test]
fn looking_at_the_lock_does_not_take_it() {
    let (_base, namespace) = namespace();
    drop(namespace.lock_controller().unwrap());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..500).for_each(|_| assert!(namespace.controller().is_ok())));
        }
        for _ in 0..200 {
            drop(namespace.lock_controller().unwrap());
        }
    });
}

#[test]
fn a_folder_that_cannot_be_written_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("namespaces"), "a file").unwrap();
    let namespace = Namespace::below(folder.path(), "west");
    let error = namespace.put_input(&listener("backend", 80)).unwrap_err();
    assert!(matches!(error, FolderError::Write { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("{} cannot be written", folder.path().join("namespaces/west/input/resources").display())
    );
}

#[test]
fn a_read_only_folder_is_told_with_what_to_do() {
    let (_base, namespace) = namespace();
    fs::create_dir_all(namespace.input_resources()).unwrap();
    fs::set_permissions(namespace.input_resources(), fs::Permissions::from_mode(0o555)).unwrap();
    let result = namespace.put_input(&listener("backend", 80));
    fs::set_permissions(namespace.input_resources(), fs::Permissions::from_mode(0o755)).unwrap();
    // Root may write everywhere.
    if let Err(error) = result {
        let file = namespace.input_resources().join("Listener-backend.yaml");
        assert_eq!(
            error.to_string(),
            format!(
                "{} cannot be written: check its owner and permissions, or choose another place with XDG_DATA_HOME",
                file.display()
            )
        );
    }
}

#[test]
fn a_name_does_not_lead_out_of_the_folder() {
    let (_base, namespace) = namespace();
    let document = listener("x/../../../escaped", 80);
    assert!(matches!(namespace.put_input(&document), Err(FolderError::Name(_))));
    assert!(matches!(namespace.write_runtime(&document), Err(FolderError::Name(_))));
}
