//! Logs, as the `log` entities of the configuration ask for them.
//!
//! A module of the original's becomes the parts of ours that do the same; modules of which we have nothing are accepted and
//! stay silent. `RUST_LOG`, if set, is used instead of the entities.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex};

use anyhow::{Context, bail};
use clap::ValueEnum;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};
use van_core::management::config::Log;

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The parts of ours that do what a module of the original does; the first that a target starts with counts.
const MODULES: &[(&str, &[&str])] = &[
    ("ROUTER", &["van_adaptors::control"]),
    ("ROUTER_LS", &["van_routing"]),
    ("CONN_MGR", &["van_adaptors::amqp"]),
    ("TCP_ADAPTOR", &["van_adaptors::tcp", "van_adaptors::shard"]),
    ("HTTP", &["van_adaptors::web"]),
];

/// From the one that says most.
const LEVELS: [(&str, Level); 6] = [
    ("trace", Level::TRACE),
    ("debug", Level::DEBUG),
    ("info", Level::INFO),
    ("warning", Level::WARN),
    ("error", Level::ERROR),
    ("critical", Level::ERROR),
];

/// What of one part is logged, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    levels: Vec<Level>,
    output: String,
}

/// Rules by what a target starts with; the empty text is the default.
#[derive(Debug, Clone)]
struct Rules(BTreeMap<String, Rule>);

/// Starts logging for the process.
///
/// # Errors
/// A level that does not exist, or a file that cannot be written.
pub(crate) fn start(logs: &[Log], format: Format) -> anyhow::Result<()> {
    if let Ok(filter) = EnvFilter::try_from_default_env() {
        Registry::default().with(layer("stderr", format)?.with_filter(filter)).init();
        return Ok(());
    }
    let rules = Arc::new(Rules::read(logs)?);
    let mut outputs: Vec<_> = rules.0.values().map(|rule| rule.output.clone()).collect();
    outputs.sort();
    outputs.dedup();
    let mut layers = Vec::new();
    for output in outputs {
        let (rules, of) = (Arc::clone(&rules), output.clone());
        layers.push(layer(&output, format)?.with_filter(filter_fn(move |event| rules.allow(event, &of))).boxed());
    }
    Registry::default().with(layers).init();
    Ok(())
}

fn layer(output: &str, format: Format) -> anyhow::Result<Box<dyn Layer<Registry> + Send + Sync>> {
    let (writer, is_terminal) = match output {
        "stderr" => (BoxMakeWriter::new(std::io::stderr), std::io::stderr().is_terminal()),
        "stdout" => (BoxMakeWriter::new(std::io::stdout), std::io::stdout().is_terminal()),
        path => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.with_context(|| format!("log: cannot write outputFile {path}"))?;
            (BoxMakeWriter::new(Mutex::new(file)), false)
        }
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(is_terminal);
    Ok(match format {
        Format::Text => layer.boxed(),
        Format::Json => layer.json().boxed(),
    })
}

impl Rules {
    fn read(logs: &[Log]) -> anyhow::Result<Self> {
        let mut rules = BTreeMap::from([(String::new(), Rule { levels: levels("info+")?, output: "stderr".into() })]);
        // The default first, whatever its place: the others take from it what they do not say.
        let is_default = |log: &&Log| log.module == "DEFAULT";
        for log in logs.iter().filter(is_default).chain(logs.iter().filter(|log| !is_default(log))) {
            let mut rule = rules[""].clone();
            if log.enable != "default" {
                rule.levels = levels(&log.enable).with_context(|| format!("log \"{}\"", log.module))?;
            }
            rule.output = log.output_file.clone().unwrap_or(rule.output);
            let targets = MODULES.iter().find(|(module, _)| *module == log.module).map(|(_, targets)| *targets);
            let targets = if is_default(&log) { &[""] } else { targets.unwrap_or_default() };
            rules.extend(targets.iter().map(|target| ((*target).to_owned(), rule.clone())));
        }
        Ok(Self(rules))
    }

    fn allow(&self, event: &Metadata<'_>, output: &str) -> bool {
        let matching = self.0.iter().filter(|(target, _)| event.target().starts_with(target.as_str()));
        let rule = matching.max_by_key(|(target, _)| target.len()).map(|(_, rule)| rule);
        rule.is_some_and(|rule| rule.output == output && rule.levels.contains(event.level()))
    }
}

/// The levels of `info+`, `error`, `trace,debug` or `none`.
fn levels(text: &str) -> anyhow::Result<Vec<Level>> {
    let mut levels = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !["", "none"].contains(word)) {
        let name = word.strip_suffix('+').unwrap_or(word);
        // The original knows `notice` between info and warning.
        let name = if name == "notice" { "info" } else { name };
        let Some(place) = LEVELS.iter().position(|(known, _)| *known == name) else {
            bail!(
                "unknown level `{word}` in `enable`; use trace, debug, info, warning, error, critical or none, with + for it and all above"
            );
        };
        let end = if word.ends_with('+') { LEVELS.len() } else { place + 1 };
        levels.extend(LEVELS[place..end].iter().map(|(_, level)| *level));
    }
    Ok(levels)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn log(module: &str, enable: &str, output: Option<&str>) -> Log {
        Log {
            module: module.into(),
            enable: enable.into(),
            output_file: output.map(str::to_owned),
            includes_timestamp: None,
            includes_source: None,
        }
    }

    #[test]
    fn levels_are_read_as_the_original_writes_them() {
        assert_eq!(levels("error+").unwrap(), [Level::ERROR, Level::ERROR]);
        assert_eq!(levels("debug,error").unwrap(), [Level::DEBUG, Level::ERROR]);
        assert!(levels("none").unwrap().is_empty());
        assert!(levels("info+").unwrap().contains(&Level::WARN));
        assert!(levels("loud").is_err());
    }

    /// A target that nothing logs under would silence its module unnoticed.
    #[test]
    fn something_is_logged_under_every_target() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for target in MODULES.iter().flat_map(|(_, targets)| *targets) {
            let (name, path) = target.split_once("::").unwrap_or((target, ""));
            let place = workspace.join(name.replace('_', "-")).join("src").join(path.replace("::", "/"));
            assert!(does_log(&place) || does_log(&place.with_extension("rs")), "nothing logs as {target}");
        }
    }

    fn does_log(place: &Path) -> bool {
        match fs::read_dir(place) {
            Ok(entries) => entries.flatten().any(|entry| does_log(&entry.path())),
            Err(_) => fs::read_to_string(place).is_ok_and(|text| text.contains("use tracing::")),
        }
    }

    #[test]
    fn modules_take_from_the_default_what_they_do_not_say() {
        let rules = Rules::read(&[log("ROUTER", "debug+", None), log("DEFAULT", "error+", Some("/tmp/x"))]).unwrap();
        assert_eq!(rules.0["van_adaptors::control"].output, "/tmp/x");
        assert!(rules.0["van_adaptors::control"].levels.contains(&Level::DEBUG));
        assert!(!rules.0[""].levels.contains(&Level::WARN));
    }
}
