//! Logs, as the `log` entities of the configuration, or of management, ask for them.
//!
//! A module of the original's becomes the parts of ours that do the same; modules of which we have nothing are accepted and
//! stay silent. `RUST_LOG`, if set, is used instead of the entities.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use anyhow::{Context, bail};
use clap::ValueEnum;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, JsonFields};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, layer};
use van_adaptors::{LogLine, LogLines, Logs};
use van_core::management::config::Log;

/// Lines of the log that are remembered, for management to show.
const MAX_RECENT: usize = 1000;

/// Octets of such a line.
const MAX_LINE: usize = 1000;

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
    ("AGENT", &["van_adaptors::management"]),
    ("PROTOCOL", &[FRAMES]),
];

/// Frames of connections that somebody wants to see: logged whatever the module's level is.
const FRAMES: &str = "van_adaptors::protocol";

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
    has_time: bool,
    has_source: bool,
}

/// Rules by what a target starts with; the empty text is the default.
#[derive(Debug, Clone)]
struct Rules(BTreeMap<String, Rule>);

/// Where lines go.
#[derive(Debug, Clone)]
enum Output {
    Stderr,
    Stdout,
    File(Arc<File>),
}

/// The log of the process.
#[derive(Debug)]
pub(crate) struct Logging {
    /// What is logged, and the outputs that are open; nothing if the environment decides.
    rules: Option<RwLock<(Rules, BTreeMap<String, Output>)>>,
    recent: Mutex<VecDeque<LogLine>>,
    /// Lines so far, by module: see [`Logs::counts`].
    counts: Mutex<BTreeMap<String, [u64; 4]>>,
}

/// Starts logging for the process.
///
/// # Errors
/// A level that does not exist, or a file that cannot be written.
pub(crate) fn start(logs: &[Log], format: Format, lines: LogLines) -> anyhow::Result<Arc<Logging>> {
    let environment = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|wanted| !wanted.trim().is_empty());
    let environment = environment.map(EnvFilter::try_new).transpose();
    let environment = environment.with_context(|| format!("{} is not understood", EnvFilter::DEFAULT_ENV))?;
    let rules = match environment {
        Some(_) => None,
        None => Some(RwLock::new(Rules::read(logs)?.open(&BTreeMap::new())?)),
    };
    let logging = Arc::new(Logging { rules, recent: Mutex::default(), counts: Mutex::default() });
    let layers = [true, false].map(|is_terminal| {
        let (shown, written) = (Arc::clone(&logging), Arc::clone(&logging));
        let writer = Writer { logging: written };
        let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(is_terminal);
        let line = Line { logging: Arc::clone(&logging), format };
        let layer = match format {
            Format::Text => layer.event_format(line).boxed(),
            Format::Json => layer.fmt_fields(JsonFields::new()).event_format(line).boxed(),
        };
        let is_for =
            move |event: &Metadata<'_>| shown.output(event).is_some_and(|output| output.is_terminal() == is_terminal);
        layer.with_filter(filter_fn(is_for)).boxed()
    });
    let kept = Arc::clone(&logging);
    let memory = Memory(Arc::clone(&logging)).with_filter(filter_fn(move |event| kept.output(event).is_some()));
    Registry::default().with(environment).with(Vec::from(layers)).with(memory).with(lines).init();
    Ok(logging)
}

impl Logging {
    /// Where an event goes, if it is logged.
    fn output(&self, event: &Metadata<'_>) -> Option<Output> {
        let Some(rules) = &self.rules else { return Some(Output::Stderr) };
        let (rules, outputs) = &*rules.read().unwrap_or_else(PoisonError::into_inner);
        outputs.get(rules.output(event)?).cloned()
    }

    /// Whether the line of an event has the time, and its place in the source.
    fn parts(&self, event: &Metadata<'_>) -> (bool, bool) {
        let Some(rules) = &self.rules else { return (true, false) };
        let rules = rules.read().unwrap_or_else(PoisonError::into_inner);
        rules.0.of(event).map_or((true, false), |rule| (rule.has_time, rule.has_source))
    }
}

impl Logs for Logging {
    fn recent(&self, limit: usize) -> Vec<LogLine> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().skip(recent.len().saturating_sub(limit)).cloned().collect()
    }

    fn counts(&self) -> BTreeMap<String, [u64; 4]> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn configure(&self, logs: &[Log]) -> Result<(), String> {
        let Some(rules) = &self.rules else { return Err("RUST_LOG says what is logged; unset it".into()) };
        let read = || {
            let open = rules.read().unwrap_or_else(PoisonError::into_inner).1.clone();
            Rules::read(logs)?.open(&open)
        };
        let new = read().map_err(|error| format!("{error:#}"))?;
        *rules.write().unwrap_or_else(PoisonError::into_inner) = new;
        // What was asked once whether it is logged is asked again.
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }
}

impl Output {
    fn is_terminal(&self) -> bool {
        match self {
            Self::Stderr => io::stderr().is_terminal(),
            Self::Stdout => io::stdout().is_terminal(),
            Self::File(_) => false,
        }
    }
}

/// Writes lines where they are to go.
struct Writer {
    logging: Arc<Logging>,
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Box<dyn io::Write>;

    fn make_writer(&'a self) -> Self::Writer {
        Box::new(io::sink())
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Self::Writer {
        match self.logging.output(event) {
            Some(Output::Stderr) => Box::new(io::stderr()),
            Some(Output::Stdout) => Box::new(io::stdout()),
            Some(Output::File(file)) => Box::new(file),
            None => Box::new(io::sink()),
        }
    }
}

/// How a line looks, by the rule of its target.
struct Line {
    logging: Arc<Logging>,
    format: Format,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (has_time, has_source) = self.logging.parts(event.metadata());
        let line = format::format().with_file(has_source).with_line_number(has_source);
        match (self.format, has_time) {
            (Format::Text, true) => line.format_event(context, writer, event),
            (Format::Text, false) => line.without_time().format_event(context, writer, event),
            (Format::Json, true) => line.json().format_event(context, writer, event),
            (Format::Json, false) => line.json().without_time().format_event(context, writer, event),
        }
    }
}

/// Remembers the last lines.
struct Memory(Arc<Logging>);

impl<S: Subscriber> Layer<S> for Memory {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        let metadata = event.metadata();
        let mut text = Text(String::new());
        event.record(&mut text);
        text.0.truncate(text.0.floor_char_boundary(MAX_LINE));
        let line = LogLine {
            module: module(metadata.target()).to_owned(),
            level: match *metadata.level() {
                Level::WARN => "warning",
                level => LEVELS.iter().find(|(_, known)| *known == level).map_or("info", |(name, _)| name),
            },
            text: text.0,
            place: metadata.file().zip(metadata.line()),
            at: SystemTime::now(),
        };
        {
            let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let place = match *metadata.level() {
                Level::ERROR => 3,
                Level::WARN => 2,
                Level::INFO => 1,
                _ => 0,
            };
            // Not made anew for every line.
            match counts.get_mut(&line.module) {
                Some(counts) => counts[place] += 1,
                None => counts.entry(line.module.clone()).or_default()[place] += 1,
            }
        }
        let mut recent = self.0.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == MAX_RECENT {
            recent.pop_front();
        }
        recent.push_back(line);
    }
}

/// The original's module of a part of ours, or else the part.
fn module(target: &str) -> &str {
    let of = MODULES.iter().find(|(_, targets)| targets.iter().any(|known| target.starts_with(known)));
    of.map_or(target, |(module, _)| module)
}

/// The fields of an event, the message first.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

impl Rules {
    fn read(logs: &[Log]) -> anyhow::Result<Self> {
        let rule = Rule { levels: levels("info+")?, output: "stderr".into(), has_time: true, has_source: false };
        let mut rules = BTreeMap::from([(String::new(), rule)]);
        // The default first, whatever its place: the others take from it what they do not say.
        let is_default = |log: &&Log| log.module == "DEFAULT";
        for log in logs.iter().filter(is_default).chain(logs.iter().filter(|log| !is_default(log))) {
            let mut rule = rules[""].clone();
            if log.enable != "default" {
                rule.levels = levels(&log.enable).with_context(|| format!("log \"{}\"", log.module))?;
            }
            rule.output = log.output_file.clone().unwrap_or(rule.output);
            rule.has_time = log.includes_timestamp.unwrap_or(rule.has_time);
            rule.has_source = log.includes_source.unwrap_or(rule.has_source);
            let targets = MODULES.iter().find(|(module, _)| *module == log.module).map(|(_, targets)| *targets);
            let targets = if is_default(&log) { &[""] } else { targets.unwrap_or_default() };
            rules.extend(targets.iter().map(|target| ((*target).to_owned(), rule.clone())));
        }
        Ok(Self(rules))
    }

    /// Opens all outputs that are not open yet.
    fn open(self, open: &BTreeMap<String, Output>) -> anyhow::Result<(Self, BTreeMap<String, Output>)> {
        let mut outputs = BTreeMap::new();
        for name in self.0.values().map(|rule| &rule.output) {
            let output = match (name.as_str(), open.get(name)) {
                ("stderr", _) => Output::Stderr,
                ("stdout", _) => Output::Stdout,
                (_, Some(output)) => output.clone(),
                (path, None) => {
                    let file = OpenOptions::new().create(true).append(true).open(path);
                    Output::File(file.with_context(|| format!("log: cannot write outputFile {path}"))?.into())
                }
            };
            outputs.insert(name.clone(), output);
        }
        Ok((self, outputs))
    }

    /// The output of an event, if it is logged.
    fn output(&self, event: &Metadata<'_>) -> Option<&str> {
        let rule = self.of(event)?;
        (rule.levels.contains(event.level()) || event.target() == FRAMES).then_some(&rule.output)
    }

    fn of(&self, event: &Metadata<'_>) -> Option<&Rule> {
        let matching = self.0.iter().filter(|(target, _)| event.target().starts_with(target.as_str()));
        matching.max_by_key(|(target, _)| target.len()).map(|(_, rule)| rule)
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

    #[test]
    fn a_change_that_cannot_be_leaves_the_log_as_it_was() {
        let opened = Rules::read(&[log("DEFAULT", "error+", None)]).unwrap().open(&BTreeMap::new()).unwrap();
        let rules = Some(RwLock::new(opened));
        let logging = Logging { rules, recent: Mutex::default(), counts: Mutex::default() };
        let levels = |target: &str| logging.rules.as_ref().unwrap().read().unwrap().0.0.get(target).cloned();
        for bad in [log("DEFAULT", "loud", None), log("DEFAULT", "info+", Some("/nowhere/at/all"))] {
            assert!(logging.configure(&[bad]).is_err());
            assert_eq!(levels("").unwrap().levels, [Level::ERROR, Level::ERROR]);
        }
        logging.configure(&[log("ROUTER", "debug", None)]).unwrap();
        assert_eq!(levels("van_adaptors::control").unwrap().levels, [Level::DEBUG]);
        assert!(levels("").unwrap().levels.contains(&Level::INFO), "the default is back");
    }

    #[test]
    fn the_last_lines_are_remembered_with_their_modules() {
        let logging = Arc::new(Logging { rules: None, recent: Mutex::default(), counts: Mutex::default() });
        tracing::subscriber::with_default(Registry::default().with(Memory(Arc::clone(&logging))), || {
            (0..MAX_RECENT).for_each(|number| tracing::info!(number, "before"));
            tracing::warn!(target: "van_adaptors::management", error = "no", "not managed");
        });
        let [line] = &logging.recent(1)[..] else { panic!("one line") };
        assert_eq!(
            (line.module.as_str(), line.level, line.text.as_str()),
            ("AGENT", "warning", "not managed error=\"no\"")
        );
        assert_eq!(logging.recent(usize::MAX).len(), MAX_RECENT);
        assert_eq!(logging.counts()["AGENT"], [0, 0, 1, 0]);
        assert_eq!(logging.counts().values().map(|counts| counts[1]).sum::<u64>(), MAX_RECENT as u64);
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
