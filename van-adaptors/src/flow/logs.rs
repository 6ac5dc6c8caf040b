//! Warnings and errors of the program, as VanFlow tells them.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use van_core::flow::{Attribute, Message, Record, RecordType, logs_address};
use van_core::plane::Routes;

use super::micros;

/// Lines that may wait; the oldest are lost beyond.
const MAX_LINES: usize = 256;

/// Identities of lines count from here: no entity, and no shard's connection, has such a number.
const FIRST_NUMBER: u64 = 1 << 62;

/// Severities as VanFlow counts them.
const WARNING: u64 = 2;
const ERROR: u64 = 3;

/// The log of the program, for routers in it to tell its warnings and errors. Goes among the layers of its subscriber, and
/// into [`Options`](crate::Options). Clones are the same.
#[derive(Debug, Clone)]
pub struct LogLines(broadcast::Sender<Line>);

#[derive(Debug, Clone)]
struct Line {
    wall_micros: u64,
    severity: u64,
    text: Arc<str>,
    place: Option<(&'static str, u32)>,
}

/// The lines as one router tells them.
pub(super) struct Lines {
    lines: Option<broadcast::Receiver<Line>>,
    router: Arc<str>,
    flow_id: String,
    last: u64,
    address: Arc<str>,
    has_audience: bool,
}

impl Default for LogLines {
    fn default() -> Self {
        Self(broadcast::channel(MAX_LINES).0)
    }
}

impl<S: Subscriber> Layer<S> for LogLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let severity = match *metadata.level() {
            Level::ERROR => ERROR,
            Level::WARN => WARNING,
            _ => return,
        };
        let mut text = Text(format!("LOG_{}:", metadata.target()));
        event.record(&mut text);
        let place = metadata.file().zip(metadata.line());
        // That no router listens is none of the program's business.
        let _ = self.0.send(Line { wall_micros: micros(SystemTime::now()), severity, text: text.0.into(), place });
    }
}

/// A line as people read it: the message, then what it is about.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

impl Lines {
    pub(super) fn new(lines: Option<&LogLines>, router: &Arc<str>, flow_id: &str) -> Self {
        Self {
            lines: lines.map(|LogLines(lines)| lines.subscribe()),
            router: Arc::clone(router),
            flow_id: flow_id.to_owned(),
            last: FIRST_NUMBER,
            address: logs_address(router),
            has_audience: false,
        }
    }

    pub(super) fn set_routes(&mut self, routes: &Routes) {
        self.has_audience = routes.is_reachable(&self.address);
    }

    /// Where they go.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The next line as a message, if anybody listens; never if the program's log is not listened to. May be dropped.
    pub(super) async fn recv(&mut self) -> Option<Bytes> {
        let Some(lines) = &mut self.lines else { return std::future::pending().await };
        let line = match lines.recv().await {
            Ok(line) => line,
            Err(broadcast::error::RecvError::Lagged(_)) => return None,
            Err(broadcast::error::RecvError::Closed) => {
                self.lines = None;
                return None;
            }
        };
        self.last += 1;
        let mut record = Record::new(RecordType::Log, format!("{}:{}", self.flow_id, self.last))
            .with(Attribute::Parent, Arc::clone(&self.router))
            .with(Attribute::StartTime, line.wall_micros)
            .with(Attribute::EndTime, line.wall_micros)
            .with(Attribute::LogSeverity, line.severity)
            .with(Attribute::LogText, Arc::clone(&line.text));
        if let Some((file, number)) = line.place {
            record = record.with(Attribute::SourceFile, file).with(Attribute::SourceLine, u64::from(number));
        }
        let message = Message::Records { source: None, records: vec![record] };
        self.has_audience.then(|| message.encode(&self.address))
    }
}
