//! The names and addresses by which others may reach this machine.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// All of them, the likeliest first: the address of the default route, those of other interfaces, the host name; those
/// of the loopback interface only if there is nothing else.
///
/// Whether any of them works from elsewhere, nobody here can know.
pub fn reachable() -> Vec<String> {
    let mut addresses = interface_addresses();
    addresses.retain(|address| !address.is_loopback());
    if let Some(preferred) = default_route() {
        addresses.retain(|address| *address != preferred);
        addresses.insert(0, preferred);
    }
    if addresses.is_empty() {
        return loopback();
    }
    addresses.iter().map(IpAddr::to_string).chain(host_name()).collect()
}

/// The names of this machine for itself.
pub fn loopback() -> Vec<String> {
    vec![Ipv4Addr::LOCALHOST.to_string(), "localhost".to_owned()]
}

/// Addresses of interfaces that are of use outside their own link.
fn interface_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let addresses = interfaces.iter().map(if_addrs::Interface::ip);
    let mut addresses: Vec<_> = addresses.filter(|address| !is_link_local(*address)).collect();
    // IPv4 first: it is what a peer is likeliest to have, too.
    addresses.sort_by_key(|address| (address.is_ipv6(), *address));
    addresses.dedup();
    addresses
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The address from which this machine would speak to the world. Nothing is sent: connecting a datagram socket only
/// looks up the route. (192.0.2.1 is nobody's: RFC 5737.)
fn default_route() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_ascii_lowercase();
    (!name.is_empty() && name != "localhost").then_some(name)
}
