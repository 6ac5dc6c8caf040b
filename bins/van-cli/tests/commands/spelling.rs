//! Other spellings, other names, and what is not in this version.

use crate::world::World;

#[test]
fn long_flags_may_have_one_dash() {
    let world = World::new();
    world.succeeds(
        "-namespace west connector create a 8080 -host=127.0.0.1 -routing-key b",
        "File written to BASE/west/input/resources/Connector-a.yaml\n",
    );
    assert_eq!(world.van("-help").output, world.van("--help").output);
}

#[test]
fn skupper_answers_as_van() {
    let world = World::new();
    let mut command = world.command_as("skupper", "site create west");
    let said = world.said(&command.output().expect("it was built with this test"));
    assert_eq!(said.output, "File written to BASE/default/input/resources/Site-west.yaml\n");
    let said = world.said(&world.command_as("/usr/bin/skupper", "site").output().expect("it was built with this test"));
    assert!(said.complaint.contains("Usage: skupper site"), "{}", said.complaint);
}

#[test]
fn the_version_is_a_table() {
    let world = World::new();
    let version = env!("CARGO_PKG_VERSION");
    let rows = format!("cli\t\t{version}\ncontroller\t{version}\nrouter\t\t{version}\n");
    world.succeeds("version", &format!("COMPONENT\tVERSION\n{rows}"));
    let yaml = ["cli", "controller", "router"].map(|name| format!("component: {name}\nversion: \"{version}\"\n"));
    world.succeeds("version -o yaml", &yaml.join("---\n"));
}

#[test]
fn shells_complete_the_command_by_its_name() {
    let world = World::new();
    for (name, shell, mark) in [("van", "bash", "_van"), ("skupper", "zsh", "#compdef skupper"), ("van", "fish", "van")]
    {
        let mut command = world.command_as(name, &format!("completion {shell}"));
        let said = world.said(&command.output().expect("it was built with this test"));
        assert_eq!(said.code, Some(0), "{shell}");
        assert!(said.output.contains(mark) && said.output.contains("redemptions-allowed"), "{shell}");
    }
}

#[test]
fn platforms_of_later_versions_are_refused() {
    let world = World::new();
    let later = |platform: &str| {
        let choice = "choose linux with \"-p linux\" or SKUPPER_PLATFORM=linux";
        format!("van: platform \"{platform}\" is not in this version; {choice}\n")
    };
    for line in
        ["site status", "site create a", "listener create a 1", "token issue f", "system start", "system status"]
    {
        world.fails(&format!("-p kubernetes {line}"), 2, &later("kubernetes"));
        world.fails(&format!("{line} --platform podman"), 2, &later("podman"));
        world.fails(&format!("-p mars {line}"), 2, "van: platform \"mars\" not supported; choose linux\n");
    }
    let with_variable = |value: &str, line: &str| {
        let mut command = world.command(line);
        world.said(&command.env("SKUPPER_PLATFORM", value).output().expect("it was built with this test"))
    };
    assert_eq!(with_variable("kubernetes", "site status").complaint, later("kubernetes"));
    assert_eq!(with_variable("mars", "site status").code, Some(0), "the original falls back, too");
    assert_eq!(with_variable("kubernetes", "-p linux site status").code, Some(0), "a flag wins");
}
