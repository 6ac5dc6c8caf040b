//! Grants, tokens and their redemption: how a one-time code becomes credentials for a link.
//!
//! ```text
//!  accepting site                                     site that wants a link
//!  Grant ──► AccessToken ── carried by a person ──►   AccessToken
//!                                                        │ POST <url>, code
//!  Grants ◄─────────────── HTTPS, trusting only its CA ──┘
//!    │ check, count, store the count, then ask the Issuer
//!    └──► Bundle: a Secret and Links ─────────────────►  a link
//! ```
//!
//! * A [`Grant`] says how often, until when and through which hosts a [`Code`] may be redeemed. A [`GrantStore`] checks
//!   redemptions in the order that Skupper checks them and answers with its texts ([`Refusal`]).
//! * [`Grants`] is a store that several tasks share. It counts a use, and has a [`Ledger`] keep the count, before an
//!   [`Issuer`] makes credentials, and gives the use back if it could not make them.
//! * An [`AccessToken`] and a [`Bundle`] are YAML documents that Skupper reads and writes, too.
//! * Feature `server`: `GrantServer` answers over HTTPS. Feature `client`: `redeem` asks.
//!
//! Without features there is no socket and no clock: `now` is an argument.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use van_grant::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let now = SystemTime::UNIX_EPOCH;
//! # let (certificate, key, ca) = ("", "", "");
//! let ledger = |_: &Grant| Ok(()); // Writes nothing down; yours does.
//! let issuer = |accepted: &Accepted| Ok(Bundle::new(&accepted.name, Secret::new(certificate, key, ca), vec![]));
//!
//! let code = Code::random()?;
//! let grants = Grants::new(GrantStore::default(), ledger);
//! grants.insert(Grant {
//!     id: "38272eeb-dbea-41c2-9bc7-6c8ba4ed6cf0".into(),
//!     namespace: "default".into(),
//!     name: "for-west".into(),
//!     code: code.clone(),
//!     redemptions_allowed: 1,
//!     redemptions: 0,
//!     expires_at: Some(now + Duration::from_secs(900)),
//!     hosts: vec![],
//! });
//! let path = "/38272eeb-dbea-41c2-9bc7-6c8ba4ed6cf0";
//! let request = Request { method: "POST", path, host: None, name: None, subject: None, body: code.expose().as_bytes() };
//! let bundle = grants.redeem(now, &request, &issuer)?;
//! assert!(bundle.to_yaml().starts_with("---\napiVersion: v1\n"));
//! let refusal = grants.redeem(now, &request, &issuer).unwrap_err();
//! assert_eq!((refusal.status(), refusal.body().as_str()), (404, "No such access granted\n"));
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod bundle;
#[cfg(feature = "client")]
mod client;
mod code;
mod grant;
mod grants;
mod issuer;
#[cfg(feature = "server")]
mod server;
mod store;
mod token;
mod wire;
mod yaml;

pub use bundle::{Bundle, BundleError, Endpoint, Link, Secret};
#[cfg(feature = "client")]
pub use client::{Failures, RedeemError, RedeemOptions, redeem};
pub use code::{CODE_LEN, Code, CodeError, MAX_CODE_BYTES};
pub use grant::Grant;
pub use grants::{Grants, Ledger, LedgerError};
pub use issuer::{Accepted, IssueError, Issuer};
#[cfg(feature = "server")]
pub use server::{GrantServer, StartError};
pub use store::GrantStore;
pub use token::{AccessToken, TokenError};
pub use wire::{MAX_NAME_BYTES, Refusal, Request};
pub use yaml::YamlError;
