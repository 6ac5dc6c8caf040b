//! The frames of an open connection, as they come.

use super::{Burst, Connection, Error, Event, LinkId, MIXED_FIRST, Progress, Receiving, Stage, session_mut, violation};
use crate::amqp::delivery::{DeliveryId, DeliveryTag};
use crate::amqp::limits::{MAX_LINKS, MAX_UNSETTLED};
use crate::amqp::link::{Current, Drain, Link, Token};
use crate::amqp::performative::{Attach, Begin, Close, Detach, Disposition, End, Flow, Performative, Role, Transfer};

impl Connection {
    pub(super) fn recv_performative<'a>(
        &mut self,
        channel: u16,
        performative: Performative,
    ) -> Result<Progress<'a>, Error> {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{channel} <- {performative:?}"));
        }
        match (&self.stage, performative) {
            (Stage::Opening, Performative::Open(open)) => return self.recv_open(open),
            (Stage::Opening | Stage::Open, Performative::Close(close)) => self.recv_close(close),
            (Stage::Open, Performative::Begin(begin)) => self.recv_begin(channel, &begin)?,
            (Stage::Open, Performative::Open(_)) => return Err(violation("amqp:not-allowed", "second open")),
            (Stage::Open, performative) => {
                let Some(&local) = self.by_remote_channel.get(&channel) else {
                    return Err(violation("amqp:not-allowed", format!("no session on channel {channel}")));
                };
                match performative {
                    Performative::Attach(attach) => self.recv_attach(local, attach)?,
                    Performative::Flow(flow) => self.recv_flow(local, &flow)?,
                    Performative::Transfer(transfer) => return self.recv_transfer(local, transfer),
                    Performative::Disposition(disposition) => self.recv_disposition(local, disposition),
                    Performative::Detach(detach) => self.recv_detach(local, detach)?,
                    Performative::End(end) => self.recv_end(local, channel, end),
                    // Of the connection, and dealt with above.
                    Performative::Open(_) | Performative::Begin(_) | Performative::Close(_) => {}
                }
            }
            _ => return Err(violation("amqp:not-allowed", "frame before open")),
        }
        Ok(Progress::Again)
    }

    fn recv_close(&mut self, close: Close) {
        self.events.push_back(Event::Closed(close.error));
        self.fail(None);
    }

    fn recv_begin(&mut self, channel: u16, begin: &Begin) -> Result<(), Error> {
        if self.by_remote_channel.contains_key(&channel) || channel >= self.config.sessions() {
            return Err(violation(
                "amqp:not-allowed",
                format!("begin on channel {channel}, which is in use or too high"),
            ));
        }
        let local = match begin.remote_channel {
            Some(ours) => {
                let session = self.sessions.get_mut(usize::from(ours)).and_then(Option::as_mut);
                session.filter(|session| session.remote_channel.is_none()).ok_or_else(|| {
                    violation("amqp:invalid-field", format!("begin answers channel {ours}, which asked nothing"))
                })?;
                ours
            }
            None => {
                let free = self.free_channel().filter(|channel| *channel <= self.peer_channel_max);
                free.ok_or_else(|| violation("amqp:resource-limit-exceeded", "too many sessions"))?
            }
        };
        self.by_remote_channel.insert(channel, local);
        let new = self.new_session();
        let session = self.sessions[usize::from(local)].get_or_insert(new);
        session.recv_begin(begin, channel);
        if !session.begin_sent {
            self.send_begin(local);
        }
        Ok(())
    }

    fn recv_attach(&mut self, channel: u16, mut attach: Box<Attach>) -> Result<(), Error> {
        let link_count: usize = self.sessions.iter().flatten().map(|session| session.links.len()).sum();
        let session = session_mut(&mut self.sessions, channel);
        if session.by_remote_handle.contains_key(&attach.handle) || attach.handle >= MAX_LINKS {
            return Err(violation(
                "amqp:session:handle-in-use",
                format!("handle {} in use or too high", attach.handle),
            ));
        }
        let role = attach.role.opposite();
        let name = (std::mem::take(&mut attach.name), role);
        let answered = session.unanswered.remove(&name);
        attach.name = name.0;
        let key = match answered {
            Some(key) => key,
            None if link_count >= MAX_LINKS as usize => {
                return Err(violation("amqp:resource-limit-exceeded", "too many links"));
            }
            None => session.links.insert(Link::new(&attach.name, role, Token::default())),
        };
        session.by_remote_handle.insert(attach.handle, key);
        let link = session.links.get_mut(key).expect("found or inserted above");
        link.remote_handle = Some(attach.handle);
        if role == Role::Receiver {
            link.delivery_count = attach.initial_delivery_count.unwrap_or(0);
        }
        let is_in_use = link.attach_sent && !link.detach_sent;
        let (token, is_granting) = (link.token, role == Role::Receiver && is_in_use && link.credit > 0);
        let link = LinkId { channel, key };
        self.events.push_back(Event::Attached { link, token, attach, is_answer: answered.is_some() });
        if is_granting {
            self.send_link_flow(link);
        }
        Ok(())
    }

    fn recv_flow(&mut self, channel: u16, flow: &Flow) -> Result<(), Error> {
        let session = session_mut(&mut self.sessions, channel);
        if session.recv_flow(flow) || self.is_peer_alike {
            self.events.push_back(Event::Window { channel });
        }
        self.send_delayed(channel);
        let session = session_mut(&mut self.sessions, channel);
        let Some(handle) = flow.handle else {
            if flow.echo {
                self.send_session_flow(channel);
            }
            return Ok(());
        };
        let Some(&key) = session.by_remote_handle.get(&handle) else {
            return Err(violation("amqp:session:unattached-handle", format!("flow for handle {handle}")));
        };
        let id = LinkId { channel, key };
        let Some(link) = session.links.get_mut(key) else { return Ok(()) };
        match (link.role, flow.link_credit) {
            (Role::Sender, Some(credit)) => {
                link.recv_credit(flow.delivery_count, credit, flow.drain);
                self.events.push_back(Event::Credit { link: id, token: link.token, drain: flow.drain });
            }
            // A sender that answers a drain has moved its count on to what we had granted.
            (Role::Receiver, _) if link.drain == Drain::Asked => {
                if let Some(count) = flow.delivery_count {
                    let used = count.wrapping_sub(link.delivery_count);
                    link.credit = link.credit.saturating_sub(used);
                    link.delivery_count = count;
                    link.drain = if link.credit > 0 { Drain::Asked } else { Drain::None };
                }
            }
            // What it was granted since counts from here.
            (Role::Receiver, _) if link.drain == Drain::Late => {
                if let Some(count) = flow.delivery_count
                    && count.wrapping_sub(link.delivery_count).cast_signed() > 0
                {
                    (link.delivery_count, link.drain) = (count, Drain::None);
                    self.send_link_flow(id);
                }
            }
            _ => {}
        }
        if flow.echo {
            self.send_link_flow(id);
        }
        Ok(())
    }

    fn recv_transfer<'a>(&mut self, channel: u16, transfer: Transfer) -> Result<Progress<'a>, Error> {
        let octets = self.frames.payload_left();
        let session = session_mut(&mut self.sessions, channel);
        if !session.count_incoming() {
            return Err(violation("amqp:session:window-violation", "transfer beyond the incoming window"));
        }
        let handle = transfer.handle;
        let found =
            session.by_remote_handle.get(&handle).and_then(|&key| session.links.get_mut(key).map(|link| (key, link)));
        let Some((key, link)) = found.filter(|(_, link)| link.role == Role::Receiver) else {
            return Err(violation("amqp:session:unattached-handle", format!("transfer on handle {handle}")));
        };
        let id = LinkId { channel, key };
        let goes_on = link.current.is_none() && transfer.more && !transfer.aborted;
        let current = match link.current {
            Some(current) if transfer.delivery_id.is_none_or(|number| number == current.number) => {
                Current { settled: current.settled || transfer.settled == Some(true), ..current }
            }
            Some(_) => {
                return Err(violation("amqp:not-allowed", "delivery begun before the one under way was complete"));
            }
            None => {
                let Some(number) = transfer.delivery_id else {
                    return Err(violation("amqp:invalid-field", "first transfer without delivery-id"));
                };
                if !link.count_delivery() {
                    return Err(violation("amqp:link:transfer-limit-exceeded", "delivery without credit"));
                }
                let settled = transfer.settled == Some(true);
                let delivery = DeliveryId { channel, role: Role::Receiver, number };
                let tag = transfer.delivery_tag.unwrap_or(DeliveryTag::from(number));
                self.events.push_back(Event::Delivery { link: id, token: link.token, delivery, tag, settled, goes_on });
                Current { number, token: Token::default(), settled, is_first: false }
            }
        };
        let is_new = link.current.replace(current).is_none();
        let is_restored = link.replenish(goes_on && !self.is_peer_alike);
        let needs_flow = is_restored || session.needs_flow();
        if is_new && !current.settled {
            session.begin_unsettled(Role::Receiver, current.number, key, Token::default());
            if self.unsettled() > MAX_UNSETTLED {
                return Err(violation("amqp:resource-limit-exceeded", "too many unsettled deliveries"));
            }
        }
        if needs_flow {
            self.send_link_flow(id);
        }
        if self.is_peer_alike {
            self.tell_what_came(channel, octets);
        }
        if transfer.aborted {
            let token = self.end_incoming(id, true);
            self.events.push_back(Event::Aborted { link: id, token, state: transfer.state });
        } else {
            self.receiving = Some(Receiving { link: id, current, more: transfer.more });
        }
        Ok(Progress::Again)
    }

    pub(super) fn receive_payload<'a>(&mut self, receiving: Receiving, input: &mut &'a [u8]) -> Progress<'a> {
        let link = receiving.link;
        if self.frames.payload_left() > 0 {
            let octets = self.frames.payload(input);
            if octets.is_empty() {
                return Progress::Starved;
            }
            let token = self.current(link).map_or(receiving.current.token, |current| current.token);
            return Progress::Event(Event::Payload { link, token, octets });
        }
        self.receiving = None;
        if receiving.more {
            return Progress::Again;
        }
        let settled = self.current(link).is_some_and(|current| current.settled);
        let token = self.end_incoming(link, settled);
        let delivery = DeliveryId { channel: link.channel, role: Role::Receiver, number: receiving.current.number };
        Progress::Event(Event::Complete { delivery, token, settled })
    }

    /// Forgets the delivery under way on a link, and all of it if it is settled. Its token.
    fn end_incoming(&mut self, id: LinkId, settled: bool) -> Token {
        let session = session_mut(&mut self.sessions, id.channel);
        let current = session.links.get_mut(id.key).and_then(|link| link.current.take());
        let Some(current) = current else { return Token::default() };
        if settled {
            session.settle(Role::Receiver, current.number);
        }
        current.token
    }

    fn recv_disposition(&mut self, channel: u16, disposition: Disposition) {
        let role = disposition.role.opposite();
        let session = session_mut(&mut self.sessions, channel);
        let last = disposition.last.unwrap_or(disposition.first);
        let unsettled = session.unsettled(role, disposition.first, last);
        if disposition.settled {
            for (number, _) in &unsettled {
                session.settle(role, *number);
            }
        }
        let (state, settled) = (disposition.state, disposition.settled);
        self.burst = Some(Burst::Dispositions { deliveries: unsettled.into_iter(), channel, role, state, settled });
    }

    fn recv_detach(&mut self, channel: u16, detach: Detach) -> Result<(), Error> {
        let session = session_mut(&mut self.sessions, channel);
        let Some(key) = session.by_remote_handle.remove(&detach.handle) else {
            return Err(violation("amqp:session:unattached-handle", format!("detach of handle {}", detach.handle)));
        };
        let id = LinkId { channel, key };
        if self.receiving.is_some_and(|receiving| receiving.link == id) {
            self.receiving = None;
        }
        let Some(link) = session.links.get(key) else { return Ok(()) };
        if !link.attach_sent {
            // Attached and detached before anybody answered.
            let name = link.name.to_string();
            self.send_attach(id, name, (None, None), MIXED_FIRST);
        }
        let session = session_mut(&mut self.sessions, channel);
        session.forget_delayed(key);
        let Some(link) = session.links.remove(key) else { return Ok(()) };
        if link.unsettled > 0 && link.role == Role::Sender {
            session.forget_unsettled(key);
        }
        if !link.detach_sent {
            self.send(channel, &Detach { handle: key.index(), closed: true, error: None });
        }
        let (token, was_used) = (link.token, link.is_used());
        self.events.push_back(Event::Detached { link: id, token, was_used, condition: detach.error });
        Ok(())
    }

    fn recv_end(&mut self, local: u16, remote: u16, end: End) {
        self.by_remote_channel.remove(&remote);
        let Some(session) = self.sessions[usize::from(local)].take() else { return };
        if self.receiving.is_some_and(|receiving| receiving.link.channel == local) {
            self.receiving = None;
        }
        let links: Vec<_> = session.links.iter().map(|(key, link)| (key, link.token, link.is_used())).collect();
        self.burst = Some(Burst::Ended {
            unsettled: session.unsettled(Role::Receiver, 0, u32::MAX).into_iter(),
            links: links.into_iter(),
            channel: local,
            condition: end.error,
        });
        if !session.end_sent {
            self.send(local, &End { error: None });
        }
    }
}
