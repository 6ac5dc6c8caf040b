//! The vocabulary of a redemption over HTTP: what is asked, how it is refused.
//!
//! | item | value |
//! |---|---|
//! | request | `POST /<id of the grant>`, all slashes removed; the body is the code and nothing else |
//! | header `name` | of the Secret and the Link to make; the grant's name if absent |
//! | header `subject` | common name of the certificate to make; `name` if absent |
//! | success | `200`, a [`Bundle`](crate::Bundle) |
//! | refusal | as [`Refusal`] says, plain text and a newline |
//!
//! Source: skupper 2.0 and later.

use std::net::IpAddr;

use crate::code::MAX_CODE_BYTES;
use crate::grants::LedgerError;
use crate::issuer::IssueError;

/// The content type of all answers.
#[cfg(feature = "server")]
pub(crate) const CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// The header that names the Secret and the Link.
#[cfg(any(feature = "client", feature = "server"))]
pub(crate) const NAME: &str = "name";

/// The header that becomes the common name.
#[cfg(any(feature = "client", feature = "server"))]
pub(crate) const SUBJECT: &str = "subject";

/// The longest header `name`, `subject` or `host`: as long as the longest name in Kubernetes and in DNS.
pub const MAX_NAME_BYTES: usize = 253;

pub(crate) const UNKNOWN: &str = "No such claim";
pub(crate) const USED_UP: &str = "No such access granted";
pub(crate) const WRONG_CODE: &str = "Redemption of access token refused";

/// A redemption as it came over HTTP.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The method, which has to be `POST`.
    pub method: &'a str,
    /// The path of the URL: the grant's id, or `/<namespace>/<name>`.
    pub path: &'a str,
    /// The authority by which the redeemer called, a port may follow.
    pub host: Option<&'a str>,
    /// The header `name`.
    pub name: Option<&'a str>,
    /// The header `subject`.
    pub subject: Option<&'a str>,
    /// The body: the code. What is longer than [`MAX_CODE_BYTES`] need not be read to its end.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// Whether it is one that can be looked up.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if self.method != "POST" {
            return Err(Refusal::NotPost);
        }
        // Names end up in certificates, documents and logs.
        let is_fit = |name: &str| name.len() <= MAX_NAME_BYTES && !name.contains(char::is_control);
        let are_fit = [self.host(), self.name, self.subject].into_iter().flatten().all(is_fit);
        if self.body.len() > MAX_CODE_BYTES || !are_fit {
            return Err(Refusal::NotReadable);
        }
        Ok(())
    }

    /// The host by which the redeemer called, without port and brackets.
    pub(crate) fn host(&self) -> Option<&'a str> {
        self.host.map(without_port)
    }
}

/// The code in it is a secret.
impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { method, path, host, name, subject, .. } = self;
        f.debug_struct("Request")
            .field("method", method)
            .field("path", path)
            .field("host", host)
            .field("name", name)
            .field("subject", subject)
            .finish_non_exhaustive()
    }
}

/// Why a redeemer gets nothing, in the order in which it is found out.
///
/// Its text is for the one who runs the server; the redeemer gets [`status`](Self::status) and [`body`](Self::body), in
/// which unknown and expired grants are alike.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Another method than `POST`; the redeemer's move.
    #[error("the method is not POST")]
    NotPost,
    /// The body did not arrive, or it or a header is longer than any good one; the redeemer's move.
    #[error("the request cannot be read, or is too long")]
    NotReadable,
    /// No grant has this key, or it does not answer calls to this host.
    #[error("no such grant at this host")]
    Unknown,
    /// The end of the grant cannot be read in what was stored; the operator's move.
    #[error("the stored expiration of grant {grant} cannot be read; make a new grant")]
    Corrupted {
        /// `<namespace>/<name>` of the grant.
        grant: String,
    },
    /// The grant has ended.
    #[error("grant {grant} has expired")]
    Expired {
        /// `<namespace>/<name>` of the grant.
        grant: String,
    },
    /// The grant was redeemed as often as it may be.
    #[error("grant {grant} was redeemed as often as it allows")]
    UsedUp {
        /// `<namespace>/<name>` of the grant.
        grant: String,
    },
    /// The code is another one.
    #[error("wrong code for grant {grant}")]
    WrongCode {
        /// `<namespace>/<name>` of the grant.
        grant: String,
    },
    /// Wrong codes have come too fast, so that codes are not looked at for a moment. The redeemer cannot tell this from
    /// [`WrongCode`](Self::WrongCode).
    #[error("too many wrong codes for grant {grant}; all codes are refused for a second")]
    TooManyGuesses {
        /// `<namespace>/<name>` of the grant.
        grant: String,
    },
    /// The use could not be counted durably; the operator's move.
    #[error("the use of the grant could not be stored; nothing was issued")]
    NotStored(#[source] LedgerError),
    /// The credentials could not be made; the use was given back. The operator's move.
    #[error("no credentials could be made; the use of the grant was given back")]
    NotIssued(#[source] IssueError),
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::NotPost => 405,
            Self::NotReadable => 400,
            Self::Unknown | Self::Expired { .. } | Self::UsedUp { .. } => 404,
            Self::WrongCode { .. } | Self::TooManyGuesses { .. } => 403,
            Self::Corrupted { .. } | Self::NotIssued(_) => 500,
            Self::NotStored(_) => 503,
        }
    }

    /// The body, with its newline.
    pub fn body(&self) -> String {
        let text = match self {
            Self::NotPost => "Only POST is supported",
            Self::NotReadable => "Request body not valid",
            Self::Unknown | Self::Expired { .. } => UNKNOWN,
            Self::Corrupted { .. } => "Corrupted claim",
            Self::UsedUp { .. } => USED_UP,
            Self::WrongCode { .. } | Self::TooManyGuesses { .. } => WRONG_CODE,
            Self::NotStored(_) => "Internal error",
            Self::NotIssued(error) => return format!("{error}\n"),
        };
        format!("{text}\n")
    }
}

/// The host of an authority: `[::1]:9090` gives `::1`.
pub(crate) fn without_port(authority: &str) -> &str {
    if let Some((host, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host;
    }
    match authority.rsplit_once(':') {
        // More than one colon without brackets: an IPv6 address.
        Some((host, _)) if !host.contains(':') => host,
        _ => authority,
    }
}

/// Whether two hosts are the same name, or the same address however it is written.
pub(crate) fn is_same_host(left: &str, right: &str) -> bool {
    match (left.parse::<IpAddr>(), right.parse::<IpAddr>()) {
        (Ok(left), Ok(right)) => left.to_canonical() == right.to_canonical(),
        _ => left.trim_end_matches('.').eq_ignore_ascii_case(right.trim_end_matches('.')),
    }
}
