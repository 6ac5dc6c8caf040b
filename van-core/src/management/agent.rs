//! What a request asks for, and what is answered (docs/wire.md §9.2).
//!
//! The agent decides on what [`Entities`] show at the moment. What changes something is checked here, done by the caller, and
//! answered when that is over: see [`Step`].

use serde_json::Value as Json;

use super::Attributes;
use super::config::Configuration;
use super::request::{Answer, Failure, Request, Status};
use super::schema::operational::{Column, MANAGED, Managed, PREFIX};
use crate::amqp::Value;
use crate::plane::MAX_MESSAGE_BYTES;

/// The types that entities name others of, besides the router itself, without which no configuration is one; and those that
/// work together.
const REFERENCES: [&str; 4] = ["router", "sslProfile", "proxyProfile", "router.config.address"];

/// What a router consists of at this moment.
pub trait Entities {
    /// The entities of a type, each with all it has but its type, in an order that lasts.
    fn list(&self, managed: &Managed) -> Vec<Attributes>;

    /// The last lines of the log, at most so many: module, level, text, file, line and seconds since 1970 of each.
    fn log(&self, limit: usize) -> Vec<[Value; 6]>;
}

/// What to do about a request.
#[derive(Debug)]
pub enum Step {
    /// To answer this.
    Answer(Answer),
    /// To do this, then to answer [`Change::answer`].
    Change(Box<Change>),
    /// To measure how long management takes, and to answer what came of it.
    Profile(Profiling),
}

/// What is wanted of the measuring of management.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profiling {
    /// It is to begin, or to go on.
    Start,
    /// It is to end, and its results are wanted.
    Stop,
    /// That is not said.
    Neither,
}

/// What is to become of an entity.
#[derive(Debug)]
pub struct Change {
    /// What of it.
    pub action: Action,
    /// Its type.
    pub managed: &'static Managed,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub identity: String,
    /// What it is to have: after an update also what it keeps.
    pub attributes: Attributes,
    /// The attributes that an update gives other values.
    changed: Vec<&'static str>,
    /// A configuration with the entity as it is to be, or without it, beside what it may name and what it works together with:
    /// of types that the configuration file has.
    pub configuration: Option<Configuration>,
}

/// What can become of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is to be made.
    Create,
    /// It is to be as its attributes say.
    Update,
    /// It is to go.
    Delete,
}

/// Decides about a request.
pub fn handle(request: &Request, entities: &impl Entities) -> Step {
    step(request, entities).unwrap_or_else(|failure| Step::Answer(failure.into()))
}

fn step(request: &Request, entities: &impl Entities) -> Result<Step, Failure> {
    let operation = request.operation.as_str();
    if request.text("operation").is_none() {
        return Err(Failure::bad_request("the request has no application property `operation`"));
    }
    if operation == "CREATE" {
        return create(request, entities);
    }
    let managed = request.text("type").map(find_type).transpose()?;
    if operation == "QUERY" && managed.is_none_or(|managed| !managed.is_core) {
        return query(request, entities).map(Step::Answer);
    }
    if let Some(managed) =
        managed.filter(|managed| managed.is_core && ["READ", "UPDATE", "DELETE"].contains(&operation))
    {
        check_operation(managed, operation)?;
    }
    let (managed, entity) = find(request, managed, entities).map_err(|failure| match managed {
        // A connection that has gone meanwhile is a mistake of who asks.
        Some(managed) if managed.name == "connection" && operation == "UPDATE" => {
            Failure { status: Status::BadRequest, ..failure }
        }
        _ => failure,
    })?;
    check_operation(managed, operation)?;
    match operation {
        "READ" => Ok(Step::Answer(Answer::new(Status::Ok, as_map(managed, &entity)))),
        "UPDATE" => update(request, managed, entity, entities),
        "DELETE" => {
            let change = Change::new(Action::Delete, managed, entity);
            Ok(Change { configuration: check(managed, None, &change.identity, entities)?, ..*change }.into())
        }
        "PROFILE" if request.has("start") => Ok(Step::Profile(Profiling::Start)),
        "PROFILE" if request.has("stop") => Ok(Step::Profile(Profiling::Stop)),
        "PROFILE" => Ok(Step::Profile(Profiling::Neither)),
        operation => about_management(operation, request, entities).map(Step::Answer),
    }
}

/// What only the management node itself can do.
fn about_management(operation: &str, request: &Request, entities: &impl Entities) -> Result<Answer, Failure> {
    if operation == "GET-ANNOTATIONS" {
        return Ok(Answer::new(Status::Ok, Value::Map(Vec::new())));
    }
    let wanted = request.text("entityType").map(find_type).transpose()?;
    let types = || MANAGED.iter().filter(move |managed| wanted.is_none_or(|wanted| managed.name == wanted.name));
    let names = |names: &mut dyn Iterator<Item = &str>| Value::List(names.map(text).collect());
    let pairs = match operation {
        "GET-TYPES" => {
            let types = MANAGED.iter().filter(|managed| wanted.is_none_or(|wanted| managed.is_a(wanted)));
            let bases = |managed: &Managed| Value::List(managed.bases().map(|base| text(&base.full_name())).collect());
            types.map(|managed| (text(&managed.full_name()), bases(managed))).collect()
        }
        "GET-OPERATIONS" => {
            types().map(|managed| (text(&managed.full_name()), names(&mut managed.operations()))).collect()
        }
        "GET-ATTRIBUTES" => {
            let attributes = |managed: &Managed| {
                names(&mut managed.columns().map(|column| column.name).filter(|name| !name.is_empty()))
            };
            types().map(|managed| (text(&managed.full_name()), attributes(managed))).collect()
        }
        "GET-MGMT-NODES" => {
            let nodes = list(Managed::of("router.node").expect("a type"), entities);
            let addresses = nodes.iter().filter_map(|(_, node)| node.get("address")?.as_text());
            let nodes = addresses.map(|address| text(&format!("{address}/$management"))).collect();
            return Ok(Answer::new(Status::Ok, Value::List(nodes)));
        }
        "GET-SCHEMA" => return Ok(Answer::new(Status::Ok, schema())),
        "GET-JSON-SCHEMA" => {
            return Ok(Answer::new(Status::Ok, Value::String(json_schema(request.number("indent").is_some()))));
        }
        _ => {
            let limit = request.number("limit").filter(|limit| *limit > 0);
            let lines = entities.log(limit.unwrap_or(usize::MAX));
            let lines = lines.into_iter().map(|line| Value::List(line.into())).collect();
            return Ok(Answer::new(Status::Ok, Value::List(lines)));
        }
    };
    Ok(Answer::new(Status::Ok, Value::Map(pairs)))
}

// === finding ===

fn find_type(name: &str) -> Result<&'static Managed, Failure> {
    Managed::of(name).ok_or_else(|| Failure::bad_request(format!("there is no entity type `{name}`")))
}

/// The entity that a request is for.
fn find(
    request: &Request,
    wanted: Option<&'static Managed>,
    entities: &impl Entities,
) -> Result<(&'static Managed, Attributes), Failure> {
    let management = Managed::of("management").expect("a type");
    let (name, identity) = (request.text("name"), request.text("identity"));
    let (key, value) = match (name, identity) {
        // In the core an identity stands alone.
        (_, Some(identity)) if wanted.is_some_and(|wanted| wanted.is_core) => ("identity", identity),
        (Some(_), _) if wanted.is_some_and(|wanted| wanted.name == "connection") => {
            return Err(Failure::bad_request("connections have no names; give an identity"));
        }
        (Some(name), _) => ("name", name),
        (None, Some(identity)) => ("identity", identity),
        (None, None) if wanted.is_none_or(|wanted| management.is_a(wanted)) => {
            return Ok((management, list(management, entities).remove(0).1));
        }
        (None, None) => return Err(Failure::bad_request("neither `name` nor `identity` says which entity is meant")),
    };
    let matches = |(_, entity): &(_, Attributes)| entity.get(key).and_then(Value::as_text) == Some(value);
    let others = |managed: &&'static Managed| !managed.is_core && wanted.is_none_or(|wanted| !managed.is_a(wanted));
    let find_among = |managed| list(managed, entities).into_iter().find(matches);
    let found = wanted.and_then(find_among);
    let (managed, entity) = match found {
        Some(found) => found,
        None if wanted.is_some_and(|wanted| wanted.is_core) => return Err(not_found(key, value)),
        None => {
            let found = MANAGED.iter().filter(others).filter(|managed| is_concrete(managed)).find_map(find_among);
            let (managed, entity) = found.ok_or_else(|| not_found(key, value))?;
            if let Some(wanted) = wanted {
                let (found, wanted) = (managed.full_name(), wanted.full_name());
                return Err(Failure::bad_request(format!("`{value}` is a {found}, which is no {wanted}")));
            }
            (managed, entity)
        }
    };
    let is_other = |identity| key == "name" && entity.get("identity").and_then(Value::as_text) != Some(identity);
    match identity.filter(|identity| is_other(*identity)) {
        Some(identity) => Err(Failure::bad_request(format!("`{value}` has another identity than {identity}"))),
        None => Ok((managed, entity)),
    }
}

fn not_found(key: &str, value: &str) -> Failure {
    Failure { status: Status::NotFound, description: format!("there is no entity with the {key} `{value}`") }
}

fn is_concrete(managed: &Managed) -> bool {
    !MANAGED.iter().any(|other| other.bases().any(|base| base.name == managed.name))
}

/// All entities of a type and of those that extend it, each with its type.
fn list(managed: &'static Managed, entities: &impl Entities) -> Vec<(&'static Managed, Attributes)> {
    if !is_concrete(managed) {
        let extending = MANAGED.iter().filter(|other| is_concrete(other) && other.is_a(managed));
        return extending.flat_map(|other| list(other, entities)).collect();
    }
    let mut listed = match managed.name {
        "management" => vec![Attributes::from([("name", text("self")), ("identity", text("self"))])],
        _ => entities.list(managed),
    };
    let columns: Vec<_> =
        managed.columns().filter(|column| column.kind.is_some() || column.default.is_some()).collect();
    for entity in &mut listed {
        for column in &columns {
            let given = entity.get(column.name).map(|value| column.typed(value));
            let value = given.or_else(|| column.default.map(|default| column.value(default)));
            entity.extend(value.map(|value| (column.name, value)));
        }
        entity.insert("type", text(&managed.full_name()));
        if !entity.contains_key("identity") {
            identify(managed, entity);
        }
    }
    listed.into_iter().map(|entity| (managed, entity)).collect()
}

// === what can be done ===

fn check_operation(managed: &Managed, operation: &str) -> Result<(), Failure> {
    // There is one of them, and it has no name: the original lets it be queried only.
    let is_forbidden = managed.name == "routerMetrics";
    if !is_forbidden && managed.operations().any(|known| known == operation) {
        return Ok(());
    }
    let query = (!managed.operations().any(|known| known == "QUERY")).then_some("QUERY");
    let known: Vec<_> = managed.operations().filter(|_| !is_forbidden).chain(query).collect();
    let description = format!("{operation} is not for {}, {} are", managed.full_name(), known.join(", "));
    let is_core = managed.is_core && ["CREATE", "READ", "UPDATE", "DELETE"].contains(&operation);
    Err(Failure { status: if is_core { Status::Forbidden } else { Status::NotImplemented }, description })
}

fn query(request: &Request, entities: &impl Entities) -> Result<Answer, Failure> {
    let wanted = request.text("entityType").map(find_type).transpose()?;
    let body = request.map()?;
    let asked = body.iter().find(|(key, _)| key.as_text() == Some("attributeNames")).map(|(_, names)| names);
    let names = match asked {
        None | Some(Value::Null) => Vec::new(),
        Some(names) => {
            let names: Option<Vec<_>> = names.as_list().unwrap_or(&[Value::Null]).iter().map(Value::as_text).collect();
            names.ok_or_else(|| Failure::bad_request("`attributeNames` must be a list of texts"))?
        }
    };
    let mut columns: Vec<&str> = match wanted {
        Some(managed) => managed.columns().map(|column| column.name).collect(),
        None => MANAGED.iter().flat_map(Managed::columns).map(|column| column.name).collect(),
    };
    if wanted.is_none() {
        columns.sort_unstable();
        columns.dedup();
    }
    if !names.is_empty() {
        let unknown = names.iter().find(|name| !columns.contains(name));
        match unknown {
            Some(name) if wanted.is_none_or(|wanted| !wanted.is_core) => {
                let of = wanted.map_or_else(String::new, |wanted| format!(" of {}", wanted.full_name()));
                let description = format!("there is no attribute `{name}`{of}");
                return Err(Failure { status: Status::NotFound, description });
            }
            _ => columns = names,
        }
    }
    let listed = list(wanted.unwrap_or_else(|| Managed::of("entity").expect("a type")), entities);
    let row = |(_, entity): (_, Attributes)| -> Option<Vec<Value>> {
        let row: Vec<_> = columns.iter().map(|name| entity.get(name).cloned().unwrap_or(Value::Null)).collect();
        row.iter().any(|value| *value != Value::Null).then_some(row)
    };
    let count = request.number("count").filter(|count| *count > 0).unwrap_or(usize::MAX);
    // Each value takes an octet at least: what is beyond this does not fit into an answer anyway.
    let most = MAX_MESSAGE_BYTES / columns.len().max(1) + 1;
    let rows = listed.into_iter().filter_map(row).skip(request.number("offset").unwrap_or(0)).take(count.min(most));
    let results = Value::List(rows.map(Value::List).collect());
    let names = Value::List(columns.iter().map(|name| text(name)).collect());
    Ok(Answer::new(Status::Ok, Value::Map(vec![(text("attributeNames"), names), (text("results"), results)])))
}

fn create(request: &Request, entities: &impl Entities) -> Result<Step, Failure> {
    let body = request.map()?;
    let said = |key: &str| {
        let in_body = body.iter().find(|(name, _)| name.as_text() == Some(key)).and_then(|(_, value)| value.as_text());
        match (request.text(key), in_body) {
            (Some(one), Some(other)) if one != other => {
                Err(Failure::bad_request(format!("`{key}` is {one} and {other}")))
            }
            (one, other) => Ok(one.or(other)),
        }
    };
    let Some(type_name) = request.text("type").or(said("type").ok().flatten()) else {
        return Err(Failure::bad_request("nothing says the `type` of what is to be made"));
    };
    let managed = find_type(type_name)?;
    check_operation(managed, "CREATE")?;
    let mut attributes = Attributes::new();
    for (key, value) in body {
        let column = known_column(managed, key)?;
        if !column.is_creatable && column.name != "type" {
            return Err(Failure::bad_request(format!("`{}` is not for CREATE to set", column.name)));
        }
        if *value != Value::Null && column.name != "type" {
            attributes.insert(column.name, if column.name == "name" { text(&to_text(value)) } else { value.clone() });
        }
    }
    if let Some(name) = said("name")? {
        attributes.insert("name", text(name));
    }
    if ["router.config.address", "router.config.autoLink"].contains(&managed.name) {
        // They have nothing else to be called by.
        let names: Vec<_> =
            entities.list(managed).iter().filter_map(|entity| entity.get("name").map(to_text)).collect();
        let free = (0..).map(|number| format!("{}/{number}", managed.label())).find(|name| !names.contains(name));
        attributes.entry("name").or_insert_with(|| text(&free.expect("more numbers than entities")));
    }
    // Those of its identity, which is not to be another once it is there.
    for key in ["host", "port"] {
        let default = managed.column(key).and_then(|column| column.default);
        if let Some(default) = default {
            attributes.entry(key).or_insert_with(|| text(default));
        }
    }
    identify(managed, &mut attributes);
    let name = &attributes["name"];
    let is_taken =
        |managed: &'static Managed| list(managed, entities).iter().any(|(_, entity)| entity["name"] == *name);
    let rivals = MANAGED.iter().filter(|other| match managed.is_core {
        true => other.name == managed.name,
        false => is_concrete(other) && !other.is_core,
    });
    if let Some(other) = rivals.into_iter().find(|other| is_taken(other)) {
        let name = name.as_text().unwrap_or_default();
        return Err(Failure::bad_request(format!("there is a {} with the name `{name}` already", other.full_name())));
    }
    let change = Change::new(Action::Create, managed, attributes);
    Ok(Change { configuration: check(managed, Some(&change.attributes), &change.identity, entities)?, ..*change }
        .into())
}

fn update(
    request: &Request,
    managed: &'static Managed,
    entity: Attributes,
    entities: &impl Entities,
) -> Result<Step, Failure> {
    let mut attributes = entity.clone();
    let (mut is_any_known, mut changed) = (false, Vec::new());
    for (key, value) in request.map()? {
        let column = match known_column(managed, key) {
            // What it does not know does not bother the core.
            Err(_) if managed.is_core => continue,
            other => other?,
        };
        is_any_known |= column.is_updatable;
        let now = entity.get(column.name).unwrap_or(&Value::Null);
        if !column.is_updatable && to_text(now) != to_text(value) {
            return Err(Failure::bad_request(format!("`{}` is not for UPDATE to set", column.name)));
        }
        changed.extend((now != value).then_some(column.name));
        attributes.insert(column.name, value.clone());
    }
    if managed.is_core && !is_any_known {
        return Err(Failure::bad_request("nothing that UPDATE can set is given"));
    }
    attributes.retain(|_, value| *value != Value::Null);
    let change = Change::new(Action::Update, managed, attributes);
    let configuration = check(managed, Some(&change.attributes), &change.identity, entities)?;
    Ok(Change { changed, configuration, ..*change }.into())
}

fn known_column(managed: &'static Managed, key: &Value) -> Result<Column, Failure> {
    let unknown = || {
        let key = key.as_text().map_or_else(|| format!("{key:?}"), str::to_owned);
        Failure::bad_request(format!("there is no attribute `{key}` of {}", managed.full_name()))
    };
    key.as_text().and_then(|key| managed.column(key)).ok_or_else(unknown)
}

/// What a configuration file with the entity, or without it, says, as far as it matters to the entity. It passes the same
/// checks.
fn check(
    managed: &'static Managed,
    attributes: Option<&Attributes>,
    identity: &str,
    entities: &impl Entities,
) -> Result<Option<Configuration>, Failure> {
    let Some(kind) = managed.configured() else { return Ok(None) };
    let configured = |managed: &Managed, entity: &Attributes| {
        // Defaults are what it has anyway, and some cannot be given.
        let is_given = |(name, value): &(&&'static str, &Value)| match managed.column(name) {
            Some(column) if column.kind.is_some() => column.is_required || column.default != Some(&to_text(value)),
            _ => **name == "name",
        };
        let given = entity.iter().filter(is_given);
        Json::Object(given.map(|(name, value)| ((*name).to_owned(), to_json(value))).collect())
    };
    let own = match managed.name {
        "listenerAddress" => Some("tcpListener"),
        "log" => Some("log"),
        _ => None,
    };
    let references = REFERENCES.into_iter().chain(own).filter_map(Managed::of);
    let is_other = |(_, entity): &(_, Attributes)| entity.get("identity").and_then(Value::as_text) != Some(identity);
    let beside = references.flat_map(|managed| list(managed, entities)).filter(is_other);
    let mut items: Vec<_> = beside
        .map(|(managed, entity)| Json::from(vec![managed.label().into(), configured(managed, &entity)]))
        .collect();
    items.extend(attributes.map(|attributes| Json::from(vec![kind.name.into(), configured(managed, attributes)])));
    // A request names no variables of the router's environment.
    let verbatim = |name: &str| Some(format!("${{{name}}}"));
    let configuration = Configuration::parse(&Json::from(items).to_string(), verbatim);
    configuration.map(Some).map_err(|error| Failure::bad_request(error.to_string()))
}

/// Gives an entity its identity, and a name if it has none.
fn identify(managed: &'static Managed, attributes: &mut Attributes) {
    let default = |column: &str| managed.column(column)?.default.map(str::to_owned);
    let get = |key: &str| attributes.get(key).map(to_text).or_else(|| default(key)).unwrap_or_default();
    let label = managed.label();
    let mut parts: Vec<_> = match managed.name {
        "listener" | "connector" | "tcpListener" | "tcpConnector" => vec![get("host"), get("port")],
        "listenerAddress" => vec![get("listener"), get("address")],
        "router" => vec![get("id")],
        "log" => vec![get("module")],
        _ => Vec::new(),
    };
    let name = attributes.get("name").map(to_text);
    // One that was made without a name is called by its identity.
    let is_own = |name: &String| !name.starts_with(&format!("{label}/")) && !["router", "log"].contains(&managed.name);
    parts.extend(name.clone().filter(is_own));
    let identity = match name {
        Some(name) if parts.is_empty() => name,
        _ => format!("{label}/{}", parts.join(":")),
    };
    attributes.entry("name").or_insert_with(|| text(&identity));
    attributes.insert("identity", Value::String(identity));
}

/// The attributes of an entity, those of the original's core with what they have not.
fn as_map(managed: &Managed, entity: &Attributes) -> Value {
    let pairs =
        managed.columns().map(|column| (text(column.name), entity.get(column.name).cloned().unwrap_or(Value::Null)));
    Value::Map(pairs.filter(|(_, value)| managed.is_core || *value != Value::Null).collect())
}

// === the schema ===

fn schema() -> Value {
    // Of the types with two names the shorter one.
    let types = MANAGED.iter().map(|managed| (text(managed.label()), describe(managed))).collect();
    Value::Map(vec![(text("prefix"), text(PREFIX.trim_end_matches('.'))), (text("entityTypes"), Value::Map(types))])
}

fn describe(managed: &Managed) -> Value {
    let attribute = |column: Column| {
        let mut pairs = vec![(text("type"), column.describe_type())];
        pairs.extend(column.default.map(|default| (text("default"), column.value(default))));
        pairs.extend(column.is_required.then_some((text("required"), Value::Bool(true))));
        let is_unique = ["name", "identity"].contains(&column.name);
        pairs.extend(is_unique.then_some((text("unique"), Value::Bool(true))));
        (text(column.name), Value::Map(pairs))
    };
    let attributes = managed.columns().filter(|column| !["type", ""].contains(&column.name)).map(attribute).collect();
    let mut pairs =
        vec![(text("attributes"), Value::Map(attributes)), (text("fullyQualifiedType"), text(&managed.full_name()))];
    let operations: Vec<_> = managed.operations().map(text).collect();
    pairs.extend((!operations.is_empty()).then_some((text("operations"), Value::List(operations))));
    let is_single = managed.name == "management" || managed.configured().is_some_and(|kind| kind.is_single);
    pairs.extend(is_single.then_some((text("singleton"), Value::Bool(true))));
    Value::Map(pairs)
}

/// With `indent`, for people. (How deep is not theirs to say.)
fn json_schema(is_indented: bool) -> String {
    let schema = to_json(&schema());
    if is_indented { format!("{schema:#}") } else { schema.to_string() }
}

// === values ===

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

impl Column {
    /// A value in the attribute's own type: numbers may be given as text, and text as numbers.
    fn typed(&self, value: &Value) -> Value {
        match value {
            Value::Map(_) | Value::List(_) => value.clone(),
            _ => self.value(&to_text(value)),
        }
    }
}

/// A value as people write it, whatever its type is.
fn to_text(value: &Value) -> String {
    match to_json(value) {
        Json::String(text) => text,
        other => other.to_string(),
    }
}

/// A value as a configuration file has it. What it cannot have is told by what it is.
fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(truth) => Json::Bool(*truth),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(pairs) => Json::Object(pairs.iter().map(|(key, value)| (to_text(key), to_json(value))).collect()),
        Value::Ulong(number) => Json::from(*number),
        other => match (other.as_text(), other.as_integer()) {
            (Some(text), _) => Json::from(text),
            (_, Some(number)) => Json::from(number),
            _ => Json::Array(vec![Json::from(format!("{other:?}"))]),
        },
    }
}

impl Change {
    fn new(action: Action, managed: &'static Managed, attributes: Attributes) -> Box<Self> {
        let get = |key| attributes.get(key).map(to_text).unwrap_or_default();
        let (name, identity) = (get("name"), get("identity"));
        Box::new(Self { action, managed, name, identity, attributes, changed: Vec::new(), configuration: None })
    }

    /// Whether an update gives an attribute another value.
    pub fn is_changed(&self, name: &str) -> bool {
        self.changed.contains(&name)
    }

    /// The answer once it is done, or was not.
    pub fn answer(&self, outcome: Result<(), Failure>, entities: &impl Entities) -> Answer {
        let status = match (outcome, self.action) {
            (Err(failure), _) => return failure.into(),
            (Ok(()), Action::Delete) => return Answer::new(Status::NoContent, Value::Map(Vec::new())),
            (Ok(()), Action::Create) => Status::Created,
            (Ok(()), Action::Update) => Status::Ok,
        };
        let listed = list(self.managed, entities);
        let is_it =
            |(_, entity): &&(_, Attributes)| entity.get("identity").and_then(Value::as_text) == Some(&self.identity);
        let entity = listed.iter().find(is_it).map_or(&self.attributes, |(_, entity)| entity);
        Answer::new(status, as_map(self.managed, entity))
    }
}

impl From<Box<Change>> for Step {
    fn from(change: Box<Change>) -> Self {
        Self::Change(change)
    }
}

impl From<Change> for Step {
    fn from(change: Change) -> Self {
        Self::Change(change.into())
    }
}
