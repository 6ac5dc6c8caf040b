//! From the text of a file to its entities, whose attributes are of the kinds that the schema has for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use super::Reading;
use crate::amqp;
use crate::management::config::Given;
use crate::management::config::syntax::{self, Pair};
use crate::management::schema::{ENTITY_TYPES, EntityType, Kind};

/// An entity of a known type.
pub(super) struct Entity {
    pub(super) kind: &'static EntityType,
    /// Its name, or one made of host and port.
    pub(super) name: String,
    pub(super) place: String,
    /// All that are given; `None` for one that is faulty, of which nothing more is to be said.
    attributes: BTreeMap<String, Option<Setting>>,
}

#[derive(Debug, Clone)]
pub(super) enum Setting {
    Text(String),
    Number(u64),
    Truth(bool),
    Map(Map<String, Value>),
}

impl Entity {
    pub(super) fn setting(&self, key: &str) -> Option<&Setting> {
        self.attributes.get(key)?.as_ref()
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.setting(key).map(Setting::to_text)
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        match self.setting(key) {
            Some(Setting::Number(number)) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn truth(&self, key: &str, default: bool) -> bool {
        match self.setting(key) {
            Some(Setting::Truth(truth)) => *truth,
            _ => default,
        }
    }

    pub(super) fn given(&self) -> Given {
        let names = self.kind.attributes.iter().map(|attribute| attribute.name).chain(["name"]);
        let value = |name| Some((name, self.setting(name)?.to_value()));
        Given { type_name: self.kind.name, name: self.name.clone(), attributes: names.filter_map(value).collect() }
    }

    /// Whether it is given, faulty or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.attributes.contains_key(key)
    }
}

impl Reading {
    pub(super) fn entities(&mut self, text: &str, variable: &impl Fn(&str) -> Option<String>) -> Vec<Entity> {
        let (pairs, faults) = syntax::read(text);
        self.faults.extend(faults);
        let read = |(number, pair)| Some((number, self.entity(number, &pair, variable)?));
        let mut entities: Vec<_> = pairs.into_iter().filter_map(read).collect();
        name_apart(&mut entities);
        entities.into_iter().map(|(_, entity)| entity).collect()
    }

    fn entity(&mut self, number: usize, pair: &Pair, variable: &impl Fn(&str) -> Option<String>) -> Option<Entity> {
        let Pair { type_name, attributes } = pair;
        let place = format!("entity {number}");
        let Some(kind) = EntityType::of(type_name) else {
            let known = ENTITY_TYPES.iter().map(|kind| kind.name);
            self.fault(&place, format!("unknown entity type `{type_name}`{}", suggestion(type_name, known)));
            return None;
        };
        let label = ["name", "id", "module", "prefix", "pattern", "address", "port"]
            .iter()
            .find_map(|key| attributes.get(*key));
        let place = match label {
            Some(Value::String(label)) => format!("{} \"{label}\"", kind.name),
            Some(label) => format!("{} {label}", kind.name),
            None => format!("{} (entity {number})", kind.name),
        };
        let read = |(key, value)| (String::clone(key), self.attribute(kind, &place, key, value, variable));
        let settings: BTreeMap<_, _> = attributes.iter().map(read).collect();
        for missing in
            kind.attributes.iter().filter(|attribute| attribute.is_required && !attributes.contains_key(attribute.name))
        {
            self.fault(&place, format!("`{}` is missing", missing.name));
        }
        let text = |key| Some(settings.get(key)?.as_ref()?.to_text());
        let own_name = || match kind.attribute("port") {
            Some(_) => ["host", "port"].map(|key| text(key).unwrap_or_default()).join(":"),
            None => number.to_string(),
        };
        let name = text("name").unwrap_or_else(|| format!("{}/{}", kind.name, own_name()));
        Some(Entity { kind, name, place, attributes: settings })
    }

    fn attribute(
        &mut self,
        kind: &'static EntityType,
        place: &str,
        key: &str,
        value: &Value,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Option<Setting> {
        let kind = match kind.attribute(key) {
            Some(attribute) => attribute.kind,
            None if key == "name" => Kind::Text,
            None => {
                let known = kind.attributes.iter().map(|attribute| attribute.name).chain(["name"]);
                self.fault(place, format!("unknown attribute `{key}`{}", suggestion(key, known)));
                return None;
            }
        };
        let value = match expand(value, variable) {
            Ok(value) => value,
            Err(name) => {
                self.fault(place, format!("`{key}` uses ${{{name}}}, which is not set in the environment"));
                return None;
            }
        };
        let setting = Setting::read(kind, &value);
        if setting.is_none() {
            self.fault(place, format!("`{key}` must be {kind}, not {value}"));
        }
        setting
    }
}

/// Entities without a name are called by host and port, which several may share: the later also by their number.
fn name_apart(entities: &mut [(usize, Entity)]) {
    let mut seen = BTreeSet::new();
    for (number, entity) in entities {
        if !seen.insert((entity.kind.name, entity.name.clone())) && !entity.has("name") {
            entity.name = format!("{} (entity {number})", entity.name);
        }
    }
}

/// Replaces each `${NAME}`. The name of the first variable that is not set otherwise.
fn expand(value: &Value, variable: &impl Fn(&str) -> Option<String>) -> Result<Value, String> {
    let Value::String(text) = value else { return Ok(value.clone()) };
    let (mut out, mut rest) = (String::new(), text.as_str());
    while let Some((before, behind)) = rest.split_once("${") {
        let Some((name, after)) = behind.split_once('}') else { break };
        out += before;
        out += &variable(name).ok_or(name)?;
        rest = after;
    }
    Ok(Value::String(out + rest))
}

/// ` (did you mean …?)` if a known name is near.
pub(super) fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known.map(|known| (distance(name, known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 1 + name.len() / 4 => format!(" (did you mean `{known}`?)"),
        _ => String::new(),
    }
}

/// How many characters have to be changed, added or left out (Levenshtein), regardless of case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

impl Setting {
    /// A value of a kind, which the original also takes in quotes, or without.
    fn read(kind: Kind, value: &Value) -> Option<Self> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            Value::Object(map) if kind == Kind::Map => return Some(Self::Map(map.clone())),
            _ => return None,
        };
        match kind {
            Kind::Text => Some(Self::Text(text)),
            Kind::Number => text.parse().ok().map(Self::Number),
            Kind::Positive => text.parse().ok().filter(|number| *number > 0).map(Self::Number),
            Kind::Port => port(&text).map(Self::Number),
            Kind::Truth => truth(&text).map(Self::Truth),
            Kind::Word(words) => words.contains(&text.as_str()).then_some(Self::Text(text)),
            Kind::Map => None,
        }
    }

    fn to_value(&self) -> amqp::Value {
        match self {
            Self::Map(map) => to_amqp(&Value::Object(map.clone())),
            other => amqp::Value::String(other.to_text()),
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Truth(truth) => truth.to_string(),
            Self::Map(_) => String::new(),
        }
    }
}

/// A number, or one of the two names that the original's files use.
pub(super) fn port(text: &str) -> Option<u64> {
    match text {
        "amqp" => Some(5672),
        "amqps" => Some(5671),
        _ => text.parse::<u16>().ok().map(u64::from),
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("a text"),
            Self::Number => f.write_str("a whole number"),
            Self::Positive => f.write_str("a whole number above 0"),
            Self::Port => f.write_str("a port (0 to 65535, amqp or amqps)"),
            Self::Truth => f.write_str("true or false"),
            Self::Word(words) => write!(f, "one of {}", words.join(", ")),
            Self::Map => f.write_str("a map"),
        }
    }
}

/// A JSON value as the original sends it: whole numbers as long, others as double.
pub(super) fn to_amqp(value: &Value) -> amqp::Value {
    match value {
        Value::Null => amqp::Value::Null,
        Value::Bool(truth) => amqp::Value::Bool(*truth),
        Value::String(text) => amqp::Value::String(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => amqp::Value::Long(number),
            (None, number) => amqp::Value::Double(number.unwrap_or_default()),
        },
        Value::Array(items) => amqp::Value::List(items.iter().map(to_amqp).collect()),
        Value::Object(map) => amqp::Value::Map(
            map.iter().map(|(key, value)| (amqp::Value::String(key.clone()), to_amqp(value))).collect(),
        ),
    }
}
