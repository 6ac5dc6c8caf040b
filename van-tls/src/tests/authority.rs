use std::net::IpAddr;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use super::*;

/// Fails unless a connector that trusts `ca` believes `credentials` of a host `west`.
fn check_chain(credentials: &Credentials) {
    let near = connector(credentials).connect("west", now()).unwrap();
    let (near, far) = shake(near, acceptor(credentials).accept(now()).unwrap());
    near.unwrap();
    far.unwrap();
}

fn pem(label: &str, der: &[u8]) -> String {
    pem_rfc7468::encode_string(label, pem_rfc7468::LineEnding::LF, der).unwrap()
}

#[test]
fn authority_signs_itself_and_may_sign_others() {
    let ca = new_ca("west site CA", KeyKind::EcdsaP256);
    let facts = ca.certificate();
    assert!(facts.is_ca);
    assert_eq!(facts.subject, "CN=west site CA");
    assert_eq!(facts.issuer, facts.subject);
    assert_eq!(ca.credentials().trust.certificates(), std::slice::from_ref(facts));
}

#[test]
fn addresses_are_written_as_skupper_writes_them() {
    let issued = ca().issue(&leaf("west", &["127.0.0.1", "west.example.com", "::1"])).unwrap();
    let facts = issued.identity.certificate();
    assert_eq!(facts.common_name.as_deref(), Some("west"));
    assert_eq!(facts.dns_names, ["127.0.0.1", "west.example.com", "::1"]);
    assert_eq!(facts.ip_addresses, ["127.0.0.1", "::1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    assert!(!facts.is_ca);
    assert_eq!(issued.trust.pem(), ca().credentials().identity.chain_pem());
}

#[test]
fn rsa_keys_are_pkcs1_and_can_be_taken_over_again() {
    let made = new_ca("rsa", KeyKind::Rsa2048);
    let identity = &made.credentials().identity;
    assert!(identity.key_pem().starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    let taken = Authority::from_pem(identity.chain_pem(), identity.key_pem()).unwrap();
    assert_eq!(taken.credentials().identity.key_pem(), identity.key_pem());
    let issued = taken.issue(&LeafRequest { key: KeyKind::Rsa2048, ..leaf("west", &["west"]) }).unwrap();
    assert!(issued.identity.key_pem().starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    check_chain(&issued);
}

#[test]
fn ec_keys_are_read_in_pkcs8_and_sec1_form() {
    let ca = ca().credentials();
    let pkcs8 = PrivateKeyDer::from_pem_slice(ca.identity.key_pem().as_bytes()).unwrap();
    let sec1 = der::inner_of_pkcs8(pkcs8.secret_der()).unwrap();
    let taken = Authority::from_pem(ca.identity.chain_pem(), &pem("EC PRIVATE KEY", sec1)).unwrap();
    check_chain(&taken.issue(&leaf("west", &["west"])).unwrap());
}

#[test]
fn issuer_with_repeated_attributes_is_copied_to_the_octet() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // rcgen takes these for two kinds of attribute, and writes the same for both.
    params.distinguished_name.push(DnType::OrganizationalUnitName, "edge");
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 11]), "network");
    let certificate = pem("CERTIFICATE", params.self_signed(&key).unwrap().der());

    let ca = Authority::from_pem(&certificate, &pem("PRIVATE KEY", key.serialized_der())).unwrap();
    assert_eq!(ca.certificate().subject.matches("OU=").count(), 2);
    let issued = ca.issue(&leaf("west", &["west"])).unwrap();
    assert_eq!(issued.identity.certificate().issuer, ca.certificate().subject);
    check_chain(&issued);
}

#[test]
fn serial_numbers_differ() {
    let [first, second] = [west(), west()].map(|west| west.identity.certificate().serial.clone());
    assert_ne!(first, second);
}

#[test]
fn life_starts_a_little_early_and_ends_with_the_ca() {
    let issued = ca().issue(&LeafRequest { valid_for: 365 * DAY, ..leaf("west", &[]) }).unwrap();
    let facts = issued.identity.certificate();
    assert_eq!(facts.not_before, now() - Duration::from_secs(300));
    assert_eq!(facts.not_after, ca().certificate().not_after);
}

#[test]
fn endless_life_ends_where_time_does() {
    let request = AuthorityRequest {
        common_name: "eternal".to_owned(),
        key: KeyKind::EcdsaP256,
        now: now(),
        valid_for: Duration::MAX,
    };
    let ca = Authority::create(&request).unwrap();
    assert!(ca.certificate().remaining(now()) > 7900 * 365 * DAY);
    check_chain(&ca.issue(&leaf("west", &["west"])).unwrap());
}

#[test]
fn expired_ca_issues_nothing() {
    let late = LeafRequest { now: now() + 31 * DAY, ..leaf("west", &[]) };
    let error = ca().issue(&late).unwrap_err();
    assert!(matches!(error, IssueError::Authority(UnfitError::Expired { .. })), "{error:?}");
}

#[test]
fn hosts_that_no_certificate_can_name_are_refused() {
    for host in ["", "two words", "tab\t", "bücher.example"] {
        let error = ca().issue(&leaf("west", &["fine", host])).unwrap_err();
        assert!(matches!(&error, IssueError::Host { host: named } if named == host), "{error}");
    }
}

#[test]
fn leaf_is_no_ca() {
    let west = west().identity;
    let error = Authority::from_pem(west.chain_pem(), west.key_pem()).unwrap_err();
    assert_eq!(error.to_string(), "CN=west is not a CA; basic constraints and key usage must allow it to sign");
}

#[test]
fn certificate_is_renewed_with_a_third_of_its_life_left() {
    let west = west();
    let facts = west.identity.certificate();
    let life = facts.not_after.duration_since(facts.not_before).unwrap();
    assert_eq!(facts.remaining(facts.renew_at()), life / 3);
    assert_eq!(facts.remaining(facts.not_after + DAY), Duration::ZERO);
}

#[test]
fn credentials_are_checked_against_the_clock() {
    let west = west();
    west.check(now()).unwrap();
    let late = west.check(now() + 4 * DAY).unwrap_err();
    assert_eq!(late.to_string(), "our certificate CN=west expired at 2027-01-18T08:00:00Z; issue a new one");
    let early = west.check(now() - DAY).unwrap_err();
    assert_eq!(
        early.to_string(),
        "our certificate CN=west is valid from 2027-01-15T07:55:00Z only; compare the clocks here and at its CA"
    );
    let ca_late = west.trust.check(now() + 31 * DAY).unwrap_err();
    assert!(matches!(ca_late, UnfitError::NoCurrentCa { .. }));
}

#[test]
fn credentials_say_what_is_wrong_with_them() {
    let (west, other) = (west(), west().identity);
    let (chain, key, ca) = (west.identity.chain_pem(), west.identity.key_pem(), west.trust.pem());
    let check = |chain: &str, key: &str, ca: &str, expected: &str| {
        let error = Credentials::from_pem(chain, key, ca).unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
    };
    check("", key, ca, "NoCertificate");
    check(key, key, ca, "NoCertificate");
    check(chain, "", ca, "NoKey");
    check(chain, chain, ca, "NoKey");
    check(chain, key, "", "NoCa");
    check(chain, other.key_pem(), ca, "KeyMismatch");
    check(&chain.replace("MII", "MIX"), key, ca, "Certificate(NotX509");
    check(&chain.replace("-----END", ""), key, ca, "Certificate(NotPem");
    check(chain, &key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), ca, "EncryptedKey");
    check(chain, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", ca, "UnknownKey");
}

/// The libraries' own words were tags and lists of octets.
#[test]
fn damage_is_told_in_words() {
    use std::error::Error;

    let west = west().identity;
    let check = |chain: String, expected: &str| {
        let error = Identity::from_pem(&chain, west.key_pem()).unwrap_err();
        let cause = error.source().unwrap().source().unwrap();
        assert_eq!(cause.to_string(), expected);
    };
    let chain = west.chain_pem();
    check(chain.replace("MII", "AAA"), "its encoding is damaged or cut off");
    check(chain.replace("MII", "MI!"), "the base64 of a PEM block is damaged");
    check(chain.replace("-----END", ""), "the END line of a PEM block is absent or damaged");
    check(chain.replace("CERTIFICATE-----", "CERTIFICATE"), "the BEGIN line of a PEM block is damaged");
}

#[test]
fn several_cas_are_trusted_together() {
    let old = new_ca("old", KeyKind::EcdsaP256);
    let both = old.credentials().trust.pem().to_owned() + ca().credentials().trust.pem();
    let trust = Trust::from_pem(&both).unwrap();
    assert_eq!(trust.certificates().len(), 2);
    check_chain(&Credentials { trust, ..west() });
}
