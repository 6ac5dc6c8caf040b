//! Sources and one collector, with a network between them that can lose messages, on virtual time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use van_core::flow::{Attribute, Audience, Collector, Message, Now, Outgoing, Output, Record, RecordType, Source};

/// When the world begins, in µs since 1970.
pub(crate) const BEGUN_MICROS: u64 = 1_767_225_600_000_000;

pub(crate) struct World {
    begun: Instant,
    pub(crate) elapsed: Duration,
    /// Sources that run.
    pub(crate) sources: Vec<Source>,
    pub(crate) collector: Option<Collector>,
    pub(crate) subscribed: BTreeSet<Arc<str>>,
    /// Whether a message of a source gets lost.
    pub(crate) is_lost: Box<dyn FnMut(&Outgoing) -> bool>,
    /// What sources sent, and when.
    pub(crate) sent: Vec<(Duration, Outgoing)>,
    /// How often a source was asked for everything.
    pub(crate) asked: usize,
    pub(crate) changes: usize,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            elapsed: Duration::ZERO,
            sources: Vec::new(),
            collector: None,
            subscribed: BTreeSet::new(),
            is_lost: Box::new(|_| false),
            sent: Vec::new(),
            asked: 0,
            changes: 0,
        }
    }

    /// With a collector, and a router's source that it has heard of.
    pub(crate) fn of_one(id: &str) -> Self {
        let mut world = Self::new();
        world.collector = Some(Collector::new());
        world.start(id, "west");
        world.run(Duration::from_secs(1));
        world
    }

    pub(crate) fn now(&self) -> Now {
        let wall_micros = BEGUN_MICROS + self.elapsed.as_micros() as u64;
        Now { instant: self.begun + self.elapsed, wall_micros }
    }

    /// Starts a router's source.
    pub(crate) fn start(&mut self, id: &str, router: &str) -> &mut Source {
        let name = format!("0/{router}");
        let mut source = Source::new(id);
        source.insert(self.now(), Record::new(RecordType::Router, id).with(Attribute::Name, name.as_str()));
        self.sources.push(source);
        self.sources.last_mut().expect("pushed above")
    }

    pub(crate) fn listener(&mut self, identity: &str) {
        let now = self.now();
        let parent = Arc::clone(self.sources[0].id());
        self.sources[0].insert(now, Record::new(RecordType::Listener, identity).with(Attribute::Parent, parent));
    }

    pub(crate) fn collector(&self) -> &Collector {
        self.collector.as_ref().expect("a collector")
    }

    pub(crate) fn known(&self, identity: &str) -> Option<&Record> {
        self.collector().get(identity)
    }

    /// Lets time pass, with everything that is due in it.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.begun + self.elapsed + time;
        loop {
            self.settle();
            let timeouts = self.sources.iter().filter_map(Source::poll_timeout);
            let next = timeouts.chain(self.collector.as_ref().and_then(Collector::poll_timeout)).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.elapsed = self.elapsed.max(next - self.begun);
            let now = self.now();
            self.sources.iter_mut().for_each(|source| source.handle_timeout(now));
            self.collector.iter_mut().for_each(|collector| collector.handle_timeout(now.instant));
        }
        self.elapsed = end - self.begun;
    }

    /// Carries what has been said.
    pub(crate) fn settle(&mut self) {
        let now = self.now();
        loop {
            let mut is_quiet = true;
            while let Some(output) = self.collector.as_mut().and_then(Collector::poll_output) {
                is_quiet = false;
                match output {
                    Output::Subscribe(address) => assert!(self.subscribed.insert(address), "twice"),
                    Output::Unsubscribe(address) => assert!(self.subscribed.remove(&address), "not subscribed"),
                    Output::Changed => self.changes += 1,
                    Output::Send(Outgoing { to, message }) => {
                        assert_eq!(Message::decode(&message), Ok(Message::Flush));
                        self.asked += 1;
                        let asked = self.sources.iter_mut().filter(|source| *source.direct() == to);
                        asked.for_each(|source| source.handle_flush(now));
                    }
                }
            }
            for source in &mut self.sources {
                source.set_audience(now, Audience::Beacons, usize::from(self.subscribed.contains("mc/sfe.all")));
                source.set_audience(now, Audience::Shared, usize::from(self.subscribed.contains("mc/sfe.van")));
                source.set_audience(now, Audience::Own, usize::from(self.subscribed.contains(source.address())));
                while let Some(outgoing) = source.poll_output() {
                    is_quiet = false;
                    if !(self.is_lost)(&outgoing) && self.subscribed.contains(&outgoing.to) {
                        let collector = self.collector.as_mut().expect("who subscribed");
                        collector.handle_message(now.instant, &outgoing.to, &outgoing.message).expect("our own");
                    }
                    self.sent.push((self.elapsed, outgoing));
                }
            }
            if is_quiet {
                return;
            }
        }
    }
}
