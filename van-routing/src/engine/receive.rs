//! What each message does to an engine.
//!
//! Source: docs/wire.md §4.3 to §4.6.

use std::{collections::BTreeMap, time::Instant};

use tracing::debug;

use super::{Engine, Output};
use crate::{
    Hello, LinkId, LinkState, LinkStateUpdate, Message, MobileAddress, MobileAddressRequest, MobileAddressUpdate,
    RouterAdvertisement, RouterId, Table,
    mobile::{AddressChange, TooMany},
    remote::{Life, Remote},
};

/// Why a message was ignored. In each case its sender misbehaves, or knows more than we.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A link state with more than [`LinkState::MAX_PEERS`] peers.
    #[error("{router} lists {count} peers, more than {}", LinkState::MAX_PEERS)]
    TooManyPeers {
        /// The sender.
        router: RouterId,
        /// The number of its peers.
        count: usize,
    },
    /// An address update that leads to more than [`MobileAddress::MAX_PER_ROUTER`] addresses.
    #[error("{router} advertises {count} addresses, more than {}", MobileAddress::MAX_PER_ROUTER)]
    TooManyAddresses {
        /// The sender.
        router: RouterId,
        /// The number of its addresses.
        count: usize,
    },
    /// A message that brings more than [`Engine::MAX_ROUTERS`] routers.
    #[error("{router} would make it more than {} routers", Engine::MAX_ROUTERS)]
    TooManyRouters {
        /// The sender.
        router: RouterId,
    },
    /// A message about the addresses of a router of which nothing else was heard yet.
    ///
    /// This happens just after a start, and heals when the router advertises itself.
    #[error("{router} is not known yet")]
    UnknownRouter {
        /// The sender.
        router: RouterId,
    },
}

impl Engine {
    /// A message has arrived that is meant for us, perhaps among others.
    ///
    /// # Errors
    /// The message is ignored then. That is worth a line in the log, with the peer's name, and no more.
    pub fn handle_message(&mut self, now: Instant, from: LinkId, message: &Message) -> Result<(), MessageError> {
        self.neighbors.heard(now, from);
        let sender = message.sender();
        if *sender == self.id {
            self.meet_namesake(now, message);
            return Ok(());
        }
        let result = match message {
            Message::Hello(hello) => self.handle_hello(now, from, hello),
            Message::RouterAdvertisement(advertisement) => self.handle_advertisement(now, advertisement),
            Message::LinkStateRequest(request) => self.handle_link_state_request(now, &request.id),
            Message::LinkStateUpdate(update) => self.handle_link_state_update(now, update),
            Message::MobileAddressRequest(request) => self.handle_address_request(request),
            Message::MobileAddressUpdate(update) => self.handle_address_update(now, update),
        };
        self.wake_by(self.remotes.get(sender).and_then(|remote| remote.poll_timeout(&self.timing)));
        self.react(now);
        result
    }

    /// Messages of our own come back on some ways. Those of another life may have been sent before we were
    /// restarted; later ones mean that our id is taken.
    fn meet_namesake(&mut self, now: Instant, message: &Message) {
        let instance = match message {
            Message::Hello(hello) => hello.instance,
            Message::RouterAdvertisement(advertisement) => advertisement.instance,
            Message::LinkStateUpdate(update) => update.instance,
            _ => return,
        };
        if instance != self.instance && self.conflict.is_report_due(now) {
            self.outputs.push_back(Output::DuplicateId { router: self.id.clone() });
        }
    }

    fn handle_hello(&mut self, now: Instant, from: LinkId, hello: &Hello) -> Result<(), MessageError> {
        let lists_us = hello.seen.contains(&self.id);
        // One that does not hear us yet is not worth getting to know: it may be on a link that works one way.
        let is_known = lists_us || self.remotes.contains_key(&hello.id);
        if is_known && self.meet(now, &hello.id, hello.instance)?.is_none() {
            return Ok(());
        }
        if self.neighbors.handle_hello(now, from, hello, lists_us, self.timing.hello_interval) {
            self.ask_for_path_work(now);
        }
        Ok(())
    }

    fn handle_advertisement(&mut self, now: Instant, heard: &RouterAdvertisement) -> Result<(), MessageError> {
        if let Some(remote) = self.meet(now, &heard.id, heard.instance)? {
            remote.link_state.announce(now, heard.ls_seq);
            remote.addresses.announce(now, heard.mobile_seq);
        }
        Ok(())
    }

    fn handle_link_state_request(&mut self, now: Instant, from: &RouterId) -> Result<(), MessageError> {
        learn(&mut self.remotes, &self.table, now, from)?.questions.link_state = true;
        self.answer(from);
        Ok(())
    }

    fn handle_link_state_update(&mut self, now: Instant, update: &LinkStateUpdate) -> Result<(), MessageError> {
        let LinkStateUpdate { id, instance, link_state } = update;
        let count = link_state.peers.len();
        if count > LinkState::MAX_PEERS {
            return Err(MessageError::TooManyPeers { router: id.clone(), count });
        }
        let Some(remote) = self.meet(now, id, *instance)? else {
            return Ok(());
        };
        if link_state.seq <= remote.link_state.seq() {
            remote.link_state.announce(now, link_state.seq);
            return Ok(());
        }
        self.learn_peers(now, update)?;
        if learn(&mut self.remotes, &self.table, now, id)?.link_state.update(now, link_state.clone()) {
            self.ask_for_path_work(now);
        }
        Ok(())
    }

    fn learn_peers(&mut self, now: Instant, update: &LinkStateUpdate) -> Result<(), MessageError> {
        let is_new = |peer: &&RouterId| **peer != self.id && !self.remotes.contains_key(*peer);
        let new: Vec<_> = update.link_state.peers.keys().filter(is_new).collect();
        let new: Vec<_> = new.into_iter().cloned().collect();
        self.make_room_for(now, &new);
        if self.remotes.len() + new.len() > Self::MAX_ROUTERS {
            return Err(MessageError::TooManyRouters { router: update.id.clone() });
        }
        self.remotes.extend(new.into_iter().map(|peer| (peer, Remote::new(now))));
        Ok(())
    }

    /// Forgets routers that cannot be reached, as many as it takes: whoever invents routers does not keep real ones out.
    fn make_room_for<'a>(&mut self, now: Instant, ids: impl IntoIterator<Item = &'a RouterId>) {
        let new = ids.into_iter().filter(|id| !self.remotes.contains_key(*id)).count();
        let excess = (self.remotes.len() + new).saturating_sub(Self::MAX_ROUTERS);
        if excess == 0 || new == 0 {
            return;
        }
        let neighbors = self.neighbors.adjacencies();
        let is_idle = |(id, remote): &(&RouterId, &Remote)| !remote.is_reachable() && !neighbors.contains_key(*id);
        let idle: Vec<_> = self.remotes.iter().filter(is_idle).map(|(id, _)| id.clone()).take(excess).collect();
        for router in idle {
            let removed = self.remotes.remove(&router).into_iter().flat_map(|mut remote| remote.addresses.clear(now));
            self.outputs.extend(removed.map(|key| Output::AddressRemoved { router: router.clone(), key }));
        }
    }

    fn handle_address_request(&mut self, request: &MobileAddressRequest) -> Result<(), MessageError> {
        self.known(&request.id)?.questions.addresses_since = Some(request.have_seq);
        self.answer(&request.id);
        Ok(())
    }

    fn handle_address_update(&mut self, now: Instant, update: &MobileAddressUpdate) -> Result<(), MessageError> {
        let MobileAddressUpdate { id, mobile_seq, addresses } = update;
        let changes = match self.known(id)?.addresses.update(now, *mobile_seq, addresses) {
            Ok(changes) => changes,
            Err(TooMany { count }) => return Err(MessageError::TooManyAddresses { router: id.clone(), count }),
        };
        self.outputs.extend(changes.into_iter().map(|change| {
            let router = id.clone();
            match change {
                AddressChange::Added(address) => Output::AddressAdded { router, address },
                AddressChange::Removed(key) => Output::AddressRemoved { router, key },
            }
        }));
        Ok(())
    }

    /// The sender of a message that names its instance; none if the message is to be ignored.
    fn meet(&mut self, now: Instant, id: &RouterId, instance: u64) -> Result<Option<&mut Remote>, MessageError> {
        self.make_room_for(now, [id]);
        let gap = self.stretched(self.timing.path_holdoff);
        let remote = learn(&mut self.remotes, &self.table, now, id)?;
        match remote.meet(now, instance) {
            Life::Same => Ok(Some(remote)),
            Life::Next => {
                debug!(router = %id, instance, "router restarted");
                let removed = remote.restart(now).into_iter();
                self.outputs.extend(removed.map(|key| Output::AddressRemoved { router: id.clone(), key }));
                self.neighbors.restarted(id, instance);
                self.path_work.ask(now, gap);
                Ok(Some(remote))
            }
            Life::Former => {
                if remote.conflict.is_report_due(now) {
                    self.outputs.push_back(Output::DuplicateId { router: id.clone() });
                }
                Ok(None)
            }
        }
    }

    fn known(&mut self, id: &RouterId) -> Result<&mut Remote, MessageError> {
        self.remotes.get_mut(id).ok_or_else(|| MessageError::UnknownRouter { router: id.clone() })
    }
}

/// The record of a router, which is made if there is none yet.
fn learn<'a>(
    remotes: &'a mut BTreeMap<RouterId, Remote>,
    table: &Table,
    now: Instant,
    id: &RouterId,
) -> Result<&'a mut Remote, MessageError> {
    if remotes.len() >= Engine::MAX_ROUTERS && !remotes.contains_key(id) {
        return Err(MessageError::TooManyRouters { router: id.clone() });
    }
    Ok(remotes.entry(id.clone()).or_insert_with(|| {
        let mut remote = Remote::new(now);
        // It may have been forgotten just before the table had it.
        remote.settle(now, table.route(id).is_some(), table.topology().is_listed(id));
        remote
    }))
}
