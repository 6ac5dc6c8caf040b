//! Two AMQP engines talking over octets in memory, on virtual time.

#[path = "amqp/pair.rs"]
mod pair;

use std::time::Duration;

use pair::{Pair, Seen, anonymous, config};
use proptest::prelude::*;
use van_core::amqp::{
    Admission, Condition, Config, Connection, DeliveryState, Error, Event, LinkId, Login, Mechanism, NewLink, Password,
    Role, Source, Symbol, Target, Token,
};

fn sender(name: &str) -> NewLink {
    NewLink {
        name: name.into(),
        role: Role::Sender,
        source: Some(Source::default()),
        target: Some(Target { address: Some("q".into()), ..Target::default() }),
        credit: 0,
        token: Token(7),
    }
}

#[test]
fn both_ends_open_over_every_mechanism() {
    let password = Password { user: "ann".into(), password: "secret".into() };
    for login in [Login::External, Login::Anonymous, Login::Plain(password)] {
        let mechanisms = vec![Mechanism::Plain, Mechanism::External, Mechanism::Anonymous];
        let mut pair = Pair::new(vec![login.clone()], Admission { mechanisms, sasl_optional: false });
        pair.run();
        assert!(pair.client.is_open() && pair.server.is_open(), "{login:?}");
    }
}

#[test]
fn a_peer_without_sasl_is_let_in_only_where_that_is_optional() {
    let mut pair = Pair::new(vec![], Admission { mechanisms: vec![], sasl_optional: true });
    pair.run();
    assert!(pair.client.is_open() && pair.server.is_open());

    let mut pair = Pair::new(vec![], Admission { mechanisms: vec![Mechanism::External], sasl_optional: false });
    assert_eq!(pair.run_to_error(), Error::SaslRequired);
    let said = pair.server.output().to_vec();
    let mut said = said.as_slice();
    let told = std::iter::from_fn(|| pair.client.next(&mut said).expect("it is AMQP"));
    let closed = told.filter_map(|event| if let Event::Closed(condition) = event { condition } else { None });
    assert_eq!(closed.collect::<Vec<_>>(), [Condition::bare("amqp:connection:policy-error")]);
}

#[test]
fn no_common_mechanism_is_said_with_the_offer() {
    let mut pair = Pair::new(vec![Login::External], anonymous());
    let Error::NoMechanism { offered } = pair.run_to_error() else { panic!("another error") };
    assert_eq!(offered, [Symbol::from("ANONYMOUS")]);
}

#[test]
fn a_delivery_arrives_in_pieces_and_is_settled_end_to_end() {
    let mut pair = Pair::open();
    let link = pair.attach(sender("one"));
    pair.server_grants(10);
    assert!(pair.client.start_delivery(link, Token(42), false));
    pair.client_sends(link, b"hello ", true);
    pair.client_sends(link, b"world", false);
    pair.run();
    assert_eq!(pair.server_seen.payload(), b"hello world");
    let delivery = pair.server_seen.delivery().expect("a delivery");
    pair.server.dispose(delivery, Some(DeliveryState::Accepted), true);
    pair.run();
    assert!(
        matches!(
            pair.client_seen.last(),
            Some(Seen::Disposition { token: Token(42), state: Some(DeliveryState::Accepted), settled: true })
        ),
        "{:?}",
        pair.client_seen
    );
    assert_eq!((pair.client.unsettled(), pair.server.unsettled()), (0, 0));
}

#[test]
fn received_reports_do_not_settle() {
    let mut pair = Pair::open();
    let link = pair.attach(sender("one"));
    pair.server_grants(10);
    assert!(pair.client.start_delivery(link, Token(1), false));
    pair.client_sends(link, b"octets", true);
    pair.run();
    let delivery = pair.server_seen.delivery().expect("a delivery");
    for offset in [3, 6] {
        let state = DeliveryState::Received { section_number: 0, section_offset: offset };
        pair.server.dispose(delivery, Some(state), false);
    }
    pair.run();
    assert_eq!(
        pair.client_seen.0.iter().filter(|seen| matches!(seen, Seen::Disposition { settled: false, .. })).count(),
        2
    );
    assert_eq!(pair.client.unsettled(), 1);
}

#[test]
fn credit_is_restored_and_many_deliveries_flow() {
    let mut pair = Pair::open();
    let link = pair.attach(sender("one"));
    pair.server_grants(4);
    for n in 0..100_u8 {
        assert!(pair.client.start_delivery(link, Token(0), true), "no credit for {n}");
        pair.client_sends(link, &[n], false);
        pair.run();
    }
    assert_eq!(pair.server_seen.payload(), (0..100).collect::<Vec<u8>>());
}

/// A skupper-router left a server's first octets lying until it was given credit: up to 2 of 100 connections.
#[test]
fn credit_is_restored_at_once_when_a_delivery_begins_that_goes_on() {
    let mut pair = Pair::open();
    let link = pair.attach(sender("one"));
    pair.server_grants(10);
    let told = |pair: &Pair| pair.client_seen.0.iter().filter(|seen| matches!(seen, Seen::Credit { .. })).count();
    let before = told(&pair);
    assert!(pair.client.start_delivery(link, Token(0), true));
    pair.client_sends(link, b"header", true);
    pair.run();
    assert_eq!((told(&pair), pair.client.credit(link)), (before + 1, 10));
    pair.client_sends(link, b"more", true);
    pair.client_sends(link, b"last", false);
    assert!(pair.client.start_delivery(link, Token(0), true));
    pair.client_sends(link, b"whole", false);
    pair.run();
    assert_eq!((told(&pair), pair.client.credit(link)), (before + 1, 9), "only then");
}

#[test]
fn without_credit_no_delivery_starts() {
    let mut pair = Pair::open();
    let link = pair.attach(sender("one"));
    assert!(!pair.client.start_delivery(link, Token(0), true));
    pair.server_grants(1);
    assert!(pair.client.start_delivery(link, Token(0), true));
    assert!(!pair.client.start_delivery(link, Token(0), true), "one at a time");
}

#[test]
fn a_drain_gives_the_credit_back() {
    let mut pair = Pair::open();
    let link = pair.attach(sender("one"));
    let at_server = pair.server_grants(10);
    pair.server.drain(at_server);
    pair.run();
    assert!(matches!(pair.client_seen.last(), Some(Seen::Credit { drain: true })));
    pair.client.drained(link);
    pair.run();
    assert_eq!((pair.client.credit(link), pair.server.credit(at_server)), (0, 0));
    pair.server.set_credit(at_server, 2);
    pair.run();
    assert_eq!(pair.client.credit(link), 2);
}

#[test]
fn credit_revoked_while_a_delivery_is_under_way_is_no_violation() {
    let mut pair = Pair::open();
    let link = pair.attach(sender("one"));
    let at_server = pair.server_grants(1);
    pair.server.set_credit(at_server, 0);
    // The client has not heard of it yet.
    assert!(pair.client.start_delivery(link, Token(0), true));
    pair.client_sends(link, b"late", false);
    pair.run();
    assert_eq!(pair.server_seen.payload(), b"late");
}

#[test]
fn an_aborted_delivery_ends_and_counts_as_settled() {
    let mut pair = Pair::open();
    let link = pair.attach(sender("one"));
    pair.server_grants(10);
    assert!(pair.client.start_delivery(link, Token(0), false));
    pair.client_sends(link, b"half", true);
    pair.client.abort(link, None);
    pair.run();
    assert!(matches!(pair.server_seen.last(), Some(Seen::Aborted)));
    assert_eq!((pair.client.unsettled(), pair.server.unsettled()), (0, 0));
    assert!(pair.client.start_delivery(link, Token(0), false), "the link is free again");
}

#[test]
fn a_delivery_aborted_before_its_first_frame_leaves_no_gap_in_the_numbers() {
    let mut pair = Pair::open();
    let link = pair.attach(sender("one"));
    pair.server_grants(2);
    assert!(pair.client.start_delivery(link, Token(0), false));
    pair.client.abort(link, None);
    assert_eq!(pair.client.credit(link), 2);
    assert!(pair.client.start_delivery(link, Token(0), false));
    pair.client_sends(link, b"x", false);
    pair.run();
    assert_eq!(pair.server_seen.payload(), b"x");
}

#[test]
fn a_drain_that_is_answered_after_another_grant_takes_nothing_of_it() {
    let mut pair = Pair::open();
    let link = pair.attach(sender("one"));
    let servers = pair.server_grants(10);
    pair.server.drain(servers);
    pair.run();
    pair.server.grant(servers, 250);
    pair.client.drained(link);
    pair.run();
    assert_eq!((pair.client.credit(link), pair.server.credit(servers)), (250, 250));
}

/// A client that has given up its delivery when the server takes no more frames.
fn given_up_without_window() -> (Pair, LinkId) {
    let mut pair = Pair::open();
    let link = pair.attach(sender("one"));
    pair.server_grants(1);
    pair.server.hold_window(link.channel(), true);
    assert!(pair.client.start_delivery(link, Token(0), false));
    while pair.client.has_window(link) {
        pair.client_sends(link, b"", true);
    }
    pair.client.abort(link, None);
    (pair, link)
}

#[test]
fn a_delivery_is_given_up_when_there_is_window_again_and_not_before() {
    let (mut pair, link) = given_up_without_window();
    assert_eq!(pair.client.output(), b"");
    pair.server.hold_window(link.channel(), false);
    pair.run();
    assert_eq!(pair.server_seen.last(), Some(&Seen::Aborted));
}

#[test]
fn of_a_session_that_is_held_back_one_of_ours_sends_what_is_under_way_and_no_more() {
    let mut pair = Pair::alike();
    let link = pair.attach(sender("one"));
    pair.server_grants(1);
    assert!(pair.client.start_delivery(link, Token(0), false));
    pair.client_sends(link, b"one", true);
    pair.server.hold_window(link.channel(), true);
    pair.client_sends(link, b"two", true);
    pair.run();
    assert!(!pair.client.has_window(link));
    pair.server.hold_window(link.channel(), false);
    pair.run();
    assert!(pair.client.has_window(link));
    pair.client_sends(link, b"three", false);
    assert_eq!((pair.server_seen.payload(), pair.server_seen.last()), (b"onetwothree".to_vec(), Some(&Seen::Complete)));
}

#[test]
fn one_of_ours_is_told_what_came_of_many_sessions_though_little_came_of_each() {
    let mut pair = Pair::alike();
    let links: Vec<_> = (0..20)
        .map(|_| {
            let link = pair.attach(sender("one"));
            pair.server_grants(10);
            assert!(pair.client.start_delivery(link, Token(0), false));
            link
        })
        .collect();
    for link in &links {
        pair.client_sends(*link, &[0; 20_000], true);
    }
    pair.run();
    let told = |link: &&LinkId| pair.client.frames(link.channel()).is_some_and(|(sent, received)| sent == received);
    // 256 KiB are 14 of these frames.
    assert_eq!(links.iter().filter(told).count(), 14);
}

#[test]
fn deliveries_of_a_session_that_ends_are_told_in_their_order() {
    let mut pair = Pair::open();
    let link = pair.attach(sender("one"));
    let servers = pair.server_grants(50);
    for number in 0..50 {
        assert!(pair.client.start_delivery(link, Token(0), false));
        pair.client_sends(link, b"x", false);
        let delivery = pair.server_seen.delivery().expect("it came");
        pair.server.set_delivery_token(delivery, servers, Token(number));
    }
    pair.client.end(link.channel(), None);
    pair.run();
    let told = |seen: &Seen| if let Seen::Disposition { token, .. } = seen { Some(token.0) } else { None };
    assert_eq!(pair.server_seen.0.iter().filter_map(told).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
}

#[test]
fn a_link_that_was_detached_says_nothing_more_when_there_is_window_again() {
    let (mut pair, link) = given_up_without_window();
    pair.client.detach(link, None);
    pair.run();
    pair.server.hold_window(link.channel(), false);
    pair.run();
    assert!(pair.client.is_open() && pair.server.is_open());
}

#[test]
fn a_delivery_of_which_nothing_was_sent_is_not_counted_to_the_peer() {
    let mut pair = Pair::open();
    let link = pair.attach(sender("one"));
    let servers = pair.server_grants(10);
    pair.server.drain(servers);
    pair.run();
    pair.server.grant(servers, 10);
    assert!(pair.client.start_delivery(link, Token(0), false));
    pair.client.drained(link);
    pair.client_sends(link, b"x", false);
    pair.run();
    assert_eq!((pair.client.credit(link), pair.server.credit(servers)), (9, 9));
}

#[test]
fn deliveries_that_nobody_has_settled_are_forgotten_with_their_link() {
    let mut pair = Pair::open();
    let link = pair.attach(sender("one"));
    let servers = pair.server_grants(3);
    for _ in 0..3 {
        assert!(pair.client.start_delivery(link, Token(0), false));
        pair.client_sends(link, b"x", false);
    }
    assert_eq!(pair.client.unsettled(), 3);
    pair.server.detach(servers, None);
    pair.run();
    assert_eq!(pair.client.unsettled(), 0);
}

#[test]
fn of_deliveries_of_a_session_that_has_ended_nobody_is_told_more() {
    let mut pair = Pair::open();
    let link = pair.attach(sender("one"));
    pair.server_grants(1);
    assert!(pair.client.start_delivery(link, Token(0), false));
    pair.client_sends(link, b"x", false);
    pair.client.end(link.channel(), None);
    pair.run();
    let [.., settled, Seen::Detached(None)] = &pair.server_seen.0[..] else { panic!("{:?}", pair.server_seen) };
    assert!(matches!(settled, Seen::Disposition { state: None, settled: true, .. }), "{settled:?}");
}

#[test]
fn a_peer_hears_the_settle_modes_that_it_insists_on() {
    let mut pair = Pair::open();
    let channel = pair.client.begin().expect("a channel");
    pair.run();
    for (mode, heard) in [(0, 0), (1, 1), (2, 2)] {
        let name = format!("mode-{mode}");
        pair.client.attach(channel, sender(&name)).expect("a link");
        // As if the client could insist: its attach is changed on the way.
        let octets = pair.client.output().to_vec();
        pair.client.clear_output();
        let mut input = octets.as_slice();
        while let Some(event) = pair.server.next(&mut input).expect("it is AMQP") {
            if let Event::Attached { link, mut attach, .. } = event {
                attach.snd_settle_mode = mode;
                pair.server.accept_link(link, &attach, Token(0), 0);
            }
        }
        pair.run();
        let Some(Seen::Attached(_, answer)) = pair.client_seen.last() else { panic!("no answer") };
        assert_eq!(answer.snd_settle_mode, heard);
    }
}

#[test]
fn a_detach_with_an_error_reaches_the_other_end() {
    let mut pair = Pair::open();
    let link = pair.attach(sender("one"));
    pair.server_grants(1);
    pair.client.detach(link, Some(Condition::bare("qd:no-route-to-dest")));
    pair.run();
    assert!(
        matches!(pair.server_seen.last(), Some(Seen::Detached(Some(condition))) if condition.condition == *"qd:no-route-to-dest")
    );
    assert!(matches!(pair.client_seen.last(), Some(Seen::Detached(None))));
    let again = pair.attach(sender("one"));
    assert_ne!(again, link, "a stale link id does not name the next link");
}

#[test]
fn the_session_window_is_given_back_on_receipt() {
    let mut pair = Pair::open();
    let link = pair.attach(sender("one"));
    pair.server_grants(1);
    assert!(pair.client.start_delivery(link, Token(0), true));
    for _ in 0..20_000 {
        assert!(pair.client.has_window(link));
        pair.client_sends(link, b"", true);
        pair.run();
    }
}

#[test]
fn closing_is_told_and_answered() {
    let mut pair = Pair::open();
    pair.client.close(Some(Condition::new("amqp:connection:forced", "going down")));
    pair.run();
    assert!(
        matches!(pair.server_seen.last(), Some(Seen::Closed(Some(condition))) if condition.condition == *"amqp:connection:forced")
    );
    assert!(matches!(pair.client_seen.last(), Some(Seen::Closed(None))));
    assert!(pair.client.is_closed() && pair.server.is_closed());
}

#[test]
fn an_idle_connection_lives_on_empty_frames() {
    let mut pair = Pair::open();
    for _ in 0..100 {
        pair.advance(Duration::from_secs(3));
        pair.run();
    }
    assert!(pair.client.is_open() && pair.server.is_open());
}

/// A client with half a second was told nothing in its first second, and left.
#[test]
fn a_peer_in_a_hurry_hears_of_us_within_its_timeout_from_the_start() {
    let mut pair = Pair::new(vec![Login::Anonymous], anonymous());
    let timeout = Duration::from_millis(500);
    pair.client =
        Connection::connect(Config { idle_timeout: timeout, ..config("client") }, vec![Login::Anonymous], pair.now);
    pair.run();
    let open = pair.now;
    while pair.server.output().is_empty() {
        pair.now = pair.server.poll_timeout().expect("a timer");
        pair.server.handle_timeout(pair.now).expect("the client was heard of");
    }
    assert!(pair.now - open < timeout, "{:?}", pair.now - open);
}

#[test]
fn a_silent_peer_is_noticed_within_its_timeout_and_a_quarter() {
    let mut pair = Pair::open();
    let start = pair.now;
    let error = loop {
        pair.now = pair.server.poll_timeout().expect("a timer");
        if let Err(error) = pair.server.handle_timeout(pair.now) {
            break error;
        }
        pair.server.clear_output(); // lost on the way
    };
    assert_eq!(error, Error::Silent(Duration::from_secs(16)));
    let silence = pair.now - start;
    assert!((Duration::from_secs(16)..=Duration::from_secs(20)).contains(&silence), "{silence:?}");
}

#[test]
fn a_peer_of_another_protocol_is_named() {
    let mut server = Connection::accept(config("server"), anonymous(), pair::start());
    let error = server.next(&mut b"GET / HTTP/1.1\r\n".as_slice()).expect_err("not AMQP");
    assert_eq!(error.to_string(), "peer does not speak AMQP 1.0: it began with \"GET / HT\"");
    assert_eq!(server.output(), b"AMQP\x03\x01\x00\x00");
}

proptest! {
    /// However the octets are cut, the same events come out.
    #[test]
    fn cutting_the_stream_anywhere_changes_nothing(
        messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), 1..4_usize), 1..20),
        cuts in prop::collection::vec(1..40_usize, 1..50),
    ) {
        let mut pair = Pair::open();
        pair.cuts = cuts;
        let link = pair.attach(sender("one"));
        pair.server_grants(100);
        let mut sent = Vec::new();
        for (message, frames) in &messages {
            assert!(pair.client.start_delivery(link, Token(0), false));
            let size = message.len().div_ceil(*frames).max(1);
            let mut chunks = message.chunks(size).peekable();
            if chunks.peek().is_none() {
                pair.client_sends(link, b"", false);
            }
            while let Some(chunk) = chunks.next() {
                pair.client_sends(link, chunk, chunks.peek().is_some());
            }
            sent.extend_from_slice(message);
            pair.run();
        }
        prop_assert_eq!(pair.server_seen.payload(), sent);
        prop_assert_eq!(pair.server.unsettled(), messages.len());
    }

    /// Noise never panics, and what it makes the engine say stays small.
    #[test]
    fn noise_after_a_valid_start_is_survived(
        noise in prop::collection::vec(any::<u8>(), 0..2000),
        prefix in 0..4_usize,
    ) {
        let mut server = Connection::accept(config("server"), Admission { mechanisms: vec![Mechanism::Anonymous], sasl_optional: true }, pair::start());
        let starts: [&[u8]; 4] = [b"", b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00", b"AMQP\x00\x01\x00\x00\x00\x00\x00\x10\x02\x00\x00\x00\x00\x53\x10\xC0\x02\x01\xA1\x00"];
        let octets = [starts[prefix], &noise].concat();
        let mut input = octets.as_slice();
        while let Ok(Some(event)) = server.next(&mut input) {
            pair::answer(&mut server, &event);
        }
        prop_assert!(server.output().len() < 4096);
    }
}
