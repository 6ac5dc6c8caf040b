//! How long management takes, by operation, while somebody wants to know.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use van_core::amqp::Value;
use van_core::management::agent::Profiling;
use van_core::management::request::{Answer, Failure, Status};

/// Operations that are told apart: more than there are, and fewer than somebody may think up.
const MAX_OPERATIONS: usize = 32;

/// Answers and their time, by operation.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    /// Absent before somebody wanted to know.
    measured: Option<BTreeMap<String, (u32, Duration)>>,
    is_running: bool,
}

impl Profile {
    /// Counts an answer, if that is wanted.
    pub(super) fn count(&mut self, operation: &str, took: Duration) {
        let Some(measured) = self.measured.as_mut().filter(|_| self.is_running) else { return };
        if measured.len() < MAX_OPERATIONS || measured.contains_key(operation) {
            let (calls, time) = measured.entry(operation.to_owned()).or_default();
            *calls += 1;
            *time += took;
        }
    }

    /// Starts, or stops and tells.
    pub(super) fn answer(&mut self, asked: Profiling) -> Answer {
        let ok = |body| Answer::new(Status::Ok, body);
        match (asked, &self.measured) {
            (Profiling::Start, _) => {
                self.measured.get_or_insert_default();
                self.is_running = true;
                ok(Value::Map(Vec::new()))
            }
            (_, None) => Failure::bad_request("the profiler is not started; ask with the property `start`").into(),
            (Profiling::Stop, Some(measured)) => {
                self.is_running = false;
                ok(Value::String(table(measured)))
            }
            (Profiling::Neither, Some(_)) => {
                Failure::bad_request("neither `start` nor `stop` says what to do with the profiler").into()
            }
        }
    }
}

fn table(measured: &BTreeMap<String, (u32, Duration)>) -> String {
    let calls: u32 = measured.values().map(|(calls, _)| calls).sum();
    let time: Duration = measured.values().map(|(_, time)| time).sum();
    let mut table = format!("{calls} calls in {:.6} seconds\n\n", time.as_secs_f64());
    table.push_str("   ncalls   tottime   percall  operation\n");
    for (operation, (calls, time)) in measured {
        let (total, each) = (time.as_secs_f64(), time.as_secs_f64() / f64::from(*calls));
        let _ = writeln!(table, "{calls:>9} {total:>9.6} {each:>9.6}  {operation}");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happens_between_start_and_stop_counts() {
        let mut profile = Profile::default();
        let second = Duration::from_secs(1);
        let status = |profile: &mut Profile, asked| profile.answer(asked).status;
        assert_eq!(status(&mut profile, Profiling::Stop), Status::BadRequest, "not started");
        profile.count("READ", second);
        assert_eq!(status(&mut profile, Profiling::Start), Status::Ok);
        (0..2).for_each(|_| profile.count("QUERY", second));
        assert_eq!(status(&mut profile, Profiling::Neither), Status::BadRequest);
        let told = profile.answer(Profiling::Stop);
        profile.count("READ", second);
        assert_eq!(profile.answer(Profiling::Stop), told);
        let text = told.body.as_text().expect("text");
        assert!(text.starts_with("2 calls in 2.000000 seconds"), "{text}");
        assert!(text.ends_with("        2  2.000000  1.000000  QUERY\n"), "{text}");
    }
}
