//! What may be written where: the checks of names, hosts, ports and times.
//!
//! Rules and texts for people are those of the `skupper` command, except that selectors and hosts may hold whatever
//! Kubernetes and container engines allow, and that a port is one.

use std::net::IpAddr;
use std::time::Duration;

use van_routing::AddressKey;

use crate::duration;

/// How long the name of a document may be: with its kind, or with what is derived from it, it becomes the name of a file, which
/// has 255 octets at most.
pub const MAX_NAME: usize = 220;

/// How long a routing key may be, in octets: as an address it is one longer.
pub const MAX_ROUTING_KEY: usize = AddressKey::MAX_BYTES - 1;

/// What is wrong with a value that somebody wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// Not a lower-case DNS name.
    #[error(
        "{0:?} is not a valid name: use lower-case letters, digits, '-' and '.', at most {MAX_NAME}, letter or digit at both ends of each part"
    )]
    Name(String),
    /// Not a DNS label.
    #[error(
        "{0:?} is not a valid namespace: use lower-case letters, digits and '-', at most 63, letter or digit at both ends"
    )]
    Namespace(String),
    /// A routing key that routers cannot tell each other of.
    #[error("it has {0} octets: use at most {MAX_ROUTING_KEY}")]
    RoutingKey(usize),
    /// Neither a host name nor an address.
    #[error("{0:?} is neither a host name nor an IP address")]
    Host(String),
    /// Not a port.
    #[error("{0:?} is not a port: use a number from 1 to 65535")]
    Port(String),
    /// Not a cost.
    #[error("{0:?} is not a link cost: use a number of at least 1")]
    Cost(String),
    /// Not a selector.
    #[error("{0:?} is not a selector: use key=value, several separated by commas")]
    Selector(String),
    /// Not a duration.
    #[error(transparent)]
    Duration(#[from] duration::DurationError),
    /// A duration that is too short.
    #[error("{text:?} is too short: use at least {}", duration::format(*least))]
    TooShort {
        /// What was written.
        text: String,
        /// The least that makes sense.
        least: Duration,
    },
}

/// The name of a document: a lower-case DNS name.
///
/// # Errors
/// [`InputError::Name`]
pub fn resource_name(text: &str) -> Result<(), InputError> {
    let is_name = text.len() <= MAX_NAME && text.split('.').all(is_label);
    is_name.then_some(()).ok_or_else(|| InputError::Name(text.to_owned()))
}

/// A routing key: any text that is not too long.
///
/// # Errors
/// [`InputError::RoutingKey`]
pub fn routing_key(text: &str) -> Result<(), InputError> {
    if text.len() > MAX_ROUTING_KEY { Err(InputError::RoutingKey(text.len())) } else { Ok(()) }
}

/// The name of a namespace: a DNS label.
///
/// # Errors
/// [`InputError::Namespace`]
pub fn namespace(text: &str) -> Result<(), InputError> {
    let is_namespace = text.len() <= 63 && is_label(text);
    is_namespace.then_some(()).ok_or_else(|| InputError::Namespace(text.to_owned()))
}

/// A host: an address, or a name with the underscores of containers.
///
/// # Errors
/// [`InputError::Host`]
pub fn host(text: &str) -> Result<(), InputError> {
    let is_part = |part: &str| {
        let octets = part.as_bytes();
        let is_edge = |octet: Option<&u8>| octet.is_some_and(|octet| octet.is_ascii_alphanumeric() || *octet == b'_');
        is_edge(octets.first())
            && is_edge(octets.last())
            && octets.iter().all(|octet| is_edge(Some(octet)) || *octet == b'-')
    };
    let is_host = text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && text.split('.').all(is_part));
    is_host.then_some(()).ok_or_else(|| InputError::Host(text.to_owned()))
}

/// A port.
///
/// # Errors
/// [`InputError::Port`]
pub fn port(text: &str) -> Result<u16, InputError> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| InputError::Port(text.to_owned()))
}

/// The cost of a link.
///
/// # Errors
/// [`InputError::Cost`]
pub fn cost(text: &str) -> Result<u32, InputError> {
    let cost = text.parse::<i32>().ok().and_then(|cost| u32::try_from(cost).ok());
    cost.filter(|cost| *cost > 0).ok_or_else(|| InputError::Cost(text.to_owned()))
}

/// A label selector, as pairs.
///
/// # Errors
/// [`InputError::Selector`]
pub fn selector(text: &str) -> Result<Vec<(String, String)>, InputError> {
    let is_key = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let is_value = |value: &str| value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let pair = |part: &str| {
        let (key, value) = part.trim().split_once('=')?;
        (is_key(key) && is_value(value)).then(|| (key.to_owned(), value.to_owned()))
    };
    text.split(',').map(pair).collect::<Option<_>>().ok_or_else(|| InputError::Selector(text.to_owned()))
}

/// How long to wait for something: at least ten seconds.
///
/// # Errors
/// [`InputError::Duration`] and [`InputError::TooShort`]
pub fn timeout(text: &str) -> Result<Duration, InputError> {
    at_least(Duration::from_secs(10), text)
}

/// How long a grant lasts: at least a minute.
///
/// # Errors
/// [`InputError::Duration`] and [`InputError::TooShort`]
pub fn expiration_window(text: &str) -> Result<Duration, InputError> {
    at_least(Duration::from_secs(60), text)
}

/// A duration that is not too short.
///
/// # Errors
/// [`InputError::Duration`] and [`InputError::TooShort`]
pub fn at_least(least: Duration, text: &str) -> Result<Duration, InputError> {
    let duration = duration::parse(text)?;
    if duration < least {
        return Err(InputError::TooShort { text: text.to_owned(), least });
    }
    Ok(duration)
}

fn is_label(text: &str) -> bool {
    let is_edge = |octet: Option<&u8>| octet.is_some_and(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit());
    let octets = text.as_bytes();
    is_edge(octets.first())
        && is_edge(octets.last())
        && octets.iter().all(|octet| is_edge(Some(octet)) || *octet == b'-')
}
