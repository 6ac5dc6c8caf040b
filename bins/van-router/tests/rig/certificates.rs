//! An authority, and a certificate for each router, as files.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use van_tls::{Authority, AuthorityRequest, Credentials, KeyKind, LeafRequest, Usage, directory};

/// No test runs longer.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// The name of the TLS profile of every router.
pub(crate) const PROFILE: &str = "links";

/// An authority that writes what it issues into folders.
#[derive(Debug)]
pub(crate) struct Certificates {
    authority: Authority,
    folder: PathBuf,
}

impl Certificates {
    pub(crate) fn new(folder: &Path) -> Self {
        let now = SystemTime::now();
        let request = AuthorityRequest { common_name: "rig".into(), key: KeyKind::EcdsaP256, now, valid_for: LIFE };
        let authority = Authority::create(&request).expect("an authority can be made");
        Self { authority, folder: folder.to_owned() }
    }

    /// Issues a router's certificate, which names the addresses too.
    pub(crate) fn credentials(&self, router: &str, addresses: &[IpAddr]) -> Credentials {
        let leaf = LeafRequest {
            common_name: router.into(),
            hosts: addresses.iter().map(IpAddr::to_string).chain([router.to_owned()]).collect(),
            usage: Usage::Both,
            key: KeyKind::EcdsaP256,
            now: SystemTime::now(),
            valid_for: LIFE,
        };
        self.authority.issue(&leaf).expect("a certificate can be issued")
    }

    /// The TLS profile of a router whose certificate names the addresses too.
    pub(crate) fn profile(&self, router: &str, addresses: &[IpAddr]) -> Value {
        let folder = self.folder.join(router);
        directory::write(&folder, &self.credentials(router, addresses)).expect("certificates can be written");
        json!(["sslProfile", {
            "name": PROFILE,
            "caCertFile": folder.join(directory::CA_FILE),
            "certFile": folder.join(directory::CERTIFICATE_FILE),
            "privateKeyFile": folder.join(directory::KEY_FILE),
        }])
    }
}
