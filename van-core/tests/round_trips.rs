//! What is written is read again as it was, by us and by an implementation that is not ours.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use van_core::amqp::{
    Condition, Decode, DeliveryState, DeliveryTag, Disposition, Encode, Flow, Open, Performative, Reader, Role, Symbol,
    Transfer, Value,
};
use van_core::annotations::Annotations;
use van_core::encapsulation::{self, ClientStream, Features};
use van_core::message;

fn symbol() -> impl Strategy<Value = Symbol> {
    "[ -~]{0,300}".prop_map(|name| Symbol::from(name.as_str()))
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<u8>().prop_map(Value::Ubyte),
        any::<u16>().prop_map(Value::Ushort),
        prop_oneof![Just(0), 0..300_u32, any::<u32>()].prop_map(Value::Uint),
        prop_oneof![Just(0), 0..300_u64, any::<u64>()].prop_map(Value::Ulong),
        any::<i8>().prop_map(Value::Byte),
        any::<i16>().prop_map(Value::Short),
        prop_oneof![-200..200_i32, any::<i32>()].prop_map(Value::Int),
        prop_oneof![-200..200_i64, any::<i64>()].prop_map(Value::Long),
        (-1e30..1e30_f32).prop_map(Value::Float),
        (-1e300..1e300_f64).prop_map(Value::Double),
        any::<[u8; 4]>().prop_map(Value::Decimal32),
        any::<[u8; 8]>().prop_map(Value::Decimal64),
        any::<[u8; 16]>().prop_map(Value::Decimal128),
        any::<char>().prop_map(Value::Char),
        any::<i64>().prop_map(Value::Timestamp),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        vec(any::<u8>(), 0..300).prop_map(Value::Binary),
        ".{0,100}".prop_map(Value::String),
        symbol().prop_map(Value::Symbol),
    ]
}

/// Elements of an array have one type; of the widest form, so that all have one encoding.
fn array() -> impl Strategy<Value = Value> {
    prop_oneof![
        vec(any::<u64>().prop_map(Value::Ulong), 1..5).prop_map(Value::Array),
        vec(any::<i32>().prop_map(Value::Int), 1..5).prop_map(Value::Array),
        vec(symbol().prop_map(Value::Symbol), 1..5).prop_map(Value::Array),
        // ASCII, for serde_amqp 0.14 writes the number of characters where the number of octets belongs.
        vec("[ -~]{0,20}".prop_map(Value::String), 1..5).prop_map(Value::Array),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![4 => scalar(), 1 => array()].prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::List),
            prop::collection::btree_map(".{0,10}", inner.clone(), 0..8)
                .prop_map(|pairs| Value::Map(pairs.into_iter().map(|(key, it)| (Value::String(key), it)).collect())),
            (prop_oneof![any::<u64>().prop_map(Value::Ulong), symbol().prop_map(Value::Symbol)], inner)
                .prop_map(|(descriptor, it)| Value::Described(descriptor.into(), it.into())),
        ]
    })
}

fn written(it: &impl Encode) -> Vec<u8> {
    let mut out = Vec::new();
    it.encode(&mut out);
    out
}

#[track_caller]
fn read<T: for<'a> Decode<'a>>(octets: &[u8]) -> T {
    let mut reader = Reader::new(octets);
    let it = T::decode(&mut reader).expect("what was written can be read");
    assert!(reader.is_empty(), "octets are left");
    it
}

fn condition() -> impl Strategy<Value = Condition> {
    (symbol(), option::of(".{0,60}")).prop_map(|(condition, description)| Condition { condition, description })
}

fn state() -> impl Strategy<Value = DeliveryState> {
    let modified = (any::<bool>(), any::<bool>()).prop_map(|(delivery_failed, undeliverable_here)| {
        DeliveryState::Modified { delivery_failed, undeliverable_here, annotations: None }
    });
    prop_oneof![
        (any::<u32>(), any::<u64>())
            .prop_map(|(section_number, section_offset)| DeliveryState::Received { section_number, section_offset }),
        Just(DeliveryState::Accepted),
        option::of(condition().prop_map(Box::new)).prop_map(DeliveryState::Rejected),
        Just(DeliveryState::Released),
        modified,
    ]
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Sender), Just(Role::Receiver)]
}

fn number() -> impl Strategy<Value = Option<u32>> {
    option::of(any::<u32>())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_value_survives(value in value()) {
        prop_assert_eq!(&read::<Value>(&written(&value)), &value);
    }

    /// The judge is serde_amqp: it reads what we write, and we read what it writes of that.
    #[test]
    fn a_value_survives_another_implementation(value in value()) {
        let theirs: serde_amqp::Value = serde_amqp::from_slice(&written(&value)).expect("they can read it");
        let back = serde_amqp::to_vec(&theirs).expect("they can write it");
        prop_assert_eq!(&read::<Value>(&back), &value);
    }

    #[test]
    fn what_is_cut_off_is_not_read(value in value(), place in any::<prop::sample::Index>()) {
        let octets = written(&value);
        let mut reader = Reader::new(&octets[..place.index(octets.len())]);
        prop_assert!(Value::decode(&mut reader).is_err());
    }

    #[test]
    fn a_flow_survives(
        numbers in (number(), any::<u32>(), any::<u32>(), any::<u32>(), number()),
        credit in (number(), number(), number()),
        flags in any::<(bool, bool)>(),
    ) {
        let (next_incoming_id, incoming_window, next_outgoing_id, outgoing_window, handle) = numbers;
        let ((delivery_count, link_credit, available), (drain, echo)) = (credit, flags);
        let flow = Flow { next_incoming_id, incoming_window, next_outgoing_id, outgoing_window, handle, delivery_count,
            link_credit, available, drain, echo };
        match read(&written(&flow)) {
            Performative::Flow(back) => prop_assert_eq!(back, flow),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn a_transfer_survives(
        handle in any::<u32>(),
        numbers in (number(), number(), number()),
        flags in any::<(bool, bool, bool, bool)>(),
        (settled, rcv_settle_mode) in (any::<Option<bool>>(), option::of(0..2_u8)),
        state in option::of(state()),
    ) {
        let ((delivery_id, tag, message_format), (more, resume, aborted, batchable)) = (numbers, flags);
        let delivery_tag = tag.map(DeliveryTag::from);
        let transfer = Transfer { handle, delivery_id, delivery_tag, message_format, settled, more, rcv_settle_mode, state,
            resume, aborted, batchable };
        match read(&written(&transfer)) {
            Performative::Transfer(back) => prop_assert_eq!(back, transfer),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn a_disposition_survives(
        role in role(), first in any::<u32>(), last in number(), flags in any::<(bool, bool)>(), state in option::of(state()),
    ) {
        let disposition = Disposition { role, first, last, settled: flags.0, state, batchable: flags.1 };
        match read(&written(&disposition)) {
            Performative::Disposition(back) => prop_assert_eq!(back, disposition),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn an_open_survives(
        (container_id, hostname) in (".{1,60}", option::of(".{0,60}")),
        (max_frame_size, channel_max, idle_time_out) in (512..u32::MAX, any::<u16>(), number()),
        (offered_capabilities, desired_capabilities) in (vec(symbol(), 0..4), vec(symbol(), 0..4)),
        properties in vec((symbol(), value()), 0..4),
    ) {
        let (outgoing_locales, incoming_locales) = (Vec::new(), Vec::new());
        let open = Open { container_id, hostname, max_frame_size, channel_max, idle_time_out, outgoing_locales,
            incoming_locales, offered_capabilities, desired_capabilities, properties };
        match read(&written(&open)) {
            Performative::Open(back) => prop_assert_eq!(*back, open),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    /// Each router on the way adds itself to the trace and leaves the rest as it is.
    #[test]
    fn annotations_keep_their_origin_and_gather_the_way(
        flags in any::<u32>(),
        routers in vec("[a-z][a-z0-9.-]{0,20}", 1..12),
        key in "[a-z]{1,20}",
        alpn in option::of("\\PC{1,40}"),
    ) {
        let mut message = Vec::new();
        Annotations::fresh(flags).forward(&format!("0/{}", routers[0]), &mut message);
        let features = Features::OURS;
        let said = ClientStream { key: &key, reply_to: "amqp:/_topo/0/a/temp.1", alpn: alpn.as_deref(), flow: Some("aB3dE:9") };
        encapsulation::write_client_stream(said, features, &mut message);
        for router in &routers[1..] {
            let head = message::scan(&message, false).expect("it is a message").expect("the head is whole");
            let mut next = Vec::new();
            head.annotations.expect("they lead the message").forward(&format!("0/{router}"), &mut next);
            next.extend_from_slice(&message[head.rest..]);
            message = next;
        }
        message.extend_from_slice(b"the first octets");
        let head = message::scan(&message, false).expect("it is a message").expect("the head is whole");
        let annotations = head.annotations.expect("they lead the message");
        prop_assert_eq!(annotations.flags, flags);
        prop_assert_eq!(annotations.origin(), Some(routers[0].as_str()));
        let nodes: Vec<_> = routers.iter().map(|router| format!("0/{router}")).collect();
        prop_assert_eq!(annotations.trace_text(), nodes.join("|"));
        prop_assert_eq!(annotations.trace().collect::<Vec<_>>(), routers);
        prop_assert_eq!(head.properties.correlation_text(), Some("aB3dE:9"));
        prop_assert_eq!(head.properties.to, Some(key.as_str()));
        prop_assert_eq!(encapsulation::alpn(&head), alpn);
        prop_assert_eq!(Features::of(&head), features);
        let start = encapsulation::stream_start(&head).expect("it is a stream");
        prop_assert_eq!(&message[start..], b"the first octets");
    }
}
