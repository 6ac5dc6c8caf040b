//! Every example runs to its end and says what it should.

use std::path::PathBuf;
use std::process::Command;

#[track_caller]
fn check(example: &str, arguments: &[&str], expected: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(program(example))
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .expect("built with this test");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(expected), "{example} said: {said}");
}

/// Cargo builds examples beside the tests of their package.
fn program(example: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let target = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    target.join("examples").join(example)
}

#[test]
fn two_engines_exchange_a_message() {
    check("amqp_engines", &[], "received: hello");
}

#[test]
fn an_embedded_site_dials_a_workload_and_is_itself_again_after_a_restart() {
    check("embedded_site", &[], "the second time, backend says: you said \"hello from the laptop\"");
}

#[test]
fn an_authority_issues_a_certificate() {
    check("certificate_authority", &["certs", "west.example.com", "10.0.0.7"], "west.example.com, 10.0.0.7");
}

#[test]
fn a_token_is_redeemed_at_a_grant_server() {
    check("grant_server", &[], "east may link to 127.0.0.1:55671");
}

#[test]
fn the_routing_graph_finds_paths() {
    check("routing_graph", &[], "What bern does with messages");
}

#[test]
fn a_service_is_reached_that_listens_on_no_port() {
    check("service_without_socket", &[], "the client hears: hello Ada, from a program without ports");
}

#[test]
fn two_routers_in_one_process_carry_a_stream() {
    check("two_routers", &[], "west's client hears: hello from east");
}

#[test]
fn two_sites_in_one_process_reach_each_other() {
    check("two_sites", &[], "west was reached by its routing key\neast was reached by its routing key");
}
