//! The connections to other routers, and which of them belong together.
//!
//! A link is one control connection and any number of data connections with the same correlator, which the dialling end
//! makes up. skupper-router refuses a second control connection with a correlator it knows; we let the newer one win, for
//! the older is the one that is dead without knowing it (docs/wire.md §1.8).

use std::collections::BTreeMap;

use van_routing::{Cost, LinkId, RouterId};

use super::open::{Announcement, Dialled};
use crate::amqp::Condition;
use crate::plane::{ConnectionId, ConnectionRef, NextHop, PeerKind, Purpose, ShardId};

/// A connection whose opens were exchanged and that asks to be used.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What the peer said.
    pub announcement: Announcement,
    /// Which end we are.
    pub origin: Origin,
    /// The cost configured at this end.
    pub cost: u32,
}

/// Which end of a connection this router is.
#[derive(Debug, Clone)]
pub enum Origin {
    /// We dialled, and said this.
    Dialled(Dialled),
    /// The peer dialled.
    Accepted,
}

/// What becomes of a [`Candidate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Its number from now on.
    pub id: ConnectionId,
    /// The shard to run it.
    pub shard: ShardId,
    /// What it is for.
    pub purpose: Purpose,
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) container: String,
    pub(super) shard: ShardId,
    pub(super) cost: Cost,
    purpose: Purpose,
    group: Option<Group>,
    is_dialled: bool,
    has_trunking: bool,
    /// Both control links are there.
    pub(super) is_up: bool,
    /// The faults of its messages that were told.
    told: Vec<String>,
}

/// Different faults of one peer's messages that are told.
const MAX_TOLD: usize = 32;

/// What connections of one link have in common. Without correlator there is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    container: String,
    correlator: String,
    ordinal: u64,
}

/// All connections of a router.
#[derive(Debug)]
pub(super) struct Peers {
    shards: u16,
    last: ConnectionId,
    peers: BTreeMap<ConnectionId, Peer>,
}

impl Peers {
    pub(super) fn new(shards: u16) -> Self {
        Self { shards, last: ConnectionId(0), peers: BTreeMap::new() }
    }

    /// The name of the peer with whose message something is wrong, unless that was told already or too much was.
    pub(super) fn tell(&mut self, id: ConnectionId, fault: &impl ToString) -> Option<String> {
        let peer = self.peers.get_mut(&id).filter(|peer| peer.told.len() < MAX_TOLD)?;
        let fault = fault.to_string();
        if peer.told.contains(&fault) {
            return None;
        }
        peer.told.push(fault);
        Some(peer.container.clone())
    }

    /// Takes a connection in. Also the control connection that it replaces, if there is one.
    ///
    /// # Errors
    /// The condition to close it with.
    pub(super) fn admit(
        &mut self,
        me: &str,
        candidate: Candidate,
    ) -> Result<(Admitted, Option<ConnectionId>), Condition> {
        let Candidate { announcement, origin, cost } = candidate;
        let is_client = announcement.purpose == Purpose::Links(PeerKind::Client);
        if let Err(error) = RouterId::new(&announcement.container)
            && !is_client
        {
            return Err(Condition::new("amqp:not-allowed", format!("the container id is no router id: {error}")));
        }
        if announcement.container == me && !is_client {
            return Err(Condition::new(
                "amqp:not-allowed",
                format!("the router at the other end has our own id, {me}"),
            ));
        }
        let is_dialled = matches!(origin, Origin::Dialled(_));
        let (purpose, correlator, ordinal) = match origin {
            Origin::Dialled(dialled) => (dialled.purpose, Some(dialled.correlator), dialled.ordinal.unwrap_or(0)),
            Origin::Accepted => (announcement.purpose, announcement.correlator, announcement.ordinal),
        };
        let group =
            correlator.map(|correlator| Group { container: announcement.container.clone(), correlator, ordinal });
        let is_rival = |peer: &Peer| {
            purpose == Purpose::Control && peer.purpose == purpose && group.is_some() && peer.group == group
        };
        let rival = self.peers.iter().find(|(_, peer)| is_rival(peer)).map(|(id, _)| *id);
        let shard = self.shard_for(purpose, group.as_ref());
        self.last.0 += 1;
        let cost = Cost::new(announcement.cost.max(cost)).unwrap_or(Cost::ONE);
        let (container, has_trunking) = (announcement.container, announcement.has_trunking);
        self.peers.insert(
            self.last,
            Peer { container, shard, cost, purpose, group, is_dialled, has_trunking, is_up: false, told: Vec::new() },
        );
        Ok((Admitted { id: self.last, shard, purpose }, rival))
    }

    /// The shard with the fewest connections of the same link and purpose, then with the fewest at all: the data
    /// connections of a link are spread over all shards.
    fn shard_for(&self, purpose: Purpose, group: Option<&Group>) -> ShardId {
        let load = |shard: &u16| {
            let here = || self.peers.values().filter(|peer| peer.shard.0 == *shard);
            (here().filter(|peer| peer.purpose == purpose && peer.group.as_ref() == group).count(), here().count())
        };
        ShardId((0..self.shards).min_by_key(load).unwrap_or(0))
    }

    /// Both control links of a connection are there. Its link and cost, if it is new and a control connection.
    pub(super) fn control_up(&mut self, id: ConnectionId) -> Option<(LinkId, Cost)> {
        let peer = self.peers.get_mut(&id).filter(|peer| !peer.is_up)?;
        peer.is_up = true;
        Some((link(id), peer.cost))
    }

    /// Forgets a connection; `None` if it is not known. The data connections that have lost their control connection and
    /// will not get it back: we dial the next under another correlator.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Vec<ConnectionRef>> {
        let lost = self.peers.remove(&id)?;
        let is_orphan = |peer: &Peer| lost.purpose == Purpose::Control && lost.is_dialled && peer.group == lost.group;
        let orphans = self.peers.iter().filter(|(_, peer)| is_orphan(peer));
        Some(orphans.map(|(id, peer)| ConnectionRef { id: *id, shard: peer.shard }).collect())
    }

    /// Where a connection runs.
    pub(super) fn place(&self, id: ConnectionId) -> Option<ConnectionRef> {
        self.peers.get(&id).map(|peer| ConnectionRef { id, shard: peer.shard })
    }

    /// The links that are up, each with its connections.
    pub(super) fn next_hops(&self) -> BTreeMap<LinkId, NextHop> {
        let is_link = |(_, peer): &(&ConnectionId, &Peer)| peer.purpose == Purpose::Control && peer.is_up;
        self.peers.iter().filter(is_link).map(|(id, control)| (link(*id), self.next_hop(*id, control))).collect()
    }

    fn next_hop(&self, id: ConnectionId, control: &Peer) -> NextHop {
        let is_data =
            |peer: &Peer| peer.purpose == Purpose::Data && peer.group.is_some() && peer.group == control.group;
        let data = self.peers.iter().filter(|(_, peer)| control.has_trunking && is_data(peer));
        let data = data.map(|(id, peer)| ConnectionRef { id: *id, shard: peer.shard }).collect();
        NextHop { control: ConnectionRef { id, shard: control.shard }, data }
    }
}

/// A link goes by the number of its control connection.
pub(super) fn link(id: ConnectionId) -> LinkId {
    LinkId(id.0)
}

/// The control connection of a link.
pub(super) fn control_connection(link: LinkId) -> ConnectionId {
    ConnectionId(link.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(container: &str, correlator: &str, purpose: Purpose) -> Candidate {
        let announcement = Announcement {
            container: container.into(),
            product: String::new(),
            cost: 1,
            purpose,
            correlator: Some(correlator.into()),
            ordinal: 0,
            access: None,
            has_trunking: true,
        };
        Candidate { announcement, origin: Origin::Accepted, cost: 1 }
    }

    fn admit(
        peers: &mut Peers,
        container: &str,
        correlator: &str,
        purpose: Purpose,
    ) -> (Admitted, Option<ConnectionId>) {
        peers.admit("me", candidate(container, correlator, purpose)).expect("admitted")
    }

    #[test]
    fn data_connections_of_a_link_are_spread_over_all_shards() {
        let mut peers = Peers::new(3);
        admit(&mut peers, "a", "x", Purpose::Control);
        let shards: Vec<_> = (0..6).map(|_| admit(&mut peers, "a", "x", Purpose::Data).0.shard.0).collect();
        for shard in 0..3 {
            assert_eq!(shards.iter().filter(|other| **other == shard).count(), 2, "{shards:?}");
        }
    }

    #[test]
    fn data_connections_belong_to_the_control_connection_with_their_correlator() {
        let mut peers = Peers::new(1);
        let early = admit(&mut peers, "a", "x", Purpose::Data).0.id;
        let control = admit(&mut peers, "a", "x", Purpose::Control).0.id;
        admit(&mut peers, "a", "y", Purpose::Data);
        admit(&mut peers, "b", "x", Purpose::Data);
        assert!(peers.next_hops().is_empty(), "not up yet");
        peers.control_up(control);
        let hops = peers.next_hops();
        let data: Vec<_> = hops[&link(control)].data.iter().map(|at| at.id).collect();
        assert_eq!(data, [early]);
    }

    #[test]
    fn the_newer_of_two_control_connections_of_a_link_wins() {
        let mut peers = Peers::new(1);
        let old = admit(&mut peers, "a", "x", Purpose::Control).0.id;
        assert_eq!(admit(&mut peers, "a", "x", Purpose::Control).1, Some(old));
        assert_eq!(admit(&mut peers, "a", "z", Purpose::Control).1, None);
    }

    #[test]
    fn a_router_with_our_own_id_is_refused() {
        let refused = Peers::new(1).admit("me", candidate("me", "x", Purpose::Control)).expect_err("refused");
        assert!(refused.to_string().contains("our own id"), "{refused}");
    }
}
