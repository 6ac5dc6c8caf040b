//! Management: every request that can be answered is, and whoever answers is not harmed.

use van_core::amqp::{Decode, Reader, Value};
use van_core::management::Attributes;
use van_core::management::agent::{self, Entities, Step};
use van_core::management::request::{Failure, Request};
use van_core::management::rows::{AddressRow, ConnectionRow};
use van_core::management::schema::operational::Managed;
use van_core::plane::MAX_MESSAGE_BYTES;

use super::message::has_section;

/// A small router.
struct World;

impl Entities for World {
    fn list(&self, managed: &Managed) -> Vec<Attributes> {
        let named = |name: &str| Attributes::from([("name", Value::String(name.into()))]);
        match managed.name {
            "router" => {
                let mut router = named("router/A");
                router.extend(["id", "mode"].into_iter().zip(["A", "interior"].map(|it| Value::String(it.into()))));
                vec![router]
            }
            "connection" => vec![ConnectionRow { id: 1, ..ConnectionRow::default() }.attributes()],
            "router.address" => vec![AddressRow { key: "Mecho".into(), ..AddressRow::default() }.attributes()],
            "tcpListener" | "tcpConnector" | "listener" | "sslProfile" => vec![named("a"), named("b")],
            _ => Vec::new(),
        }
    }

    fn log(&self, limit: usize) -> Vec<[Value; 6]> {
        vec![[const { Value::Null }; 6]; limit.min(3)]
    }
}

/// A request. The outer header is that of its first section.
pub(crate) fn management(octets: &[u8]) -> bool {
    let Some(request) = Request::read(octets) else { return has_section(octets) };
    // These answers are large, and the same whatever else the request says.
    if request.operation.ends_with("SCHEMA") {
        return true;
    }
    let answers = match agent::handle(&request, &World) {
        Step::Answer(answer) => vec![answer],
        Step::Profile(_) => return true,
        Step::Change(change) => {
            let refused = Err(Failure::bad_request("no"));
            [Ok(()), refused].map(|outcome| change.answer(outcome, &World)).into()
        }
    };
    for answer in answers {
        let message = request.answer(&answer);
        assert!(message.len() <= MAX_MESSAGE_BYTES, "an answer that cannot be sent");
        // The correlation id is sent back as it came, and may be no value at all inside.
        let mut reader = Reader::new(&message);
        let properties = Value::decode(&mut reader);
        if request.correlation_id.as_deref().is_none_or(|id| Value::decode(&mut Reader::new(id)).is_ok()) {
            assert!(properties.is_ok(), "properties that cannot be read");
            let sections = [0x74, 0x77].map(|number| (number, Value::decode(&mut reader)));
            for (number, section) in sections {
                assert!(matches!(section, Ok(Value::Described(of, _)) if *of == Value::Ulong(number)));
            }
        }
    }
    true
}
