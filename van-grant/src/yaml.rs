//! YAML, behind three functions, so that its library can be replaced. What is read comes from strangers.

use serde::Serialize;
use serde::de::DeserializeOwned;
/// Writes a text of several lines as such.
pub(crate) use serde_saphyr::LitStr;
use serde_saphyr::{Options, budget, options, ser_options};

/// Why a text is not the document that was expected; whoever wrote it is to correct it.
///
/// It names the line and the field, but quotes no value: secrets are in these documents.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct YamlError(String);

/// Reads one document.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    serde_saphyr::from_str_with_options(text, limits()).map_err(error)
}

/// Reads all documents of a stream.
pub(crate) fn read_all<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, YamlError> {
    serde_saphyr::from_multiple_with_options(text, limits()).map_err(error)
}

/// Appends one document, as Kubernetes writes it: block style, lists not indented, long texts on one line.
pub(crate) fn write<T: Serialize>(out: &mut String, document: &T) {
    let options = ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_fmt_writer_with_options(out, document, options).expect("plain structs, written to memory");
}

/// Enough for a hundred Links; no document needs aliases.
fn limits() -> Options {
    options! {
        budget: budget! { max_aliases: 0, max_anchors: 0, max_nodes: 10_000 },
        with_snippet: false,
    }
}

fn error(error: serde_saphyr::Error) -> YamlError {
    YamlError(error.to_string())
}
