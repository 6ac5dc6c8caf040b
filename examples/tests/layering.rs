//! The architecture's invariants that a machine can check: who may depend on whom, down to modules, and where `unsafe` is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each package may depend on within the workspace.
const ARROWS: &[(&str, &[&str])] = &[
    ("van-routing", &[]),
    ("van-tls", &[]),
    ("van-core", &["van-routing"]),
    ("van-grant", &["van-tls"]),
    ("van-adaptors", &["van-core", "van-routing", "van-tls"]),
    ("van-site", &["van-adaptors", "van-core", "van-grant", "van-routing", "van-tls"]),
    ("van-controller", &["van-site"]),
    ("van-router", &["van-adaptors", "van-core"]),
    ("van-cli", &["van-controller", "van-router", "van-site"]),
];

/// Packages without I/O, and what must be nowhere below them, features left out.
const PURE: &[&str] = &["van-core", "van-grant", "van-routing"];
const IMPURE: &[&str] = &["tokio", "mio", "hyper", "socket2", "rustls", "aws-lc-rs", "getrandom"];

/// One-time codes are random, and nothing that a seed could repeat.
const EXCEPT: &[(&str, &str)] = &[("van-grant", "getrandom")];

/// Packages that only one of ours may name.
const OWNED: &[(&str, &str)] =
    &[("rustls", "van-tls"), ("tokio-rustls", "van-tls"), ("rcgen", "van-tls"), ("x509-parser", "van-tls")];

/// Must not be in the tree at all.
const BANNED: &[&str] = &["ring", "openssl", "openssl-sys", "native-tls", "serde_yaml"];

/// Modules of van-core from the lowest to the highest; none names a higher one.
const MODULES: &[&str] = &[
    "slab",
    "random",
    "amqp",
    "annotations",
    "message",
    "encapsulation",
    "address",
    "observe",
    "flow",
    "plane",
    "router",
    "management",
    "sim",
];

/// Files that may hold `unsafe`, each with a reason there.
const UNSAFE_FILES: &[&str] = &["fuzz/src/memory.rs", "van-adaptors/src/machine/heap.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// What a package names itself, with any features.
const DIRECT: &[&str] = &["--all-features", "--depth", "1"];
/// What is below it, with any features.
const BELOW: &[&str] = &["--all-features"];
/// What is below it without features.
const BELOW_BARE: &[&str] = &["--no-default-features"];

/// The packages that one is built with. Tests and build scripts do not count.
fn dependencies(package: &str, which: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "tree",
        "--locked",
        "--offline",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "--package",
        package,
    ]);
    let output = cargo.args(which).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let names = text.lines().skip(1).filter_map(|line| line.split(' ').next());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let is_hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if entry.is_dir() && !is_hidden && !entry.ends_with("target") {
            files.extend(rust_files(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
    files
}

#[test]
fn crates_depend_downwards_only() {
    for (package, allowed) in ARROWS {
        let named = dependencies(package, DIRECT);
        let wrong: Vec<_> =
            ARROWS.iter().filter(|(name, _)| named.contains(*name) && !allowed.contains(name)).collect();
        assert!(wrong.is_empty(), "{package} depends on {wrong:?}");
    }
}

#[test]
fn pure_crates_have_no_io_below_them() {
    for package in PURE {
        let below = dependencies(package, BELOW_BARE);
        let impure: Vec<_> =
            IMPURE.iter().filter(|name| below.contains(**name) && !EXCEPT.contains(&(*package, **name))).collect();
        assert!(impure.is_empty(), "{package} has {impure:?} below it");
    }
}

#[test]
fn tls_and_certificates_are_named_in_one_crate() {
    for (package, _) in ARROWS {
        let named = dependencies(package, DIRECT);
        for (owned, owner) in OWNED {
            assert!(package == owner || !named.contains(*owned), "{package} names {owned}");
        }
    }
}

#[test]
fn banned_packages_are_nowhere() {
    for (package, _) in ARROWS {
        let below = dependencies(package, BELOW);
        let banned: Vec<_> = BANNED.iter().filter(|name| below.contains(**name)).collect();
        assert!(banned.is_empty(), "{package} has {banned:?} below it");
    }
}

#[test]
fn modules_of_the_core_name_lower_ones_only() {
    let source = root().join("van-core/src");
    for (rank, module) in MODULES.iter().enumerate() {
        let folder = source.join(module);
        let mut files = if folder.is_dir() { rust_files(&folder) } else { Vec::new() };
        files.push(source.join(format!("{module}.rs")));
        for file in files {
            let text = fs::read_to_string(&file).expect("a file");
            let product = text.split("#[cfg(test)]").next().unwrap_or_default();
            for higher in &MODULES[rank + 1..] {
                let names_it =
                    product.contains(&format!("crate::{higher}::")) || product.contains(&format!("crate::{higher};"));
                assert!(!names_it, "{} names {higher}", file.display());
            }
        }
    }
}

#[test]
fn unsafe_code_is_only_where_it_is_listed() {
    for file in rust_files(&root()) {
        let name = file.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).expect("a file");
        // Split, so that this file does not name what it looks for.
        let allows = text.contains(concat!("allow(unsafe", "_code"));
        assert!(!allows || UNSAFE_FILES.contains(&name.as_str()), "{name} allows unsafe code and is not listed");
    }
}
