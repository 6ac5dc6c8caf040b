//! Where a command is about: the platform, and the namespace there.

use std::io;
use std::path::PathBuf;

use anyhow::Context;
use van_site::folder::{self, Namespace};
use van_site::names;

use crate::failure::{Failure, Problems};

/// Platforms of the grammar that later versions serve.
const LATER: [&str; 3] = ["kubernetes", "podman", "docker"];

/// The flags that all commands have.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// The namespace, which holds one site [default: default]
    #[arg(short, long, global = true, value_name = "NS", help_heading = "Place")]
    namespace: Option<String>,

    /// Where the site runs; only linux in this version [env: SKUPPER_PLATFORM] [default: linux]
    #[arg(short, long, global = true, value_name = "PLATFORM", help_heading = "Place")]
    platform: Option<String>,
}

impl Place {
    /// The namespace that a command is about.
    ///
    /// # Errors
    /// [`Failure::Input`] if there can be no such namespace, or none here.
    pub(crate) fn namespace(&self) -> Result<Namespace, Failure> {
        let mut problems = Problems::default();
        let namespace = self.checked_namespace(&mut problems);
        problems.finish().map(|()| namespace)
    }

    /// The namespace that a command is about, for commands with more to check.
    pub(crate) fn checked_namespace(&self, problems: &mut Problems) -> Namespace {
        self.check_platform(problems);
        let name = self.namespace.as_deref().unwrap_or("default");
        problems.check("--namespace", names::namespace(name));
        let base = problems.check("HOME", base().map_err(|error| error.to_string()));
        Namespace::below(&base, name)
    }

    /// The namespace that was asked for, or else all that there are, by name.
    ///
    /// # Errors
    /// [`Failure::Input`] as [`Place::namespace`]; [`Failure::Run`] if the folder cannot be read.
    pub(crate) fn namespaces(&self) -> Result<Vec<Namespace>, Failure> {
        let namespace = self.namespace()?;
        if self.namespace.is_some() {
            return Ok(vec![namespace]);
        }
        let base = base()?;
        let folder = base.join("namespaces");
        let entries = match folder.read_dir() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("{} cannot be read", folder.display()))?,
        };
        let folders = entries.flatten().filter(|entry| entry.path().is_dir());
        let mut names: Vec<_> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names.iter().map(|name| Namespace::below(&base, name)).collect())
    }

    fn check_platform(&self, problems: &mut Problems) {
        // Of the variable, the original ignores what it does not know.
        let variable = std::env::var("SKUPPER_PLATFORM").ok().filter(|platform| LATER.contains(&platform.as_str()));
        match self.platform.as_ref().or(variable.as_ref()).map(String::as_str) {
            None | Some("linux") => {}
            Some(platform) if LATER.contains(&platform) => problems.note(format!(
                "platform {platform:?} is not in this version; choose linux with \"-p linux\" or SKUPPER_PLATFORM=linux"
            )),
            Some(platform) => problems.note(format!("platform {platform:?} not supported; choose linux")),
        }
    }
}

fn base() -> anyhow::Result<PathBuf> {
    let is_root = rustix::process::geteuid().is_root();
    folder::base(|name| std::env::var_os(name), is_root)
        .context("it is not set, so there is no place for namespaces; set it or XDG_DATA_HOME")
}
