//! YAML in and out; the only place that names the library for it.
//!
//! A stream is cut into its documents before any of them is read: a line that starts with `---` and goes on with white
//! space or not at all cannot be anything else, wherever it stands (YAML 1.2.2 §9.1.2). So a document that cannot be read
//! does not take the others with it. JSON is read as the YAML that it is.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The text of one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section<'a> {
    /// All of it, comments included.
    pub text: &'a str,
    /// The line of the stream where it starts, from 1.
    pub line: usize,
}

/// What is wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
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
    let mut sections = Vec::new();
    let mut start = Section { text: stream, line: 1 };
    let mut offset = 0;
    for (index, line) in stream.split_inclusive('\n').enumerate() {
        let begun = stream.len() - start.text.len();
        if is_marker(line, "---") {
            sections.push(Section { text: &stream[begun..offset], line: start.line });
            // The marker's line may carry the beginning of the document.
            start = Section { text: &stream[offset..], line: index + 1 };
        }
        offset += line.len();
    }
    sections.push(start);
    sections.retain(|section| !is_silent(section.text));
    sections
}

/// Reads one document.
///
/// # Errors
/// [`YamlError`]: not YAML, or not the YAML of a `T`, or a key given twice, or aliases that grow without measure.
pub fn read<T: DeserializeOwned>(section: Section<'_>) -> Result<T, YamlError> {
    let options = serde_saphyr::options! { with_snippet: false };
    let mut field = None;
    let result = serde_saphyr::with_deserializer_from_str_with_options(section.text, options, |deserializer| {
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(deserializer, &mut track);
        T::deserialize(tracked).inspect_err(|_| {
            field = Some(track.path().to_string()).filter(|path| path != ".");
        })
    });
    result.map_err(|error| {
        let line = error.location().map_or(1, |location| usize::try_from(location.line()).unwrap_or(1));
        YamlError { line: section.line + line.max(1) - 1, field, message: error.to_string() }
    })
}

/// Writes one document, without a marker.
pub fn write(document: &impl Serialize) -> String {
    serde_saphyr::to_string(document).expect("documents have only texts for keys")
}

/// Writes one document as JSON, for people to read.
pub fn to_json(document: &impl Serialize) -> String {
    serde_json::to_string_pretty(document).expect("documents have only texts for keys")
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether there are only comments, markers and white space.
fn is_silent(text: &str) -> bool {
    text.lines().all(|line| {
        let rest = if is_marker(line, "---") || is_marker(line, "...") { &line[3..] } else { line };
        let rest = rest.trim();
        rest.is_empty() || rest.starts_with('#')
    })
}
