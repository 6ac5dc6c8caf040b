//! How messages are spread over the consumers of an address, as configured (docs/wire.md §5.3).

use std::collections::{BTreeMap, HashSet};

use van_routing::Treatment;

/// Segments that a pattern may have.
const MAX_SEGMENTS: usize = 256;

/// Between segments.
const SEPARATORS: [char; 2] = ['/', '.'];

/// A segment that stands for any one, and one that stands for any number.
const ONE: &str = "*";
const ANY: &str = "#";

/// What is configured for addresses.
#[derive(Debug, Clone)]
pub struct Distribution {
    /// For addresses that nothing else is said about.
    pub default: Treatment,
    rules: Node,
}

/// What is configured for the addresses of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRule {
    /// How messages are spread over their consumers.
    pub treatment: Treatment,
    /// The priority of messages to them, 0 to 9, in place of what messages say.
    pub priority: Option<u8>,
}

/// Addresses, by their segments, which end at `/` or `.`: `*` is any one of them, `#` any number. In its one form of several
/// that mean the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressPattern(Vec<Box<str>>);

/// Why a text is no pattern of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// There is nothing in it.
    #[error("it has no segments")]
    Empty,
    /// It is too long.
    #[error("it has more than {MAX_SEGMENTS} segments")]
    Long,
}

/// What is said of addresses that begin alike.
#[derive(Debug, Clone, Default)]
struct Node {
    /// Set if a pattern ends here.
    rule: Option<AddressRule>,
    below: BTreeMap<Box<str>, Self>,
}

impl AddressPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`InvalidPattern`].
    pub fn new(text: &str) -> Result<Self, InvalidPattern> {
        let mut segments = Vec::<Box<str>>::new();
        for segment in segments_of(text) {
            let is_behind_any = segments.last().is_some_and(|last| &**last == ANY);
            match segment {
                ANY if is_behind_any => {}
                ONE if is_behind_any => segments.insert(segments.len() - 1, segment.into()),
                _ => segments.push(segment.into()),
            }
            if segments.len() > MAX_SEGMENTS {
                return Err(InvalidPattern::Long);
            }
        }
        if segments.is_empty() { Err(InvalidPattern::Empty) } else { Ok(Self(segments)) }
    }

    /// The pattern of all addresses that begin with the segments of a text.
    ///
    /// # Errors
    /// [`InvalidPattern`].
    pub fn prefix(text: &str) -> Result<Self, InvalidPattern> {
        let Self(segments) = Self::new(text)?;
        Self::new(&[&segments.join("/"), ANY].join("/"))
    }
}

impl Default for Distribution {
    /// Balanced, but for the prefix `mc`: what everybody observes goes to everybody who observes.
    fn default() -> Self {
        let mut distribution = Self { default: Treatment::AnycastBalanced, rules: Node::default() };
        let rule = AddressRule { treatment: Treatment::MulticastOnce, priority: None };
        distribution.insert(&AddressPattern::prefix("mc").expect("a segment"), rule);
        distribution
    }
}

impl Distribution {
    /// Sets the rule of a pattern; the one it had before.
    pub fn insert(&mut self, pattern: &AddressPattern, rule: AddressRule) -> Option<AddressRule> {
        let mut node = &mut self.rules;
        for segment in &pattern.0 {
            node = node.below.entry(segment.clone()).or_default();
        }
        node.rule.replace(rule)
    }

    /// Forgets the rule of a pattern.
    pub fn remove(&mut self, pattern: &AddressPattern) -> Option<AddressRule> {
        self.rules.remove(&pattern.0)
    }

    /// The rule of an address: of the patterns that match, the one that is nearest to it, segment by segment: the same text
    /// before `*`, that before `#`.
    pub fn rule(&self, address: &str) -> Option<AddressRule> {
        let segments: Vec<_> = segments_of(address).collect();
        self.rules.find_below(&segments, &mut HashSet::new()).copied()
    }
}

fn segments_of(address: &str) -> impl Iterator<Item = &str> {
    let address = address.trim_start_matches(SEPARATORS);
    let address = address.strip_suffix(SEPARATORS).unwrap_or(address);
    Some(address).filter(|address| !address.is_empty()).into_iter().flat_map(|address| address.split(SEPARATORS))
}

impl Node {
    fn remove(&mut self, pattern: &[Box<str>]) -> Option<AddressRule> {
        let Some((first, behind)) = pattern.split_first() else { return self.rule.take() };
        let node = self.below.get_mut(first)?;
        let removed = node.remove(behind);
        if node.rule.is_none() && node.below.is_empty() {
            self.below.remove(first);
        }
        removed
    }

    /// As one that took a segment: the rest is `rest`. `tried` are those nodes for any number of segments that found nothing;
    /// with less of the address they find nothing either.
    fn find<'a>(&'a self, rest: &[&str], tried: &mut HashSet<*const Self>) -> Option<&'a AddressRule> {
        self.rule.as_ref().filter(|_| rest.is_empty()).or_else(|| self.find_below(rest, tried))
    }

    fn find_below<'a>(&'a self, rest: &[&str], tried: &mut HashSet<*const Self>) -> Option<&'a AddressRule> {
        if let Some((first, behind)) = rest.split_first() {
            let same = self.below.get(*first).filter(|_| ![ONE, ANY].contains(first));
            let mut takers = same.into_iter().chain(self.below.get(ONE));
            if let Some(rule) = takers.find_map(|taker| taker.find(behind, tried)) {
                return Some(rule);
            }
        }
        self.below.get(ANY)?.find_any(rest, tried)
    }

    fn find_any<'a>(&'a self, rest: &[&str], tried: &mut HashSet<*const Self>) -> Option<&'a AddressRule> {
        if !tried.insert(self) {
            return None;
        }
        (0..rest.len()).find_map(|taken| self.find_below(&rest[taken..], tried)).or(self.rule.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(number: usize) -> AddressRule {
        AddressRule { treatment: Treatment::AnycastClosest, priority: Some(number as u8) }
    }

    fn pattern(text: &str) -> AddressPattern {
        AddressPattern::new(text).expect("a pattern")
    }

    fn with(patterns: &[impl AsRef<str>]) -> Distribution {
        let mut distribution = Distribution { default: Treatment::AnycastBalanced, rules: Node::default() };
        for (number, text) in patterns.iter().enumerate() {
            distribution.insert(&pattern(text.as_ref()), rule(number));
        }
        distribution
    }

    /// Which of the patterns counts for an address.
    #[track_caller]
    fn check(patterns: &[&str], address: &str, expected: Option<&str>) {
        let found = with(patterns).rule(address).and_then(|rule| rule.priority);
        assert_eq!(found.map(|number| patterns[usize::from(number)]), expected, "{address}");
    }

    #[test]
    fn a_prefix_matches_whole_segments_and_the_longest_counts() {
        let mut distribution = Distribution::default();
        distribution.insert(&AddressPattern::prefix("/mc/x.").expect("a prefix"), rule(0));
        let check = |address, expected| {
            let treatment = distribution.rule(address).map(|rule| rule.treatment);
            assert_eq!(treatment, expected, "{address}");
        };
        check("mc", Some(Treatment::MulticastOnce));
        check("mc/sfe.all", Some(Treatment::MulticastOnce));
        check("mc.a", Some(Treatment::MulticastOnce));
        check("mc/x/y", Some(Treatment::AnycastClosest));
        check("mcx", None);
        check("other", None);
    }

    #[test]
    fn the_nearest_pattern_counts_segment_by_segment() {
        let patterns = ["#", "*", "a/#", "a/*", "a/b", "a/*/c", "*/b/c", "a/#/z", "#/q"];
        for (address, expected) in [
            ("a", "a/#"),
            ("x", "*"),
            ("x/y", "#"),
            ("a/b", "a/b"),
            ("a.b/", "a/b"),
            ("a/x", "a/*"),
            ("a/b/c", "a/*/c"),
            ("x/b/c", "*/b/c"),
            ("a/b/d", "a/#"),
            ("a/1/2/z", "a/#/z"),
            ("a/z", "a/*"),
            ("x/y/q", "#/q"),
            ("", "#"),
        ] {
            check(&patterns, address, Some(expected));
        }
        check(&["a/*", "*/b"], "a", None);
        check(&["a/*", "b/#"], "b", Some("b/#"));
        // An address may have what is a wildcard in patterns.
        check(&["a/#/c", "a/*"], "a/#", Some("a/*"));
    }

    /// Seen of a skupper-router's rules, not wished for: with what `#` takes first, it is nearest.
    #[test]
    fn what_is_found_with_less_taken_by_a_hash_comes_first() {
        check(&["#/a/b", "#/b/#"], "b/a/b", Some("#/b/#"));
    }

    #[test]
    fn texts_that_mean_the_same_are_the_same_pattern() {
        for (one, other) in [("#/#", "#"), ("#/*", "*/#"), ("#.*.*/x", "*/*/#/x"), ("/a.b/", "a/b"), ("#/*/#", "*/#")] {
            assert_eq!(pattern(one), pattern(other), "{one}");
        }
        assert_eq!(AddressPattern::new("/."), Err(InvalidPattern::Empty));
        assert_eq!(AddressPattern::new(&"a/".repeat(MAX_SEGMENTS + 1)), Err(InvalidPattern::Long));
    }

    #[test]
    fn what_is_removed_leaves_nothing() {
        let mut distribution = with(&["a/b", "a/b/#"]);
        assert_eq!(distribution.remove(&pattern("a/b/#/#")), Some(rule(1)));
        assert_eq!((distribution.remove(&pattern("a")), distribution.rule("a/b")), (None, Some(rule(0))));
        distribution.remove(&pattern("a/b"));
        assert!(distribution.rules.below.is_empty());
    }

    /// Backtracking would take the age of the universe.
    #[test]
    fn many_hashes_take_no_time() {
        let many = "#/a/".repeat(40) + "b";
        check(&[&many], &"a/".repeat(2000), None);
    }

    /// What a pattern means, by definition.
    fn matches(pattern: &[&str], address: &[&str]) -> bool {
        match (pattern.split_first(), address.split_first()) {
            (None, rest) => rest.is_none(),
            (Some((&ANY, behind)), rest) => {
                matches(behind, address) || rest.is_some_and(|(_, rest)| matches(pattern, rest))
            }
            (Some((segment, behind)), Some((first, rest))) => {
                (*segment == ONE || segment == first) && matches(behind, rest)
            }
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn a_rule_is_found_exactly_if_a_pattern_matches(
            patterns in prop::collection::vec("[ab*#](/[ab*#]){0,4}", 1..6),
            address in "[ab](/[ab]){0,5}",
        ) {
            let found = with(&patterns).rule(&address).and_then(|rule| rule.priority);
            let segments: Vec<_> = address.split('/').collect();
            let is_matching = |pattern: &String| matches(&pattern.split('/').collect::<Vec<_>>(), &segments);
            prop_assert_eq!(found.is_some(), patterns.iter().any(is_matching));
            prop_assert!(found.is_none_or(|number| is_matching(&patterns[usize::from(number)])));
        }
    }
}
