//! A certificate authority alone: make it, let it issue, look at what it issued.
//!
//! `cargo run -p examples --example certificate_authority -- /tmp/certs west.example.com 10.0.0.7`

use std::error::Error;
use std::path::Path;
use std::time::{Duration, SystemTime};

use van_tls::{Authority, AuthorityRequest, KeyKind, LeafRequest, Usage, directory};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().unwrap_or_else(|| "certs".to_owned());
    let folder = Path::new(&folder);
    let now = SystemTime::now();

    // The CA of an earlier run goes on; RSA, so that a Skupper controller can take it over.
    let ca_folder = folder.join("ca");
    let ca = if ca_folder.exists() {
        Authority::from_credentials(directory::read(&ca_folder)?)?
    } else {
        let (common_name, key, valid_for) = ("example CA".to_owned(), KeyKind::Rsa2048, 5 * 365 * DAY);
        let ca = Authority::create(&AuthorityRequest { common_name, key, now, valid_for })?;
        directory::write(&ca_folder, ca.credentials())?;
        ca
    };

    let router = ca.issue(&LeafRequest {
        common_name: "router".to_owned(),
        hosts: args.collect(),
        usage: Usage::Both,
        key: KeyKind::EcdsaP256,
        now,
        valid_for: 90 * DAY,
    })?;
    directory::write(&folder.join("router"), &router)?;

    let facts = router.identity.certificate();
    println!("subject      {}", facts.subject);
    println!("issuer       {}", facts.issuer);
    println!("serial       {}", facts.serial);
    println!("hosts        {}", facts.dns_names.join(", "));
    println!("fingerprint  {}", facts.fingerprint);
    println!("days left    {}", facts.remaining(now).as_secs() / DAY.as_secs());
    let renew_in = facts.renew_at().duration_since(now)?;
    println!("renew in     {} days", renew_in.as_secs() / DAY.as_secs());
    Ok(())
}
