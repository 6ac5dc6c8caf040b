//! The folder of a namespace: where its documents, certificates and results are.
//!
//! Its layout is that of Skupper's local systems. `input` belongs to the user, `runtime` is derived from it, `internal` is
//! nobody's business. Every file is replaced whole or not at all.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folder in which the namespaces of a user are.
///
/// `variable` looks up the environment. `XDG_DATA_HOME` wins for every user; without it root has `/var/lib/skupper`, others
/// `~/.local/share/skupper`. Nothing, if there is no `HOME` either.
pub fn base(variable: impl Fn(&str) -> Option<OsString>, is_root: bool) -> Option<PathBuf> {
    let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = match path("XDG_DATA_HOME") {
        Some(data) => data,
        None if is_root => PathBuf::from("/var/lib"),
        None => path("HOME")?.join(".local/share"),
    };
    Some(data.join("skupper"))
}

/// The folder of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    name: String,
    root: PathBuf,
}

impl Namespace {
    /// A namespace below the [`base`] of a user.
    pub fn below(base: &Path, name: &str) -> Self {
        Self::at(base.join("namespaces").join(name), name)
    }

    /// A namespace whose folder is elsewhere.
    pub fn at(root: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        Self { name: name.into(), root: root.into() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The user's documents.
    pub fn input_resources(&self) -> PathBuf {
        self.root.join("input/resources")
    }

    /// The user's certificates, a folder each; they win over those made here.
    pub fn input_certs(&self) -> PathBuf {
        self.root.join("input/certs")
    }

    /// The user's CAs, a folder each.
    pub fn input_issuers(&self) -> PathBuf {
        self.root.join("input/issuers")
    }

    /// Documents with their status.
    pub fn runtime_resources(&self) -> PathBuf {
        self.root.join("runtime/resources")
    }

    /// Certificates in use, a folder each.
    pub fn runtime_certs(&self) -> PathBuf {
        self.root.join("runtime/certs")
    }

    /// CAs in use, a folder each; never overwritten.
    pub fn runtime_issuers(&self) -> PathBuf {
        self.root.join("runtime/issuers")
    }

    /// Links for other sites to use as they are.
    pub fn runtime_links(&self) -> PathBuf {
        self.root.join("runtime/links")
    }

    /// Passwords of proxies, a folder each.
    pub fn runtime_proxies(&self) -> PathBuf {
        self.root.join("runtime/proxies")
    }

    /// The configuration of the router.
    pub fn router_config(&self) -> PathBuf {
        self.root.join("runtime/router/skrouterd.json")
    }

    /// What is nobody's business: what must be remembered, locks, scripts.
    pub fn internal(&self) -> PathBuf {
        self.root.join("internal")
    }
}
