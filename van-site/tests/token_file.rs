//! The file that carries a token.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use van_site::AccessToken;
use van_site::resource::access_token::AccessTokenSpec;

const HEAD: &str = "apiVersion: skupper.io/v2alpha1\nmetadata: {name: a}\n";

fn token() -> AccessToken {
    let (url, code, ca) = ("https://a/b".to_owned(), "c".into(), "d\n".to_owned());
    AccessToken::new("a", AccessTokenSpec { url, code, ca, ..AccessTokenSpec::default() })
}

#[test]
fn a_token_comes_out_of_its_file_as_it_went_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.yaml");
    token().write(&file).expect("it is written");
    assert_eq!(AccessToken::read(&file).expect("it is read"), token());
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
}

#[track_caller]
fn check(text: Option<&str>, expected: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.yaml");
    if let Some(text) = text {
        fs::write(&file, text).expect("it is written");
    }
    let error = AccessToken::read(&file).expect_err("of no use");
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    assert_eq!(format!("{error}{cause}").replace(&format!("{} ", file.display()), ""), expected);
}

#[test]
fn what_is_no_token_is_told_with_its_file() {
    let one = van_site::yaml::write(&token());
    check(None, "cannot be read: No such file or directory (os error 2)");
    check(Some(""), "is not a token: it is empty");
    check(Some(&format!("{HEAD}kind: Site\n")), "is not a token: it holds a Site");
    check(Some(&format!("{HEAD}kind: AccessToken\n")), "cannot be used: spec.url is missing");
    check(Some(&format!("{one}---\n{one}")), "holds 2 of AccessToken; redeem them one by one");
    check(
        Some(&format!("{HEAD}kind: AccessToken\nspec: {{uri: x}}\n")),
        "cannot be used: line 4: spec.uri: unknown field `uri`, expected one of `url`, `code`, `ca`, `linkCost`, `settings`",
    );
}
