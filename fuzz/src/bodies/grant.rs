//! The documents of the grant protocol: what a person carries, what a grant server answers.

use van_grant::{AccessToken, Bundle};

/// A token that can be read survives being written. Its outer header is the line that says what it is.
pub(crate) fn token(octets: &[u8]) -> bool {
    let text = String::from_utf8_lossy(octets);
    match AccessToken::from_yaml(&text) {
        Ok(token) => {
            token.check().expect("checked when it was read");
            assert_eq!(AccessToken::from_yaml(&token.to_yaml()).expect("written by us"), token);
        }
        Err(error) => assert!(!error.to_string().is_empty(), "refused without a reason"),
    }
    text.lines().any(|line| line.starts_with("kind:"))
}

/// A bundle that can be read survives being written. Its outer header is the mark of a document.
pub(crate) fn bundle(octets: &[u8]) -> bool {
    let text = String::from_utf8_lossy(octets);
    match Bundle::from_yaml(&text) {
        Ok(bundle) => assert_eq!(Bundle::from_yaml(&bundle.to_yaml()).expect("written by us"), bundle),
        Err(error) => assert!(!error.to_string().is_empty(), "refused without a reason"),
    }
    text.lines().any(|line| line == "---")
}
