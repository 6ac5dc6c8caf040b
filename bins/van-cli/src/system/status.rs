//! `van system status`: which sites run on this machine.

use serde::Serialize;
use van_site::folder::Namespace;
use van_site::resource::Site;
use van_site::resource::site::SiteSpec;

use crate::document_status::Listed;
use crate::documents::View;
use crate::output::{Output, print_table, say};

const TITLES: [&str; 5] = ["namespace", "site", "status", "pid", "message"];

/// A namespace and the process that serves it.
#[derive(Serialize)]
struct System {
    namespace: String,
    site: Option<String>,
    status: &'static str,
    pid: Option<u32>,
    message: String,
}

/// Shows namespaces, their sites and their processes.
pub(super) fn run(namespaces: &[Namespace], output: &Output) -> anyhow::Result<()> {
    let systems: Vec<_> =
        namespaces.iter().map(|it| System::of(it).unwrap_or_else(|e| System::unknown(it, &e))).collect();
    if output.is_for_programs() {
        return output.print(&systems);
    }
    if systems.is_empty() {
        return say("There are no namespaces; \"van site create NAME\" makes a site in a new one");
    }
    print_table(&TITLES, &systems.into_iter().map(System::row).collect::<Vec<_>>())
}

impl System {
    fn of(namespace: &Namespace) -> anyhow::Result<Self> {
        let controller = namespace.controller()?;
        let view = View::of(namespace)?;
        let active = view.input().sound::<Site>().next().and_then(|site| view.one::<SiteSpec>(&site.metadata.name));
        let site = active.or_else(|| view.all::<SiteSpec>().into_iter().next());
        let message = match &site {
            Some(site) => site.status.common.message.clone(),
            None => SiteSpec::NONE.to_owned(),
        };
        Ok(Self {
            namespace: namespace.name().to_owned(),
            site: site.map(|site| site.metadata.name),
            status: if controller.is_some() { "running" } else { "stopped" },
            pid: controller.and_then(|controller| controller.process),
            message,
        })
    }

    /// One of which nothing can be read.
    fn unknown(namespace: &Namespace, error: &anyhow::Error) -> Self {
        let (namespace, message) = (namespace.name().to_owned(), format!("{error:#}"));
        Self { namespace, site: None, status: "unknown", pid: None, message }
    }

    fn row(self) -> Vec<String> {
        let dash = || "-".to_owned();
        let pid = self.pid.map_or_else(dash, |pid| pid.to_string());
        vec![self.namespace, self.site.unwrap_or_else(dash), self.status.to_owned(), pid, self.message]
    }
}
