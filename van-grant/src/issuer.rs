//! Who makes the credentials. This crate knows no CA.

use crate::bundle::Bundle;

/// A redemption that was accepted and counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The id of the grant.
    pub id: String,
    /// The namespace of the grant.
    pub namespace: String,
    /// The name of the grant.
    pub grant: String,
    /// The name for the Secret and the Link.
    pub name: String,
    /// The common name for the certificate. The redeemer chose it, so never authorise by it.
    pub subject: String,
    /// The host by which the redeemer called, without port: the address of this site that works for it.
    pub host: Option<String>,
}

/// Makes what a redeemer gets. A closure can be one.
pub trait Issuer: Send + Sync {
    /// Makes credentials and Links. It may take its time and block: the server calls it on a thread for that.
    ///
    /// # Errors
    /// [`IssueError`], whose text goes to the redeemer; the use is given back then.
    fn issue(&self, accepted: &Accepted) -> Result<Bundle, IssueError>;
}

impl<F: Fn(&Accepted) -> Result<Bundle, IssueError> + Send + Sync> Issuer for F {
    fn issue(&self, accepted: &Accepted) -> Result<Bundle, IssueError> {
        self(accepted)
    }
}

/// Why no credentials could be made. These are the texts of the wire (status 500).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The namespace has no site (yet); the operator's move.
    #[error("Site not yet defined for {namespace}")]
    NoSite {
        /// The namespace of the grant.
        namespace: String,
    },
    /// There is no CA to issue the certificate; the operator's move.
    #[error("Could not get issuer for requested certificate")]
    NoAuthority,
    /// The site is not reachable through anything that a Link could name; the operator's move.
    #[error("No valid endpoints found for site")]
    NoEndpoints,
    /// Nobody can link to an edge site; the operator's move.
    #[error("Edge sites cannot accept incoming links from remote sites")]
    EdgeSite,
    /// The certificate could not be made, for a reason that the redeemer may know.
    #[error("{0}")]
    Certificate(String),
}
