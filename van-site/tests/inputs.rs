//! Names, durations and tables.

use std::time::Duration;

use van_site::{duration, names, table};

fn accepts<T, E: std::fmt::Debug>(check: impl Fn(&str) -> Result<T, E>, good: &[&str], bad: &[&str]) {
    for text in good {
        assert!(check(text).is_ok(), "{text:?}");
    }
    for text in bad {
        assert!(check(text).is_err(), "{text:?}");
    }
}

#[test]
fn names_are_what_kubernetes_allows() {
    let long = "a".repeat(254);
    accepts(
        names::resource_name,
        &["a", "a-b", "a.b", "0", "a--b"],
        &["", "A", "a_b", "-a", "a-", "a.", ".a", "a..b", "ä", "../x", &long],
    );
    accepts(names::namespace, &["default", "a-1"], &["", "a.b", "A", "-a", &"a".repeat(64)]);
}

#[test]
fn hosts_are_names_and_addresses() {
    accepts(
        names::host,
        &["localhost", "my-host.example.com", "10.0.0.1", "::1", "my_container", "host.containers.internal", "Upper"],
        &["", "a b", "-a", "a-", "a..b", "http://x", "a:80", "[::1]", "ä"],
    );
}

#[test]
fn ports_costs_and_selectors_are_checked() {
    accepts(names::port, &["1", "65535"], &["0", "65536", "-1", "http", ""]);
    accepts(names::cost, &["1", "9999"], &["0", "-1", "x"]);
    accepts(
        names::selector,
        &["app=backend", "app=backend,tier=api", "strimzi.io/name=dev_1", "app="],
        &["", "app", "=x", "a=b,", "a=b c"],
    );
    assert_eq!(names::selector("a=b, c=d").unwrap()[1], ("c".to_owned(), "d".to_owned()));
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let told = [
        names::resource_name("My_Site").unwrap_err().to_string(),
        names::port("0").unwrap_err().to_string(),
        names::timeout("5s").unwrap_err().to_string(),
        names::expiration_window("x").unwrap_err().to_string(),
        names::expiration_window("59s").unwrap_err().to_string(),
    ];
    assert_eq!(
        told,
        [
            "\"My_Site\" is not a valid name: use lower-case letters, digits, '-' and '.', at most 220, letter or digit at \
             both ends of each part",
            "\"0\" is not a port: use a number from 1 to 65535",
            "\"5s\" is too short: use at least 10s",
            "Invalid duration \"x\": write numbers with units, such as 15m or 1h30m",
            "\"59s\" is too short: use at least 1m0s",
        ]
    );
}

#[test]
fn durations_are_read_and_written_as_go_does() {
    let read = |text: &str| duration::parse(text).map(|duration| duration.as_millis());
    for (text, milliseconds) in [
        ("0", 0),
        ("15m", 900_000),
        ("1h30m", 5_400_000),
        ("1.5s", 1500),
        ("300ms", 300),
        ("+2s", 2000),
        ("1us", 0),
        (".5s", 500),
    ] {
        assert_eq!(read(text), Ok(milliseconds), "{text}");
    }
    for text in ["", "5", "-1s", "1x", "m", "1.2.3s", "1 s", "1h-1m", ".s", "9999999999999999999999h"] {
        assert!(read(text).is_err(), "{text}");
    }
    for (seconds, text) in [(0, "0s"), (59, "59s"), (900, "15m0s"), (3600, "1h0m0s"), (5430, "1h30m30s")] {
        assert_eq!(duration::format(Duration::from_secs(seconds)), text);
        assert_eq!(duration::parse(text), Ok(Duration::from_secs(seconds)));
    }
}

#[test]
fn columns_are_padded_with_tabs_to_the_widest_cell() {
    let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
    let rows =
        [row(&["backend", "Pending", "No matching\nconnectors"]), row(&["eightlet", "Ready", "OK"]), row(&["ö", ""])];
    assert_eq!(
        table::render(&["name", "status", "message"], &rows),
        "NAME\t\tSTATUS\tMESSAGE\nbackend\t\tPending\tNo matching connectors\neightlet\tReady\tOK\nö\t\t\n"
    );
    assert_eq!(table::render(&["a", "b"], &[]), "A\tB\n");
}
