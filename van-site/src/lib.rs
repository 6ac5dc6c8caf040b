//! A site of a VAN, inside any program: [`Site`] is the door.
//!
//! A site is declared, not scripted: its documents (`skupper.io/v2alpha1`) are the truth, everything else follows from
//! them. [`load`] reads them from the [`folder`] of a namespace and says what is wrong with each; a controller keeps the
//! site true to them; [`status`] says what became of them. What [`Site::connector`] and its like do is write documents,
//! too.
//!
//! ```
//! use van_site::document::Document;
//! use van_site::yaml;
//!
//! let stream = "
//! apiVersion: skupper.io/v2alpha1
//! kind: Listener
//! metadata: {name: backend}
//! spec: {routingKey: backend, host: 0.0.0.0, port: 8080}
//! ";
//! let documents = Document::read_all(stream);
//! let Ok(Document::Listener(listener)) = &documents[0] else { panic!("{documents:?}") };
//! assert_eq!(listener.spec.port, 8080);
//! assert!(yaml::write(listener).contains("routingKey: backend"));
//! ```

pub mod bench;
pub mod certificates;
pub mod check;
mod controller;
pub mod derive;
pub mod document;
pub mod duration;
pub mod folder;
pub mod grants;
pub mod hosts;
pub mod input;
pub mod load;
pub mod names;
pub mod network;
pub mod reconcile;
mod redemption;
pub mod render;
mod report;
pub mod resource;
pub mod router_config;
pub mod secret_text;
mod site;
pub mod status;
pub mod store;
pub mod table;
mod token_file;
mod watcher;
pub mod yaml;

pub use controller::Snapshot;
pub use document::{Document, Key};
pub use folder::Namespace;
pub use resource::{AccessToken, Kind};
pub use site::{Builder, Site, SiteError, TokenRequest, token};
pub use token_file::TokenFileError;
pub use van_adaptors::{AcceptError, DialError, Incoming, Stream, abort_on_panic, raise_descriptor_limit, with_causes};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
