//! The other end of the management protocol: asks, and reads what comes back.

use bytes::Bytes;
use van_core::amqp::{Composer, Decode, Encode, Reader, Value};

/// A question, with application properties and the value of a body.
pub(crate) fn question(reply_to: &str, properties: &[(&str, Value)], body: Value) -> Bytes {
    correlated(reply_to, &Value::Ulong(7), properties, body)
}

/// A question whose answer is to repeat a value.
pub(crate) fn correlated(reply_to: &str, correlation_id: &Value, properties: &[(&str, Value)], body: Value) -> Bytes {
    let mut out = Vec::new();
    let mut fields = Composer::described(&mut out, 0x73);
    fields.null().null().null().null().field(reply_to).field(correlation_id).end();
    let pairs = properties.iter().map(|(key, value)| (text(key), value.clone())).collect();
    Value::Described(Value::Ulong(0x74).into(), Value::Map(pairs).into()).encode(&mut out);
    Value::Described(Value::Ulong(0x77).into(), body.into()).encode(&mut out);
    out.into()
}

pub(crate) fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// A map with text keys.
pub(crate) fn map(pairs: &[(&str, Value)]) -> Value {
    Value::Map(pairs.iter().map(|(key, value)| (text(key), value.clone())).collect())
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) to: Value,
    pub(crate) correlation_id: Value,
    pub(crate) status: Value,
    pub(crate) description: Value,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn read(octets: &[u8]) -> Self {
        let mut reader = Reader::new(octets);
        let (mut properties, mut application, mut body) = (Vec::new(), Value::Null, Value::Null);
        while !reader.is_empty() {
            let Ok(Value::Described(descriptor, value)) = Value::decode(&mut reader) else { panic!("no section") };
            match (*descriptor, *value) {
                (Value::Ulong(0x73), Value::List(fields)) => properties = fields,
                (Value::Ulong(0x74), value) => application = value,
                (Value::Ulong(0x77), value) => body = value,
                (Value::Ulong(0x70), _) => {}
                other => panic!("an unexpected section: {other:?}"),
            }
        }
        let field = |number: usize| properties.get(number).cloned().unwrap_or(Value::Null);
        let property = |key| application.entry(key).cloned().unwrap_or(Value::Null);
        Self {
            to: field(2),
            correlation_id: field(5),
            status: property("statusCode"),
            description: property("statusDescription"),
            body,
        }
    }

    /// The columns of a query.
    pub(crate) fn columns(&self) -> Vec<&str> {
        let names = self.body.entry("attributeNames").and_then(Value::as_list).expect("the answer to a query");
        names.iter().map(|name| name.as_text().expect("text")).collect()
    }

    /// The rows of a query.
    pub(crate) fn rows(&self) -> &[Value] {
        self.body.entry("results").and_then(Value::as_list).expect("the answer to a query")
    }

    /// One attribute of each row of a query.
    pub(crate) fn column(&self, name: &str) -> Vec<&Value> {
        let place = self.columns().iter().position(|column| *column == name).expect("a column of the answer");
        self.rows().iter().map(|row| &row.as_list().expect("a row")[place]).collect()
    }
}
