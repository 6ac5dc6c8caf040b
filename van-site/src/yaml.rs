//! YAML in and out; the only place that names the library for it.
//!
//! A stream is cut into its documents before any of them is read: a line that starts with `---` and goes on with white
//! space or not at all cannot be anything else, wherever it stands (YAML 1.2.2 §9.1.2). So a document that cannot be read
//! does not take the others with it. JSON is read as the YAML that it is.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_saphyr::{Localizer, Location, UserMessageFormatter};

/// How many values a document may have: a network of thousands of sites in the status of a Site.
const MAX_NODES: usize = 5_000_000;

/// How many values aliases may stand for.
const MAX_ALIASED: usize = 10_000;

/// The text of one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section<'a> {
    /// All of it, marker and comments included.
    pub text: &'a str,
    /// The octet of the stream where it starts.
    pub offset: usize,
    /// The line of the stream where it starts, from 1.
    pub line: usize,
}

/// What is wrong with a document, and where; shown without the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default())]
pub struct YamlError {
    /// The line of the stream, from 1.
    pub line: usize,
    /// The field, such as `spec.roles[1].port`, if it got that far.
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
}

/// Cuts a stream into its documents; those that say nothing are left out.
pub fn sections(stream: &str) -> Vec<Section<'_>> {
    let mut starts = vec![(0, 1)];
    let mut offset = 0;
    for (index, line) in stream.split_inclusive('\n').enumerate() {
        if is_marker(line, "---") && offset > 0 {
            starts.push((offset, index + 1));
        }
        offset += line.len();
    }
    let ends = starts.iter().skip(1).map(|(offset, _)| *offset).chain([stream.len()]);
    let sections =
        starts.iter().zip(ends).map(|(&(offset, line), end)| Section { text: &stream[offset..end], offset, line });
    sections.filter(|section| !is_silent(section.text)).collect()
}

/// Reads one document.
///
/// # Errors
/// [`YamlError`]: not YAML, or not the YAML of a `T`, or a key given twice, or aliases that grow without measure.
pub fn read<T: DeserializeOwned>(section: Section<'_>) -> Result<T, YamlError> {
    // Files are limited in size (`load::MAX_FILE_OCTETS`), so that only aliases can make much out of little.
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! { max_events: MAX_NODES * 2, max_nodes: MAX_NODES },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_ALIASED },
    };
    let mut field = None;
    let result = serde_saphyr::with_deserializer_from_str_with_options(section.text, options, |deserializer| {
        let mut track = serde_path_to_error::Track::new();
        T::deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track)).inspect_err(|_| {
            let path = track.path().to_string();
            field = Some(path.trim_end_matches(['.', '?']).to_owned()).filter(|path| !path.is_empty());
        })
    });
    result.map_err(|error| {
        let line = error.location().map_or(1, |location| location.line().max(1));
        let line = section.line + usize::try_from(line).unwrap_or(1) - 1;
        let message = error.render_with_formatter(&UserMessageFormatter.with_localizer(&WithoutPlace));
        YamlError { line, field, message: in_plain_words(message) }
    })
}

/// Writes one document, without a marker.
pub fn write(document: &impl Serialize) -> String {
    // Long lines stay lines: they are base64, or what somebody wrote so.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    serde_saphyr::to_string_with_options(document, options).expect("documents have only texts for keys")
}

/// Writes one document as JSON, for people to read.
pub fn to_json(document: &impl Serialize) -> String {
    serde_json::to_string_pretty(document).expect("documents have only texts for keys")
}

/// Says for authors of documents what the library says for programmers.
fn in_plain_words(message: String) -> String {
    match message.as_str() {
        "invalid u16" => "not a whole number from 0 to 65535".to_owned(),
        "invalid i32" | "invalid u32" | "invalid i64" => "not a whole number, or too large".to_owned(),
        "invalid boolean" => "neither true nor false".to_owned(),
        "expected string scalar" => "expected a text".to_owned(),
        "expected mapping start" => "expected fields, each with a name, a colon and a value".to_owned(),
        "expected sequence start" => "expected a list".to_owned(),
        _ => message,
    }
}

/// Messages without lines and columns, which would be those of the section.
struct WithoutPlace;

impl Localizer for WithoutPlace {
    fn attach_location<'a>(&self, base: Cow<'a, str>, _: Location) -> Cow<'a, str> {
        base
    }

    fn alias_defined_at(&self, _: Location) -> String {
        String::new()
    }

    fn alias_used_at(&self, _: Location) -> String {
        String::new()
    }
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether there are only comments, directives, markers and white space.
fn is_silent(text: &str) -> bool {
    text.lines().all(|line| {
        let rest = if is_marker(line, "---") || is_marker(line, "...") { &line[3..] } else { line };
        line.starts_with('%') || rest.trim().is_empty() || rest.trim().starts_with('#')
    })
}
