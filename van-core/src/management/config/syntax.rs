//! The two ways a configuration file is written, as skupper-router takes them: a JSON list of `["type", {attributes}]` pairs,
//! and the older `.conf`.
//!
//! ```text
//! # a comment
//! listener {
//!     host: 0.0.0.0        # to the end of the line
//!     saslMechanisms: ANONYMOUS PLAIN
//!     openProperties: {
//!         "color": "blue"
//!     }
//! }
//! ```
//!
//! Here a line is all of an attribute; its value is a text, or JSON in braces. Beyond the original, a value may be a JSON text
//! in quotes: so it may begin with a brace, and hold what else begins a comment.

use serde_json::{Deserializer, Map, Value};

use super::Fault;

/// An entity as it is written.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) type_name: String,
    pub(super) attributes: Map<String, Value>,
}

/// Attributes whose values may hold what else begins a comment, `#`: they end at a blank.
const WITH_HASHES: [&str; 3] = ["pattern", "bindingKey", "hostname"];

/// The entities of a file, each with its number, and what is wrong with the others. JSON begins with a bracket, the older
/// syntax with a word.
pub(super) fn read(text: &str) -> (Vec<(usize, Pair)>, Vec<Fault>) {
    let text = blank_comments(text);
    match text.trim_start().chars().next() {
        Some(first) if first.is_alphanumeric() => read_conf(&text),
        _ => read_json(&text),
    }
}

/// Both syntaxes know lines that are comments. They stay as empty ones, so that numbers of lines are true.
fn blank_comments(text: &str) -> String {
    let blank = |line: &'_ str| if line.trim_start().starts_with('#') { "" } else { line }.to_owned() + "\n";
    text.lines().map(blank).collect()
}

/// Names may be written with hyphens: `ssl-profile` is `sslProfile`.
fn camel_case(name: &str) -> String {
    let mut words = name.split(['-', '_', ' ']);
    let first = words.next().unwrap_or_default().to_owned();
    let capitalized = words.map(|word| {
        let mut characters = word.chars();
        let initial = characters.next().map(|initial| initial.to_ascii_uppercase());
        initial.into_iter().chain(characters.map(|character| character.to_ascii_lowercase())).collect::<String>()
    });
    first + &capitalized.collect::<String>()
}

fn fault(place: impl Into<String>, message: impl Into<String>) -> Fault {
    Fault { place: place.into(), message: message.into() }
}

// === JSON ===

fn read_json(text: &str) -> (Vec<(usize, Pair)>, Vec<Fault>) {
    let items = match serde_json::from_str(text) {
        Ok(Value::Array(items)) => items,
        Ok(_) => return (Vec::new(), vec![fault("", "expected a JSON list of [\"type\", {attributes}] pairs")]),
        Err(error) => return (Vec::new(), vec![fault("", format!("not JSON: {error}"))]),
    };
    let (mut pairs, mut faults) = (Vec::new(), Vec::new());
    for (number, item) in (1..).zip(items) {
        match pair(item) {
            Some(pair) => pairs.push((number, pair)),
            None => faults.push(fault(format!("entity {number}"), "expected a pair [\"type\", {attributes}]")),
        }
    }
    (pairs, faults)
}

fn pair(item: Value) -> Option<Pair> {
    let Value::Array(items) = item else { return None };
    let Ok([Value::String(type_name), Value::Object(attributes)]) = <[Value; 2]>::try_from(items) else { return None };
    let attributes = attributes.into_iter().map(|(key, value)| (camel_case(&key), value)).collect();
    Some(Pair { type_name: camel_case(&type_name), attributes })
}

// === the older syntax ===

fn read_conf(text: &str) -> (Vec<(usize, Pair)>, Vec<Fault>) {
    let mut reading = Conf { text, rest: text, pairs: Vec::new() };
    let faults = reading.read().err().into_iter().collect();
    ((1..).zip(reading.pairs).collect(), faults)
}

struct Conf<'a> {
    text: &'a str,
    /// What is not read yet: from the start of a line.
    rest: &'a str,
    pairs: Vec<Pair>,
}

impl<'a> Conf<'a> {
    fn read(&mut self) -> Result<(), Fault> {
        while let Some((line, text)) = self.line() {
            let is_opened = without_comment(text).strip_suffix('{').map(str::trim).filter(|name| is_word(name));
            let Some(name) = is_opened else {
                return Err(self.fault(line, format!("expected `type {{`, not `{text}`")));
            };
            let attributes = self.attributes(line)?;
            self.pairs.push(Pair { type_name: camel_case(name), attributes });
        }
        Ok(())
    }

    /// Those of an entity that begins at a line, up to its end.
    fn attributes(&mut self, start: &'a str) -> Result<Map<String, Value>, Fault> {
        let mut attributes = Map::new();
        while let Some((line, text)) = self.line() {
            if without_comment(text) == "}" {
                return Ok(attributes);
            }
            let pair = text.split_once(':').map(|(key, value)| (key.trim_end(), value.trim_start()));
            let Some((key, value)) = pair.filter(|(key, value)| is_word(key) && !value.is_empty()) else {
                return Err(self.fault(line, format!("expected `attribute: value` or `}}`, not `{text}`")));
            };
            let value = match value.as_bytes()[0] {
                b'{' | b'"' => self.json(value).map_err(|error| self.fault(line, format!("`{key}`: {error}")))?,
                _ if WITH_HASHES.contains(&key) => value.split_whitespace().next().unwrap_or_default().into(),
                _ => unescape(without_comment(value)).map_err(|error| self.fault(line, format!("`{key}`: {error}")))?,
            };
            attributes.insert(camel_case(key), value);
        }
        Err(self.fault(start, "the entity that begins here does not end: add a line `}`"))
    }

    /// The next line with something in it: from its start, and without blanks around.
    fn line(&mut self) -> Option<(&'a str, &'a str)> {
        loop {
            let line = Some(self.rest).filter(|rest| !rest.is_empty())?;
            let (text, behind) = line.split_once('\n').unwrap_or((line, ""));
            self.rest = behind;
            if !text.trim().is_empty() {
                return Some((line, text.trim()));
            }
        }
    }

    /// A JSON value that begins in the line just read and ends with a line.
    fn json(&mut self, start: &'a str) -> Result<Value, String> {
        let from = &self.text[self.offset(start)..];
        let mut values = Deserializer::from_str(from).into_iter();
        let value = values.next().unwrap_or(Ok(Value::Null)).map_err(|error| format!("not JSON: {error}"))?;
        let (end, behind) =
            from[values.byte_offset()..].split_once('\n').unwrap_or((&from[values.byte_offset()..], ""));
        self.rest = behind;
        match without_comment(end.trim()) {
            "" => Ok(value),
            more => Err(format!("`{more}` is more than one value")),
        }
    }

    /// Where a part of the text begins.
    fn offset(&self, part: &str) -> usize {
        part.as_ptr() as usize - self.text.as_ptr() as usize
    }

    fn fault(&self, at: &str, message: impl Into<String>) -> Fault {
        let number = 1 + self.text[..self.offset(at)].matches('\n').count();
        fault(format!("line {number}"), message)
    }
}

fn without_comment(text: &str) -> &str {
    text.split('#').next().unwrap_or_default().trim_end()
}

/// A backslash means what it means in JSON.
fn unescape(text: &str) -> Result<Value, String> {
    if !text.contains('\\') {
        return Ok(text.into());
    }
    serde_json::from_str::<String>(&format!("\"{text}\""))
        .map(Value::from)
        .map_err(|error| format!("not JSON: {error}"))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|character| character.is_alphanumeric() || "-_.".contains(character))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Value) {
        let (pairs, faults) = read(text);
        assert!(faults.is_empty(), "{faults:?}");
        let pairs = pairs.into_iter().map(|(_, pair)| json!([pair.type_name, pair.attributes])).collect();
        assert_eq!(Value::Array(pairs), expected);
    }

    #[track_caller]
    fn check_fault(text: &str, expected: &str) {
        let faults: Vec<_> = read(text).1.iter().map(Fault::to_string).collect();
        assert_eq!(faults, [expected]);
    }

    #[test]
    fn a_line_is_an_attribute_up_to_a_comment() {
        check(
            "# all\n\nlistener { # one\n  host : ::1\nport:5672# two\n\t# three\n  name: a: {b}\n}\nrouter{\n}\n",
            json!([["listener", {"host": "::1", "port": "5672", "name": "a: {b}"}], ["router", {}]]),
        );
    }

    #[test]
    fn a_pattern_keeps_its_hashes_and_ends_at_a_blank() {
        check("address {\n pattern: a/#/b  # any\n}", json!([["address", {"pattern": "a/#/b"}]]));
    }

    #[test]
    fn names_may_have_hyphens_in_both_syntaxes() {
        let expected = json!([["sslProfile", {"caCertFile": "x"}]]);
        check("ssl-profile {\n ca-cert-file: x\n}", expected.clone());
        check(r#"[["ssl-profile", {"ca-cert-file": "x"}]]"#, expected);
    }

    #[test]
    fn json_stands_in_braces_or_quotes_and_ends_with_its_line() {
        check(
            "listener {\n openProperties: {\n  \"a\": {\n# no\n \"b\": [1, \"}\"] }\n }  # end\n name: \"a # b\\n\" # c\n}",
            json!([["listener", {"openProperties": {"a": {"b": [1, "}"]}}, "name": "a # b\n"}]]),
        );
        check_fault("a {\n b: {\"c\": 1} 2\n}", "line 2: `b`: `2` is more than one value");
        check_fault("a {\n b: {\n \"c\": }\n}", "line 2: `b`: not JSON: expected value at line 2 column 7");
    }

    #[test]
    fn a_backslash_means_what_it_means_in_json() {
        check("a {\n b: c\\\\d\\\"e\\u0041 \"f\n}".replace(" \"f", "").as_str(), json!([["a", {"b": "c\\d\"eA"}]]));
        check_fault("a {\n b: c\\d\n}", "line 2: `b`: not JSON: invalid escape at line 1 column 4");
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_line() {
        check_fault("router\n{\n}", "line 1: expected `type {`, not `router`");
        check_fault("router {\n mode interior\n}", "line 2: expected `attribute: value` or `}`, not `mode interior`");
        check_fault(
            "router {\n}\nlistener {\n port: 1",
            "line 3: the entity that begins here does not end: add a line `}`",
        );
        check_fault("router {\n} }\n", "line 2: expected `attribute: value` or `}`, not `} }`");
    }

    #[test]
    fn lines_of_json_may_be_comments() {
        check("# made by hand\n[\n  # one\n  [\"router\", {}]\n]", json!([["router", {}]]));
        assert_eq!(read("[\n# one\n}").1[0].to_string(), "not JSON: expected value at line 3 column 1");
    }
}
