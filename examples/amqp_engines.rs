//! Two AMQP 1.0 engines talk to each other in memory: no sockets, no threads, no clock but the one we hand them.
//!
//! The same engines run under the sockets of a router; `van_core::amqp` is of use wherever octets can be carried.

use std::time::Instant;

use anyhow::Context;
use van_core::amqp::{
    Admission, Config, Connection, Event, LinkId, Login, Mechanism, NewLink, Role, Source, Target, Token,
};

fn main() -> anyhow::Result<()> {
    let now = Instant::now();
    let admission = Admission { mechanisms: vec![Mechanism::Anonymous], sasl_optional: false };
    let mut client = Connection::connect(Config::new("client"), vec![Login::Anonymous], now);
    let mut server = Connection::accept(Config::new("server"), admission, now);
    exchange(&mut client, &mut server)?;

    let channel = client.begin().context("a session")?;
    let target = Target { address: Some("greetings".into()), ..Target::default() };
    let (source, target) = (Some(Source::default()), Some(target));
    let link = NewLink { name: "link".into(), role: Role::Sender, source, target, credit: 0, token: Token(1) };
    let link = client.attach(channel, link).context("a link")?;
    exchange(&mut client, &mut server)?;

    send(&mut client, link, b"hello");
    exchange(&mut client, &mut server)?;
    anyhow::ensure!(client.unsettled() == 0, "the server has accepted it");
    Ok(())
}

/// One delivery in one frame. Its octets follow the header, which is the last thing in the output.
fn send(client: &mut Connection, link: LinkId, message: &[u8]) {
    assert!(client.start_delivery(link, Token(2), true), "the server grants credit");
    client.transfer(link, message.len(), false);
    client.append_payload(message);
}

/// Carries octets both ways until nobody has anything to say.
fn exchange(client: &mut Connection, server: &mut Connection) -> anyhow::Result<()> {
    while !client.output().is_empty() || !server.output().is_empty() {
        carry(client, server)?;
        carry(server, client)?;
    }
    Ok(())
}

fn carry(from: &mut Connection, to: &mut Connection) -> anyhow::Result<()> {
    let octets = from.output().to_vec();
    from.clear_output();
    let mut input = octets.as_slice();
    while let Some(event) = to.next(&mut input)? {
        match event {
            Event::Authenticate(_) => to.authenticate(true)?,
            Event::Opened(open) => {
                println!("{} is connected", open.container_id);
                if !to.is_open() {
                    to.answer_open([]);
                }
            }
            Event::Attached { link, attach, is_answer: false, .. } => to.accept_link(link, &attach, Token(0), 10),
            Event::Payload { octets, .. } => println!("received: {}", String::from_utf8_lossy(octets)),
            _ => {}
        }
    }
    Ok(())
}
