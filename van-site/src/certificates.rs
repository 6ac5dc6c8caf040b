//! The certificates of a site: made when they are missing, and anew when what they say is no longer wanted.
//!
//! What the user provides under a name is used as it is, and never written over. A certificate of ours is replaced when it
//! lacks a name or its CA changed, or two thirds of its life are over; it goes on naming what it named. CAs are never replaced: who trusts them would not be
//! told.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::identity;
use std::net::IpAddr;
use std::thread::{Builder, ScopedJoinHandle};
use std::time::SystemTime;

use van_tls::{Authority, AuthorityRequest, Credentials, KeyKind, LeafRequest, SKUPPER_LIFE, Usage, Validity};

use crate::resource::certificate::{CertificateSpec, SITE_CA};
use crate::store::{Shelf, Store, StoreError};

/// Hosts that a certificate goes on naming when it is made anew, though nobody asks for them any more.
const MOST_KEPT_HOSTS: usize = 32;

/// Why a certificate that is wanted is not there.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// What is kept cannot be read, or not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is a CA, and what is kept of it cannot be used.
    #[error("restore this CA from a backup, or remove its folder: then tokens and links made before are lost")]
    Damaged(#[source] StoreError),
    /// Its CA is not there either.
    #[error("CA \"{name}\" not found; ask for a Certificate of this name with `signing: true`")]
    NoIssuer {
        /// The CA.
        name: String,
    },
    /// Its CA cannot sign.
    #[error("CA \"{name}\" cannot sign")]
    Issuer {
        /// The CA.
        name: String,
        /// Why.
        source: van_tls::AuthorityError,
    },
    /// It cannot be made.
    #[error("cannot be made")]
    Issue(#[from] van_tls::IssueError),
}

/// Certificates by name, or why they are missing.
pub type Certificates = BTreeMap<String, Result<Credentials, CertificateError>>;

/// Sees to it that a site has the certificates it wants. CAs are made side by side if there are threads for it, the rest after
/// them.
pub fn ensure(wanted: &BTreeMap<String, CertificateSpec>, store: &Store, now: SystemTime) -> Certificates {
    let (authorities, leaves): (Vec<_>, Vec<_>) = wanted.iter().partition(|(_, spec)| spec.signing);
    let mut held: Certificates = std::thread::scope(|scope| {
        let making = authorities.into_iter().map(|(name, spec)| {
            let make = || ensure_authority(name, spec, store, now);
            (name.clone(), Builder::new().spawn_scoped(scope, make).map_err(|_| make()))
        });
        let making: Vec<_> = making.collect();
        let made = |made: Result<ScopedJoinHandle<'_, _>, _>| {
            made.map_or_else(identity, |thread| thread.join().expect("making a CA does not panic"))
        };
        making.into_iter().map(|(name, making)| (name, made(making))).collect()
    });
    for (name, spec) in leaves {
        let credentials = ensure_leaf(name, spec, &held, store, now);
        held.insert(name.clone(), credentials);
    }
    held
}

fn ensure_authority(
    name: &str,
    spec: &CertificateSpec,
    store: &Store,
    now: SystemTime,
) -> Result<Credentials, CertificateError> {
    if let Some(held) = store.credentials(Shelf::Issuers, name).map_err(CertificateError::Damaged)? {
        return Ok(held.credentials);
    }
    // Skupper's controller reads no other CA key, and this CA's Secret may come before it.
    let key = if name == SITE_CA { KeyKind::Rsa2048 } else { KeyKind::EcdsaP256 };
    let request = AuthorityRequest { common_name: spec.subject.clone(), key, now, valid_for: SKUPPER_LIFE };
    let made = Authority::create(&request)?.credentials().clone();
    store.put_credentials(Shelf::Issuers, name, &made)?;
    Ok(made)
}

fn ensure_leaf(
    name: &str,
    spec: &CertificateSpec,
    held: &Certificates,
    store: &Store,
    now: SystemTime,
) -> Result<Credentials, CertificateError> {
    let known = store.credentials(Shelf::Certificates, name)?;
    if let Some(known) = &known
        && known.is_provided
    {
        return Ok(known.credentials.clone());
    }
    let issuer = match (find_issuer(&spec.ca, held, store), &known) {
        (Ok(issuer), Some(known)) if is_current(&known.credentials, spec, &issuer, now) => {
            return Ok(known.credentials.clone());
        }
        (Ok(issuer), _) => issuer,
        (Err(error @ CertificateError::NoIssuer { .. }), _) => return Err(error),
        // What was issued by a CA that cannot be read now is as good as before.
        (Err(_), Some(known)) if known.credentials.check(now).is_ok() => return Ok(known.credentials.clone()),
        (Err(error), _) => return Err(error),
    };
    // Links were made for the hosts that it named, and dial them.
    let kept = known.iter().flat_map(|known| names(known.credentials.identity.certificate()));
    let mut spec = spec.clone();
    let wanted: BTreeSet<_> = spec.hosts.iter().map(|host| canonical(host)).collect();
    spec.hosts.extend(kept.filter(|host| !wanted.contains(host)).take(MOST_KEPT_HOSTS));
    let made = issue(&issuer, &spec, now)?;
    store.put_credentials(Shelf::Certificates, name, &made)?;
    Ok(made)
}

/// A CA: one that is wanted, or one that the user put there.
pub(crate) fn find_issuer(name: &str, held: &Certificates, store: &Store) -> Result<Credentials, CertificateError> {
    if let Some(Ok(issuer)) = held.get(name) {
        return Ok(issuer.clone());
    }
    let kept = store.credentials(Shelf::Issuers, name)?;
    kept.map(|held| held.credentials).ok_or_else(|| CertificateError::NoIssuer { name: name.to_owned() })
}

/// Makes a certificate as it is asked for.
///
/// # Errors
/// [`CertificateError::Issuer`], [`CertificateError::Issue`].
pub fn issue(issuer: &Credentials, spec: &CertificateSpec, now: SystemTime) -> Result<Credentials, CertificateError> {
    let authority = Authority::from_credentials(issuer.clone())
        .map_err(|source| CertificateError::Issuer { name: spec.ca.clone(), source })?;
    let usage = match (spec.client, spec.server) {
        (true, false) => Usage::Client,
        (false, true) => Usage::Server,
        _ => Usage::Both,
    };
    Ok(authority.issue(&LeafRequest {
        common_name: spec.subject.clone(),
        hosts: spec.hosts.clone(),
        usage,
        key: KeyKind::EcdsaP256,
        now,
        valid_for: SKUPPER_LIFE,
    })?)
}

/// Whether a certificate still says what is wanted, by the CA that is wanted, and will for a while.
fn is_current(held: &Credentials, spec: &CertificateSpec, issuer: &Credentials, now: SystemTime) -> bool {
    let certificate = held.identity.certificate();
    certificate.common_name.as_deref() == Some(&spec.subject)
        && names(certificate).is_superset(&spec.hosts.iter().map(|host| canonical(host)).collect())
        && held.trust.pem() == issuer.identity.chain_pem()
        && certificate.validity(now) == Validity::Current
        && now < certificate.renew_at()
}

/// The hosts a certificate names. Addresses stand in it twice.
fn names(certificate: &van_tls::Certificate) -> BTreeSet<String> {
    let addresses = certificate.ip_addresses.iter().map(IpAddr::to_string);
    certificate.dns_names.iter().map(|name| canonical(name)).chain(addresses).collect()
}

fn canonical(host: &str) -> String {
    host.parse::<IpAddr>().map_or_else(|_| host.to_ascii_lowercase(), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_missing_when_its_ca_is_unknown_whatever_was_issued_before() {
        let (store, now) = (Store::memory(), SystemTime::now());
        let authority = CertificateSpec { subject: "ours".into(), signing: true, ..CertificateSpec::default() };
        let by = |ca: &str| CertificateSpec { subject: "backend".into(), ca: ca.into(), ..CertificateSpec::default() };
        let ensure = |leaf| {
            let wanted = BTreeMap::from([("ours".to_owned(), authority.clone()), ("backend".to_owned(), leaf)]);
            ensure(&wanted, &store, now).remove("backend").expect("it is wanted")
        };
        assert!(ensure(by("ours")).is_ok());
        let error = ensure(by("theirs")).expect_err("nobody can renew it");
        assert!(matches!(&error, CertificateError::NoIssuer { name } if name == "theirs"), "{error}");
        assert!(ensure(by("ours")).is_ok());
    }

    #[test]
    fn a_certificate_goes_on_naming_the_hosts_that_links_were_made_for() {
        let (store, now) = (Store::memory(), SystemTime::now());
        let authority = CertificateSpec { subject: "ours".into(), signing: true, ..CertificateSpec::default() };
        let with = |hosts: &[&str]| {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            let access =
                CertificateSpec { subject: "a".into(), ca: "ours".into(), hosts, ..CertificateSpec::default() };
            let wanted = BTreeMap::from([("ours".to_owned(), authority.clone()), ("a".to_owned(), access)]);
            ensure(&wanted, &store, now).remove("a").expect("it is wanted").expect("it can be made").identity
        };
        let first = with(&["a.example", "10.0.0.1"]);
        assert_eq!(with(&["10.0.0.1"]).chain_pem(), first.chain_pem(), "a grant is gone");
        let second = with(&["10.0.0.1", "b.example"]);
        let hosts = ["10.0.0.1", "a.example", "b.example"].map(str::to_owned);
        assert_eq!(names(second.certificate()), BTreeSet::from(hosts));
    }
}
