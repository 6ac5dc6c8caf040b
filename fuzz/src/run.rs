//! One target, many inputs.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::pieces::digest;
use crate::{Corpus, Mutator, Target, memory};

/// So many of a hundred inputs must get past the outer header; fewer would test nothing but that.
pub const MIN_DEEP_PERCENT: u64 = 50;

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// After so many inputs.
    Inputs(u64),
    /// After this time.
    Time(Duration),
}

/// What a run that met no crash has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// How many inputs there were.
    pub inputs: u64,
    /// How many of them got past the outer header.
    pub deep: u64,
    /// The most memory that one of them cost, in octets.
    pub peak_bytes: usize,
    /// The longest that one of them took.
    pub slowest: Duration,
    /// How long all of them took.
    pub elapsed: Duration,
}

/// An input that must not be, and what it did.
#[derive(Debug, thiserror::Error)]
#[error("input {number} {cause}")]
pub struct Crash {
    /// Its number in the run, from 0.
    pub number: u64,
    /// The input itself.
    pub input: Vec<u8>,
    /// What it did.
    pub cause: Cause,
}

/// What an input did that none may do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// A decoder panicked, or broke a promise that its body checks.
    #[error("made the target panic: {0}")]
    Panic(String),
    /// It cost more memory than [`memory::bound`] allows for its length.
    #[error("made the target hold {peak} octets, of at most {bound}")]
    Memory {
        /// Octets held at once.
        peak: usize,
        /// Octets allowed.
        bound: usize,
    },
}

impl Report {
    /// The share of inputs that got past the outer header, in percent.
    pub fn deep_percent(&self) -> f64 {
        self.deep as f64 * 100.0 / self.inputs.max(1) as f64
    }

    /// Whether [`MIN_DEEP_PERCENT`] of the inputs did.
    pub fn is_deep(&self) -> bool {
        self.deep * 100 >= self.inputs * MIN_DEEP_PERCENT
    }

    /// How many inputs there were per second.
    pub fn inputs_per_second(&self) -> f64 {
        self.inputs as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Gives a target mutations of its corpus. The inputs depend on the seed and the target's name alone.
///
/// # Errors
/// The first input that crashes it.
pub fn run(target: &Target, corpus: &Corpus, seed: u64, limit: Limit) -> Result<Report, Crash> {
    let mut mutator = Mutator::new(corpus, seed ^ digest(target.name.as_bytes()));
    let mut report = Report::default();
    let start = Instant::now();
    let mut now = start;
    while match limit {
        Limit::Inputs(inputs) => report.inputs < inputs,
        Limit::Time(time) => now - start < time,
    } {
        let input = mutator.next_input();
        match check(target, &input) {
            Ok((is_deep, peak)) => {
                report.deep += u64::from(is_deep);
                report.peak_bytes = report.peak_bytes.max(peak);
            }
            Err(cause) => return Err(Crash { number: report.inputs, input, cause }),
        }
        let before = std::mem::replace(&mut now, Instant::now());
        report.slowest = report.slowest.max(now - before);
        report.inputs += 1;
    }
    report.elapsed = now - start;
    Ok(report)
}

/// Gives a target one input: whether it got past the outer header, and the memory it cost.
///
/// # Errors
/// What the input did that it must not.
pub fn check(target: &Target, input: &[u8]) -> Result<(bool, usize), Cause> {
    // A body keeps nothing that a panic could leave half done, except caches that it takes out before it uses them.
    let (outcome, peak) = memory::measure(|| catch_unwind(AssertUnwindSafe(|| (target.body)(input))));
    let bound = memory::bound(input.len());
    match outcome {
        Err(panic) => Err(Cause::Panic(message(&*panic))),
        Ok(_) if peak > bound => Err(Cause::Memory { peak, bound }),
        Ok(is_deep) => Ok((is_deep, peak)),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus() -> Corpus {
        Corpus::new(vec![b"an input".to_vec()]).unwrap()
    }

    #[test]
    fn a_panic_is_told_with_its_input() {
        let picky = Target { name: "picky", body: |octets| octets.starts_with(b"an i") || panic!("not mine") };
        let crash = run(&picky, &corpus(), 1, Limit::Inputs(1000)).unwrap_err();
        assert_eq!(crash.cause, Cause::Panic("not mine".into()));
        assert!(!crash.input.starts_with(b"an i"));
        assert_eq!(run(&picky, &corpus(), 1, Limit::Inputs(1000)).unwrap_err().input, crash.input);
    }

    #[test]
    fn a_decoder_that_takes_memory_without_bound_is_found() {
        let body = |octets: &[u8]| std::hint::black_box(vec![0_u8; octets.len() << 20]).is_empty();
        let crash = run(&Target { name: "greedy", body }, &corpus(), 1, Limit::Inputs(10)).unwrap_err();
        assert!(matches!(crash.cause, Cause::Memory { .. }), "{crash}");
    }

    #[test]
    fn inputs_are_counted_by_how_far_they_get() {
        let body = |octets: &[u8]| octets.first() == Some(&b'a');
        let report = run(&Target { name: "shallow", body }, &corpus(), 1, Limit::Inputs(1000)).unwrap();
        assert_eq!(report.inputs, 1000);
        assert!(report.is_deep() && report.deep < 1000);
        assert!(!Report { deep: 499, ..report }.is_deep());
    }
}
