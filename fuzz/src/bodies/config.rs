//! The configuration file.

use serde_json::Value;
use van_core::management::config::Configuration;

/// A configuration, damaged or not: it is taken, or told what is wrong with it. Its outer header is that it is a JSON list.
pub(crate) fn config(octets: &[u8]) -> bool {
    let text = String::from_utf8_lossy(octets);
    let is_list = serde_json::from_str::<Vec<Value>>(&text).is_ok();
    match Configuration::parse(&text, |name| name.starts_with('H').then(|| "pod-1".to_owned())) {
        Ok(configuration) => assert!(is_list && !configuration.id.as_str().is_empty()),
        Err(error) => {
            assert!(!error.0.is_empty(), "refused without a reason");
            assert!(error.to_string().lines().count() >= error.0.len());
        }
    }
    is_list
}
