//! The configuration file.

use serde_json::Value;
use van_core::management::config::{ConfigError, Configuration};

/// A configuration, damaged or not: it is taken, or told what is wrong with it. Its outer header is that it is a JSON list.
pub(crate) fn config(octets: &[u8]) -> bool {
    let text = String::from_utf8_lossy(octets);
    let _ = parse(&text);
    serde_json::from_str::<Vec<Value>>(&text).is_ok()
}

/// The older syntax. Its outer header is the line that begins the first entity.
pub(crate) fn conf(octets: &[u8]) -> bool {
    let text = String::from_utf8_lossy(octets);
    let lines = text.lines().count();
    match parse(&text) {
        Ok(_) => true,
        Err(error) => error.0.iter().all(|fault| {
            let line = fault.place.strip_prefix("line ").map(|line| line.parse::<usize>().expect("a number"));
            assert!(line.is_none_or(|line| (1..=lines).contains(&line)), "there is no {}", fault.place);
            !["", "line 1"].contains(&fault.place.as_str())
        }),
    }
}

fn parse(text: &str) -> Result<Configuration, ConfigError> {
    let parsed = Configuration::parse(text, |name| name.starts_with('H').then(|| "pod-1".to_owned()));
    match &parsed {
        Ok(configuration) => assert!(!configuration.id.as_str().is_empty()),
        Err(error) => {
            assert!(!error.0.is_empty(), "refused without a reason");
            assert!(error.to_string().lines().count() >= error.0.len());
        }
    }
    parsed
}
