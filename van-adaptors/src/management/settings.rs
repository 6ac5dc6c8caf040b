//! What is configured and no part of the router is made of.

use std::collections::BTreeMap;

use van_core::amqp::Value;
use van_core::management::Attributes;
use van_core::management::agent::{Action, Change};
use van_core::management::config::Given;
use van_core::management::schema::operational::Managed;

use crate::entities::EntityKind;

/// Entities by their types' names in the configuration file, each in the order of the file.
#[derive(Debug, Default)]
pub(crate) struct Settings(BTreeMap<&'static str, Vec<Attributes>>);

impl Settings {
    pub(crate) fn new(given: Vec<Given>) -> Self {
        let mut settings = Self::default();
        for Given { type_name, name, mut attributes } in given {
            let entities = settings.0.entry(type_name).or_default();
            match type_name {
                "router" | "network" | "log" => drop(attributes.remove("name")),
                _ => drop(attributes.insert("name", Value::String(name))),
            }
            entities.push(attributes);
        }
        settings
    }

    /// What was said of an entity that becomes a part of the router, which keeps it.
    pub(crate) fn take(&mut self, kind: EntityKind, name: &str) -> Attributes {
        let entities = self.0.iter_mut().find(|(type_name, _)| **type_name == kind.to_string());
        let take = |entities: &mut Vec<Attributes>| {
            let is_it = |entity: &Attributes| entity.get("name").and_then(Value::as_text) == Some(name);
            Some(entities.remove(entities.iter().position(is_it)?))
        };
        entities.and_then(|(_, entities)| take(entities)).unwrap_or_default()
    }

    /// The entities of a type.
    pub(super) fn list(&self, managed: &Managed) -> Vec<Attributes> {
        self.0.get(managed.label()).cloned().unwrap_or_default()
    }

    /// Makes, changes or forgets an entity.
    pub(super) fn apply(&mut self, change: &Change) {
        let key = if change.managed.name == "log" { "module" } else { "name" };
        let entities = self.0.entry(change.managed.label()).or_default();
        let place = entities.iter().position(|entity| entity.get(key) == change.attributes.get(key));
        let columns = change.managed.columns().filter(|column| column.kind.is_some() || column.name == "name");
        let given = columns.filter_map(|column| Some((column.name, change.attributes.get(column.name)?.clone())));
        let given = given.collect();
        match (change.action, place) {
            (Action::Delete, place) => drop(place.map(|place| entities.remove(place))),
            (_, Some(place)) => entities[place] = given,
            (_, None) => entities.push(given),
        }
    }
}
