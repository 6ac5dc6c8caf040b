//! The connections to other routers, and which of them belong together.
//!
//! A link is one control connection and any number of data connections with the same correlator, which the dialling end
//! makes up. skupper-router refuses a second control connection with a correlator it knows; we let the newer one win, for
//! the older is the one that is dead without knowing it (docs/wire.md §1.8).
//!
//! With new credentials, the dialling end brings up a whole new group of a higher ordinal beside the old one. Once its
//! control connection is up it stands for the link, and routing does not notice; what runs on the old one ends there.

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
    /// Set if the peer is a program that links may be attached to: the name of the entity that dialled or accepted.
    pub program_of: Option<String>,
}

impl Candidate {
    /// A connection to another router, or of a client.
    pub fn new(announcement: Announcement, origin: Origin, cost: u32) -> Self {
        Self { announcement, origin, cost, program_of: None }
    }
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
    /// The link that a control connection stands for, or will once it is up. Generations of a link share it.
    link: Option<LinkId>,
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

impl Group {
    /// Whether it is the same link's, of an earlier generation.
    fn precedes(&self, other: &Self) -> bool {
        self.is_akin(other) && self.ordinal < other.ordinal
    }

    fn is_akin(&self, other: &Self) -> bool {
        (&self.container, &self.correlator) == (&other.container, &other.correlator)
    }
}

/// What it means that a control connection is up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Risen {
    /// There is a link to a neighbour.
    Link(LinkId, Cost),
    /// It has taken over a link that is up from these connections of earlier generations.
    Generation(Vec<ConnectionRef>),
}

/// What went with a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// The link it stood for.
    pub(super) link: Option<LinkId>,
    /// Connections that have lost their control connection and will not get it back: we dial the next under another
    /// correlator.
    pub(super) orphans: Vec<ConnectionRef>,
}

/// All connections of a router.
#[derive(Debug)]
pub(super) struct Peers {
    shards: u16,
    last: ConnectionId,
    peers: BTreeMap<ConnectionId, Peer>,
    /// The control connection of each link that is up.
    links: BTreeMap<LinkId, ConnectionId>,
}

impl Peers {
    pub(super) fn new(shards: u16) -> Self {
        Self { shards, last: ConnectionId(0), peers: BTreeMap::new(), links: BTreeMap::new() }
    }

    /// How many there were so far.
    pub(super) fn admitted(&self) -> u64 {
        self.last.0
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
        let Candidate { announcement, origin, cost, .. } = candidate;
        let is_dialled = matches!(origin, Origin::Dialled(_));
        let (purpose, correlator, ordinal) = match origin {
            Origin::Dialled(dialled) => (dialled.purpose, Some(dialled.correlator), dialled.ordinal.unwrap_or(0)),
            Origin::Accepted => (announcement.purpose, announcement.correlator, announcement.ordinal),
        };
        let is_client = purpose == Purpose::Links(PeerKind::Client);
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
        let correlator = correlator.filter(|_| !matches!(purpose, Purpose::Links(_)));
        let group =
            correlator.map(|correlator| Group { container: announcement.container.clone(), correlator, ordinal });
        let is_rival = |peer: &Peer| {
            purpose == Purpose::Control && peer.purpose == purpose && group.is_some() && peer.group == group
        };
        let rival = self.peers.iter().find(|(_, peer)| is_rival(peer)).map(|(id, _)| *id);
        let shard = self.shard_for(purpose, group.as_ref());
        self.last.0 += 1;
        let link =
            (purpose == Purpose::Control).then(|| self.link_of_earlier(group.as_ref()).unwrap_or(LinkId(self.last.0)));
        let cost = Cost::new(announcement.cost.max(cost)).unwrap_or(Cost::ONE);
        let (container, has_trunking) = (announcement.container, announcement.has_trunking);
        let (is_up, told) = (false, Vec::new());
        let peer = Peer { container, shard, cost, purpose, group, link, is_dialled, has_trunking, is_up, told };
        self.peers.insert(self.last, peer);
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

    /// The link of a group's earlier generations, if there are any.
    fn link_of_earlier(&self, group: Option<&Group>) -> Option<LinkId> {
        let earlier = self.peers.values().filter(|peer| peer.precedes(group));
        earlier.filter_map(|peer| peer.link).max_by_key(|link| self.links.contains_key(link))
    }

    /// Both control links of a connection are there; `None` if that was known, or it comes too late.
    pub(super) fn control_up(&mut self, id: ConnectionId) -> Option<Risen> {
        let peer = self.peers.get_mut(&id).filter(|peer| !peer.is_up)?;
        peer.is_up = true;
        let (link, cost) = (peer.link?, peer.cost);
        if self.is_superseded(id) && self.links.contains_key(&link) {
            return None;
        }
        if self.links.insert(link, id).is_none() {
            return Some(Risen::Link(link, cost));
        }
        let group = self.peers.get(&id)?.group.as_ref();
        Some(Risen::Generation(self.refs(|peer| peer.precedes(group))))
    }

    /// Whether a later generation has taken a connection's link over, or is about to.
    pub(super) fn is_superseded(&self, id: ConnectionId) -> bool {
        let Some(peer) = self.peers.get(&id) else { return false };
        self.peers.values().any(|later| later.link.is_some() && peer.precedes(later.group.as_ref()))
    }

    /// Forgets a connection; `None` if it is not known.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Lost> {
        let lost = self.peers.remove(&id)?;
        let link = lost.link.filter(|link| self.links.get(link) == Some(&id));
        link.and_then(|link| self.links.remove(&link));
        // A link is dialled anew as a whole; a generation that has not come up goes alone.
        let is_orphan = |peer: &Peer| {
            let is_akin = || peer.group.as_ref().zip(lost.group.as_ref()).is_some_and(|(a, b)| a.is_akin(b));
            peer.group == lost.group || link.is_some() && is_akin()
        };
        let has_orphans = lost.purpose == Purpose::Control && lost.is_dialled;
        Some(Lost { link, orphans: if has_orphans { self.refs(is_orphan) } else { Vec::new() } })
    }

    fn refs(&self, is_wanted: impl Fn(&Peer) -> bool) -> Vec<ConnectionRef> {
        let wanted = self.peers.iter().filter(|(_, peer)| is_wanted(peer));
        wanted.map(|(id, peer)| ConnectionRef { id: *id, shard: peer.shard }).collect()
    }

    /// Where a connection runs.
    pub(super) fn place(&self, id: ConnectionId) -> Option<ConnectionRef> {
        self.peers.get(&id).map(|peer| ConnectionRef { id, shard: peer.shard })
    }

    /// Whether we dialled a connection.
    pub(super) fn is_dialled(&self, id: ConnectionId) -> bool {
        self.peers.get(&id).is_some_and(|peer| peer.is_dialled)
    }

    /// The link that a control connection stands for.
    pub(super) fn link(&self, id: ConnectionId) -> Option<LinkId> {
        self.peers.get(&id)?.link
    }

    /// Where the control connection of a link runs.
    pub(super) fn control_connection(&self, link: LinkId) -> Option<ConnectionRef> {
        self.place(*self.links.get(&link)?)
    }

    /// The links that are up, each with its connections.
    pub(super) fn next_hops(&self) -> BTreeMap<LinkId, NextHop> {
        let hop = |(link, id): (&LinkId, &ConnectionId)| Some((*link, self.next_hop(*id, self.peers.get(id)?)));
        self.links.iter().filter_map(hop).collect()
    }

    fn next_hop(&self, id: ConnectionId, control: &Peer) -> NextHop {
        let is_data =
            |peer: &Peer| peer.purpose == Purpose::Data && peer.group.is_some() && peer.group == control.group;
        let data = if control.has_trunking { self.refs(is_data) } else { Vec::new() };
        NextHop { control: ConnectionRef { id, shard: control.shard }, data }
    }
}

impl Peer {
    /// Whether it belongs to an earlier generation of a group's link.
    fn precedes(&self, group: Option<&Group>) -> bool {
        self.group.as_ref().zip(group).is_some_and(|(earlier, group)| earlier.precedes(group))
    }
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
            failover: None,
        };
        Candidate::new(announcement, Origin::Accepted, 1)
    }

    fn admit(
        peers: &mut Peers,
        container: &str,
        correlator: &str,
        purpose: Purpose,
    ) -> (Admitted, Option<ConnectionId>) {
        peers.admit("me", candidate(container, correlator, purpose)).expect("admitted")
    }

    /// A connection that we dial with credentials of a generation.
    fn dial(peers: &mut Peers, ordinal: u64, purpose: Purpose) -> ConnectionId {
        let dialled = Dialled { correlator: "x".into(), ordinal: Some(ordinal), purpose };
        let candidate = Candidate { origin: Origin::Dialled(dialled), ..candidate("a", "", purpose) };
        peers.admit("me", candidate).expect("admitted").0.id
    }

    /// The connections of a link.
    fn hop(peers: &Peers, link: LinkId) -> (ConnectionId, Vec<ConnectionId>) {
        let hop = &peers.next_hops()[&link];
        (hop.control.id, hop.data.iter().map(|at| at.id).collect())
    }

    fn ids(refs: &[ConnectionRef]) -> Vec<ConnectionId> {
        refs.iter().map(|at| at.id).collect()
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
        assert_eq!(hop(&peers, LinkId(control.0)), (control, vec![early]));
    }

    #[test]
    fn the_newer_of_two_control_connections_of_a_link_wins() {
        let mut peers = Peers::new(1);
        let old = admit(&mut peers, "a", "x", Purpose::Control).0.id;
        assert_eq!(admit(&mut peers, "a", "x", Purpose::Control).1, Some(old));
        assert_eq!(admit(&mut peers, "a", "z", Purpose::Control).1, None);
    }

    #[test]
    fn a_later_generation_takes_the_link_over_once_it_is_up() {
        let mut peers = Peers::new(1);
        let [control, data] = [Purpose::Control, Purpose::Data].map(|purpose| dial(&mut peers, 1, purpose));
        let link = LinkId(control.0);
        assert_eq!(peers.control_up(control), Some(Risen::Link(link, Cost::ONE)));
        let [later, later_data] = [Purpose::Control, Purpose::Data].map(|purpose| dial(&mut peers, 2, purpose));
        assert_eq!(hop(&peers, link), (control, vec![data]), "not up yet");
        assert_eq!(peers.link(later), Some(link), "what it says before is of this link");
        assert_eq!(
            peers.control_up(later),
            Some(Risen::Generation(vec![
                ConnectionRef { id: control, shard: ShardId(0) },
                ConnectionRef { id: data, shard: ShardId(0) },
            ]))
        );
        assert_eq!(hop(&peers, link), (later, vec![later_data]));
        assert!(peers.is_superseded(control) && !peers.is_superseded(later));
        let lost = peers.remove(control).expect("known");
        assert_eq!((lost.link, ids(&lost.orphans)), (None, vec![data]), "the link stays");
        let lost = peers.remove(later).expect("known");
        assert_eq!((lost.link, ids(&lost.orphans)), (Some(link), vec![data, later_data]));
    }

    #[test]
    fn a_generation_that_does_not_come_up_leaves_the_link_alone() {
        let mut peers = Peers::new(1);
        let control = dial(&mut peers, 1, Purpose::Control);
        peers.control_up(control);
        let later = dial(&mut peers, 2, Purpose::Control);
        assert_eq!(peers.remove(later).expect("known"), Lost { link: None, orphans: vec![] });
        assert!(!peers.is_superseded(control));
        assert_eq!(hop(&peers, LinkId(control.0)).0, control);
    }

    #[test]
    fn generations_that_come_up_in_the_wrong_order_leave_the_link_with_the_latest() {
        let mut peers = Peers::new(1);
        let [first, second, third] = [1, 2, 3].map(|ordinal| dial(&mut peers, ordinal, Purpose::Control));
        let link = LinkId(first.0);
        assert!(matches!(peers.control_up(third), Some(Risen::Link(of, _)) if of == link));
        assert_eq!(peers.control_up(second), None);
        assert_eq!(hop(&peers, link).0, third);
    }

    #[test]
    fn a_router_with_our_own_id_is_refused() {
        let refused = Peers::new(1).admit("me", candidate("me", "x", Purpose::Control)).expect_err("refused");
        assert!(refused.to_string().contains("our own id"), "{refused}");
    }
}
