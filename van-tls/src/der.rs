//! The two things about DER that rcgen does not do for us.

use x509_parser::asn1_rs::{Any, BitString, FromDer, Sequence, ToDer};

/// Where the issuer stands in a `TBSCertificate` of version 3 (RFC 5280 §4.1):
/// version, serial number, signature algorithm, issuer, …
const ISSUER: usize = 3;

/// Replaces the issuer's name of a certificate and signs the outcome.
///
/// `None` if `certificate` is not one, or `sign` gives none.
pub(crate) fn reissue(
    certificate: &[u8],
    issuer: &[u8],
    sign: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let [to_be_signed, algorithm, _] = elements(certificate)?.try_into().ok()?;
    let mut fields = elements(to_be_signed)?;
    *fields.get_mut(ISSUER)? = issuer;
    let to_be_signed = sequence(&fields)?;
    let signature = BitString::new(0, &sign(&to_be_signed)?).to_der_vec().ok()?;
    sequence(&[&to_be_signed, algorithm, &signature])
}

/// The key in its older form, PKCS #1 or SEC 1, which PKCS #8 wraps (RFC 5208 §5): version, algorithm, key.
pub(crate) fn inner_of_pkcs8(pkcs8: &[u8]) -> Option<&[u8]> {
    let (_, key) = Any::from_der(elements(pkcs8)?.get(2)?).ok()?;
    Some(key.data)
}

/// The elements of a `SEQUENCE`, each with its tag and length.
fn elements(der: &[u8]) -> Option<Vec<&[u8]>> {
    let (_, sequence) = Any::from_der(der).ok()?;
    let mut rest = sequence.data;
    let mut elements = Vec::new();
    while !rest.is_empty() {
        let (after, _) = Any::from_der(rest).ok()?;
        elements.push(&rest[..rest.len() - after.len()]);
        rest = after;
    }
    Some(elements)
}

fn sequence(elements: &[&[u8]]) -> Option<Vec<u8>> {
    Sequence::new(elements.concat().into()).to_der_vec().ok()
}
