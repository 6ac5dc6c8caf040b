//! Bad input: one clear message for each thing that is wrong.

use std::fs;

use crate::world::World;

const NOT_RUNNING: &str = "the site is not running: start it with \"van -n west system start\"";

#[test]
fn all_problems_of_the_arguments_are_said_at_once() {
    let world = World::new();
    let name = "use lower-case letters, digits, '-' and '.', at most 220, letter or digit at both ends of each part";
    let namespace = "use lower-case letters, digits and '-', at most 63, letter or digit at both ends";
    world.fails(
        "-n We_st listener create Bad_ 99999 --host a..b --timeout 5s --tls-credentials T",
        2,
        &format!(
            "van: --namespace: \"We_st\" is not a valid namespace: {namespace}\n\
             van: <NAME>: \"Bad_\" is not a valid name: {name}\n\
             van: <PORT>: \"99999\" is not a port: use a number from 1 to 65535\n\
             van: --host: \"a..b\" is neither a host name nor an IP address\n\
             van: --tls-credentials: \"T\" is not a valid name: {name}\n\
             van: --timeout: \"5s\" is too short: use at least 10s\n"
        ),
    );
    assert!(!world.path("data").exists(), "nothing was written");
}

#[test]
fn all_problems_of_a_grant_are_said_at_once() {
    World::new().fails(
        "token issue f --redemptions-allowed 0 --expiration-window 1s --cost 0 --timeout soon --ingress-host -",
        2,
        "van: --redemptions-allowed: \"0\" is not a number of at least 1\n\
         van: --expiration-window: \"1s\" is too short: use at least 1m0s\n\
         van: --cost: \"0\" is not a link cost: use a number of at least 1\n\
         van: --timeout: Invalid duration \"soon\": write numbers with units, such as 15m or 1h30m\n\
         van: --ingress-host: \"-\" is neither a host name nor an IP address\n",
    );
}

#[test]
fn a_namespace_is_no_path() {
    let world = World::new();
    for command in ["site create a", "site status", "system stop --purge", "system start", "link delete a"] {
        let said = world.van(&format!("-n ../../etc {command}"));
        assert_eq!((said.code, said.output.as_str()), (Some(2), ""), "{command}");
        assert!(said.complaint.starts_with("van: --namespace: \"../../etc\" is not a valid namespace"), "{command}");
    }
}

/// A dropped file with something wrong; what `listener status` complains of.
#[track_caller]
fn check(text: &str, complaint: &str) {
    let world = World::new();
    world.van("-n west listener create sound 8080");
    world.drop_file("west", "dropped.yaml", text);
    let row = format!("sound\tPending\tsound\t\t0.0.0.0\t8080\tfalse\t\t\t{NOT_RUNNING}\n");
    let table = format!("NAME\tSTATUS\tROUTING-KEY\tHOST\tPORT\tMATCHING-CONNECTOR\tMESSAGE\n{row}");
    world.shows("-n west listener status", &table, complaint);
}

const HEAD: &str = "apiVersion: skupper.io/v2alpha1\nkind: Listener\n";

#[test]
fn files_with_mistakes_are_named_and_disturb_nothing_else() {
    let file = "van: BASE/west/input/resources/dropped.yaml";
    let empty = format!("{file}: is empty; write its documents again, or remove it\n");
    check("", &empty);
    check("# only a comment\n", "");
    check(
        &format!("{HEAD}metadata: {{name: a}}\nspec: {{prot: 1}}\n"),
        &format!(
            "{file}:4: Listener a: spec.prot: unknown field `prot`, expected one of routingKey, host, port, tlsCredentials, type, observer, exposePodsByName, settings\n"
        ),
    );
    check(
        &format!("{HEAD}metadata: {{name: a}}\nspec: {{port: [1]}}\n"),
        &format!("{file}:4: Listener a: spec.port: expected a text\n"),
    );
    check(&format!("{HEAD}spec: {{port: 1}}\n"), &format!("{file}:3: missing field `metadata`\n"));
    check(
        &format!("{HEAD}metadata: {{name: sound}}\nspec: {{routingKey: a, host: b, port: 1}}\n"),
        &format!(
            "{file}:1: Listener sound: is also in BASE/west/input/resources/Listener-sound.yaml, line 1, and that one counts; remove one of them\n"
        ),
    );
    check("apiVersion: skupper.io/v2alpha1\nki", &format!("{file}:2: simple key expected ':'\n"));
    check(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
        &format!("{file}:1: ConfigMap (v1) has no effect here: van does not support this kind\n"),
    );
}

#[test]
fn a_document_that_cannot_be_carried_out_says_why_in_its_status() {
    let world = World::new();
    world.drop_file("west", "a.yaml", &format!("{HEAD}metadata: {{name: a}}\nspec: {{host: b, port: 1}}\n"));
    world.succeeds(
        "-n west listener status",
        "NAME\tSTATUS\tROUTING-KEY\tHOST\tPORT\tMATCHING-CONNECTOR\tMESSAGE\n\
         a\tError\t\t\tb\t1\tfalse\t\t\tspec.routingKey is missing\n",
    );
}

#[test]
fn a_document_that_cannot_be_read_is_not_replaced_by_another() {
    let world = World::new();
    let text = format!("{HEAD}metadata: {{name: a}}\nspec: {{prot: 1}}\n");
    world.drop_file("west", "a.yaml", &text);
    assert_eq!(world.van("-n west listener create a 8080").code, Some(1));
    let said = world.van("-n west listener update a --port 8080");
    assert_eq!(said.code, Some(1));
    assert!(
        said.complaint.starts_with("van: BASE/west/input/resources/a.yaml:4: Listener a: spec.prot: unknown field")
    );
    assert!(said.complaint.ends_with("; correct that file first\n"), "{}", said.complaint);
    let file = world.namespace("west").input_resources().join("a.yaml");
    assert_eq!(fs::read_to_string(file).expect("it is still there"), text);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let world = World::new();
    fs::create_dir_all(world.path("data/skupper")).expect("a folder can be made");
    fs::write(world.path("data/skupper/namespaces"), "in the way").expect("a file can be written");
    world.fails(
        "-n west site create west",
        1,
        "van: BASE/west/input/resources cannot be written: Not a directory (os error 20)\n",
    );
}

#[test]
fn without_a_home_there_is_no_place_for_namespaces() {
    let world = World::new();
    let mut command = world.command("site status");
    let said = world.said(&command.env_remove("XDG_DATA_HOME").output().expect("it was built with this test"));
    if rustix::process::geteuid().is_root() {
        assert_eq!(said.code, Some(0), "root has /var/lib");
    } else {
        let missing = "it is not set, so there is no place for namespaces; set it or XDG_DATA_HOME";
        assert_eq!((said.code, said.complaint), (Some(2), format!("van: HOME: {missing}\n")));
    }
}
