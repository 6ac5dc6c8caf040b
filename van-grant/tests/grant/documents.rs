//! Tokens and bundles as YAML.

use van_grant::{AccessToken, Bundle, BundleError, Code, TokenError};
use zeroize::ZeroizeOnDrop;

use crate::recorded::{as_ours, body};

const CA: &str = "-----BEGIN CERTIFICATE-----\nMIID\n-----END CERTIFICATE-----\n";

fn example() -> AccessToken {
    AccessToken {
        name: "token-to-west".to_owned(),
        url: "https://10.110.160.132:9090/87426fa9-5623-49af-a612-47d33b7a4200".to_owned(),
        code: Code::new("uVbO2kOqJrs8yZ0pT7mB4xQe".to_owned()).unwrap(),
        ca: CA.to_owned(),
        link_cost: Some(5),
        hosts: vec!["10.110.160.132".to_owned(), "west.example.com".to_owned()],
    }
}

const EXAMPLE: &str = "\
apiVersion: skupper.io/v2alpha1
kind: AccessToken
metadata:
  name: token-to-west
spec:
  ca: |
    -----BEGIN CERTIFICATE-----
    MIID
    -----END CERTIFICATE-----
  code: uVbO2kOqJrs8yZ0pT7mB4xQe
  linkCost: 5
  settings:
    hosts: 10.110.160.132,west.example.com
  url: https://10.110.160.132:9090/87426fa9-5623-49af-a612-47d33b7a4200
";

#[test]
fn a_token_is_written_and_read() {
    assert_eq!(example().to_yaml().as_str(), EXAMPLE);
    assert_eq!(AccessToken::from_yaml(EXAMPLE).unwrap(), example());
    let plain = AccessToken { link_cost: None, hosts: Vec::new(), ..example() };
    assert_eq!(AccessToken::from_yaml(&plain.to_yaml()).unwrap(), plain);
}

#[test]
fn codes_that_look_like_something_else_stay_texts() {
    for code in ["yes", "012", "1e5", "~", "null", " x ", "a: b", "- a", "\"", "'", "#", "ü", "0x10", "1\n2"] {
        let token = AccessToken { code: Code::new(code.to_owned()).unwrap(), ..example() };
        assert_eq!(AccessToken::from_yaml(&token.to_yaml()).unwrap(), token, "{}", token.to_yaml().as_str());
    }
}

#[test]
fn what_kubernetes_adds_to_a_token_is_accepted() {
    let added = EXAMPLE
        .replace("metadata:\n", "metadata:\n  creationTimestamp: null\n  namespace: east\n  labels: {a: b}\n")
        .replace("hosts:", "other: thing\n    hosts:");
    for status in ["", "status: {}\n", "status:\n  redeemed: true\n  conditions: [{type: Redeemed}]\n"] {
        assert_eq!(AccessToken::from_yaml(&format!("---\n{added}{status}")).unwrap(), example(), "{status}");
    }
}

#[test]
fn a_damaged_token_is_refused_with_its_reason_and_without_its_code() {
    let check = |from: &str, to: &str, expected: &str| {
        assert!(EXAMPLE.contains(from), "{from}");
        let error = AccessToken::from_yaml(&EXAMPLE.replace(from, to)).unwrap_err();
        let text = match &error {
            TokenError::Yaml(source) => format!("{error}: {source}"),
            TokenError::Code(source) => format!("{error}: {source}"),
            error => error.to_string(),
        };
        assert!(text.contains(expected), "{to:?}: {text}");
        assert!(!text.contains("uVbO2kOqJrs8yZ0pT7mB4xQe"), "{text}");
    };
    check("linkCost:", "linkcost:", "linkcost");
    check("linkCost: 5", "linkCost: five", "line 11");
    check("linkCost: 5", "linkCost: -1", "line 11");
    check("  code: uVbO2kOqJrs8yZ0pT7mB4xQe\n", "", "code");
    check("code: uVbO2kOqJrs8yZ0pT7mB4xQe", "code: [uVbO2kOqJrs8yZ0pT7mB4xQe]", "line 10");
    check("code: uVbO2kOqJrs8yZ0pT7mB4xQe", "code: ''", "empty");
    check("spec:", "spec: &a", "anchor");
    check("kind: AccessToken", "kind: AccessGrant", "AccessGrant");
    check("v2alpha1", "v1", "skupper.io/v1");
    check("metadata:\n  name: token-to-west\n", "metadata: {}\n", "name");
    check("-----BEGIN CERTIFICATE-----", "-----BEGIN-----", "token does not have a CA");
    check("url: https", "url: http", "token url scheme must be https");
    check("url: https://10.110.160.132:9090", "url: 10.110.160.132", "token url");
    check("/87426fa9-5623-49af-a612-47d33b7a4200", "/", "could not parse token url: it names no grant");
    check("url: https://10.110.160.132:9090", "url: https://a b", "could not parse token url: ");
    check("  url", "   url", "line 14");
    check("url:", "url: https://x/y\n  url:", "line 15");
    assert!(AccessToken::from_yaml("").is_err());
    assert!(AccessToken::from_yaml("<html>").is_err());
    assert!(AccessToken::from_yaml(&EXAMPLE[..300]).is_err());
}

#[test]
fn errors_quote_no_values() {
    let fields = [
        "linkCost: SECRET",
        "url: [SECRET]",
        "code: {SECRET: 1}",
        "code: *SECRET",
        "code: \"SECRET",
        "code: !SECRET x",
        "settings: SECRET",
        "settings: {hosts: [SECRET]}",
    ];
    let head = "apiVersion: skupper.io/v2alpha1\nkind: AccessToken\nmetadata: {name: x}\nspec:\n  ";
    let documents = fields.map(|field| format!("{head}{field}\n"));
    for document in documents.iter().map(String::as_str).chain(["spec: SECRET", "SECRET", "- SECRET"]) {
        let TokenError::Yaml(error) = AccessToken::from_yaml(document).unwrap_err() else { panic!("{document}") };
        assert!(error.to_string().contains("line") && !error.to_string().contains("SECRET"), "{error}");
    }
}

#[test]
fn bundles_are_written_as_skupper_writes_them() {
    for recording in ["4-success", "5-success-no-headers"] {
        let text = body(recording);
        let bundle = Bundle::from_yaml(&text).unwrap();
        assert!(bundle.secret.tls_key.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
        assert_eq!(bundle.links[0].endpoints[1].port, "45671");
        assert!(*bundle.to_yaml() == as_ours(&text), "{recording}");
    }
}

#[test]
fn bundles_are_read_in_any_order_of_keys() {
    let text = "\
kind: Secret
type: kubernetes.io/tls
metadata: {name: a}
data: {tls.key: Yg==, tls.crt: 'YQ==', ca.crt: \"YQ==\", connect.json: e30=}
apiVersion: v1
---
spec:
  tlsCredentials: a
  cost: 3
  endpoints: [{port: 55671, name: inter-router, host: h}]
metadata: {name: a-1, namespace: x}
kind: Link
apiVersion: skupper.io/v2alpha1
---
{kind: Link, metadata: {name: a-2}, spec: {tlsCredentials: a, endpoints: []}}
";
    let bundle = Bundle::from_yaml(text).unwrap();
    assert_eq!((bundle.links.len(), bundle.links[0].cost, bundle.secret.tls_key.as_str()), (2, Some(3), "b"));
    assert_eq!(bundle.links[0].endpoints[0].port, "55671");
    assert_eq!(Bundle::from_yaml(&bundle.to_yaml()).unwrap(), bundle);
    assert!(bundle.with_cost(Some(7)).links.iter().all(|link| link.cost == Some(7)));
}

#[test]
fn what_is_no_bundle_is_refused() {
    let good = body("4-success");
    assert!(matches!(Bundle::from_yaml(""), Err(BundleError::NoSecret)));
    assert!(matches!(Bundle::from_yaml("<html><body>hello</body></html>"), Err(BundleError::Yaml(_))));
    let swapped = good.replace("kind: Secret", "kind: Link");
    assert!(matches!(Bundle::from_yaml(&swapped), Err(BundleError::NoSecret)));
    let keyless = good.replace("tls.key", "tls.kex");
    assert!(matches!(Bundle::from_yaml(&keyless), Err(BundleError::Data { key: "tls.key" })));
    let damaged = good.replace("tls.crt: L", "tls.crt: *L");
    assert!(Bundle::from_yaml(&damaged).is_err());
    let other = good.replace("kind: Link", "kind: Pod");
    assert!(matches!(Bundle::from_yaml(&other), Err(BundleError::NoLink { kind }) if kind == "Pod"));
    assert!(Bundle::from_yaml(&good[..good.len() - 60]).is_err(), "cut off");
}

#[test]
fn keys_are_wiped_and_not_shown() {
    fn wiped<T: ZeroizeOnDrop>(_: &T) {}
    let bundle = Bundle::from_yaml(&body("4-success")).unwrap();
    wiped(&bundle.secret.tls_key);
    wiped(&example().code);
    assert!(!format!("{bundle:?}").contains("PRIVATE"));
}

#[test]
fn several_groups_give_numbered_links() {
    let secret = Bundle::from_yaml(&body("4-success")).unwrap().secret;
    let bundle = Bundle::new("hub", secret, vec![vec![], vec![]]);
    let names: Vec<_> = bundle.links.iter().map(|link| (link.name.as_str(), link.tls_credentials.as_str())).collect();
    assert_eq!(names, [("hub-1", "hub"), ("hub-2", "hub")]);
    assert_eq!(bundle.secret.name, "hub");
}
