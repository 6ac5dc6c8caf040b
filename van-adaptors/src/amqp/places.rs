//! Where a link may be dialled: what is configured, then what the router there told last (docs/wire.md §1.6).

use van_core::router::Place;

/// The places of a link, one of them in use.
pub(super) struct Places {
    configured: Vec<Place>,
    learned: Vec<Place>,
    turn: usize,
}

impl Places {
    /// Those that are configured, of which there must be one.
    pub(super) fn new(configured: Vec<Place>) -> Self {
        Self { configured, learned: Vec::new(), turn: 0 }
    }

    /// The next is the current one from now on.
    pub(super) fn go_on(&mut self) {
        self.turn = (self.turn + 1) % self.count();
    }

    /// Takes what the router at the current place has told, if it has.
    pub(super) fn learn(&mut self, told: Option<Vec<Place>>) {
        let Some(told) = told else { return };
        let current = self.current().clone();
        let is_at = |a: &Place, b: &Place| (&a.host, a.port) == (&b.host, b.port);
        let is_news = |place: &Place| !self.configured.iter().any(|known| is_at(known, place));
        self.learned = told.into_iter().filter(is_news).collect();
        let places = || self.configured.iter().chain(&self.learned);
        // One that is not among them any more was behind them all.
        self.turn = places().position(|place| is_at(place, &current)).unwrap_or(self.count() - 1);
    }

    pub(super) fn current(&self) -> &Place {
        self.all().next().expect("there is one configured")
    }

    pub(super) fn count(&self) -> usize {
        self.configured.len() + self.learned.len()
    }

    /// All of them as URLs, the current one first.
    pub(super) fn urls(&self) -> Vec<String> {
        self.all().map(Place::to_string).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Place> {
        self.configured.iter().chain(&self.learned).cycle().skip(self.turn).take(self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(ports: &[u16]) -> Vec<Place> {
        ports.iter().map(|port| Place { scheme: None, host: "h".into(), port: *port }).collect()
    }

    fn order(places: &Places) -> Vec<u16> {
        places.all().map(|place| place.port).collect()
    }

    #[test]
    fn places_are_tried_round_and_round_from_the_configured_ones_on() {
        let mut own = Places::new(places(&[1, 2]));
        own.learn(Some(places(&[3, 1, 4])));
        assert_eq!(order(&own), [1, 2, 3, 4], "what is configured counts once");
        own.go_on();
        own.go_on();
        assert_eq!(order(&own), [3, 4, 1, 2]);
        own.learn(None);
        assert_eq!(order(&own), [3, 4, 1, 2], "nothing was told");
        own.learn(Some(places(&[4, 3])));
        assert_eq!(order(&own), [3, 1, 2, 4], "the current one stays so");
        own.learn(Some(places(&[])));
        assert_eq!(order(&own), [2, 1], "the current one is no more; next comes the first");
        own.go_on();
        assert_eq!(own.urls(), ["amqp://h:1", "amqp://h:2"]);
    }
}
