//! `van system`.

use std::env;
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio, id};

use van_site::folder::Namespace;
use van_site::resource::Site;

use crate::world::{World, wait_for};

/// The variable that makes [`fake_controller`] one, of the namespace whose folder it names.
const FAKE: &str = "VAN_TEST_FAKE_CONTROLLER";

/// A process that holds the lock of a namespace until it is told to end, or until this test ends.
struct FakeController(Child);

impl FakeController {
    /// `trap` is what the shell does about signals before it starts it.
    fn start(namespace: &Namespace, trap: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{trap} exec \"$@\""), "sh"]).arg(env::current_exe().expect("it runs"));
        command.args(["--exact", "system::fake_controller", "--nocapture"]).env(FAKE, namespace.root());
        let child = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let controller = Self(child.expect("there is a shell"));
        wait_for("the lock", || namespace.controller().ok()??.process);
        controller
    }
}

impl Drop for FakeController {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Does nothing, except in the process of a [`FakeController`].
#[test]
fn fake_controller() {
    let Some(root) = env::var_os(FAKE) else { return };
    let _lock = Namespace::at(root, "west").lock_controller().expect("nobody else has it");
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn there_has_to_be_a_site_to_start() {
    let world = World::new();
    let next = "make a site with \"van -n west site create NAME\"";
    let none = format!("van: No sources found at: BASE/west/input/resources; {next}\n");
    world.fails("-n west system start", 1, &none);
    world.fails("-n west system setup", 1, &none);
    world.fails("-n west system reload", 1, &none);
    world.van("-n west listener create a 8080");
    world.fails("-n west system start", 1, &none);
    world.drop_file("west", "site.yaml", "kind: Site\n");
    let problem = "van: BASE/west/input/resources/site.yaml:1: missing field `apiVersion`\n";
    world.fails("-n west system start", 1, &format!("{problem}{none}"));
    let site = "apiVersion: skupper.io/v2alpha1\nkind: Site\nmetadata: {name: west}\nspec: {edge: true, ha: true}\n";
    world.drop_file("west", "site.yaml", site);
    world.fails("-n west system start", 1, "van: the site cannot be started: Edge sites cannot have HA enabled\n");
}

#[test]
fn a_site_runs_once() {
    let world = World::new();
    world.van("-n west site create west");
    let _controller = world.namespace("west").lock_controller().expect("nobody else has it");
    let running = format!("van: namespace already exists: west; its site is running (process {})\n", id());
    world.fails("-n west system start", 1, &running);
}

/// Observed: `kill -9` and `system start` at once said that the site is running.
#[test]
fn a_site_that_was_just_killed_can_be_started() {
    let world = World::new();
    world.van("-n west site create west");
    for _ in 0..20 {
        let mut controller = FakeController::start(&world.namespace("west"), "");
        controller.0.kill().expect("it runs");
        // Without an answer to its death it is a zombie at the most; whatever else the site lacks, it is not "running".
        let started = world.command("-n west system start --timeout 1ms").output().expect("it runs");
        let complaint = String::from_utf8_lossy(&started.stderr).into_owned();
        assert!(!complaint.contains("already exists"), "{complaint}");
        world.van("-n west system stop");
    }
}

#[test]
fn reload_has_nothing_to_do() {
    let world = World::new();
    world.van("-n west site create west");
    world.succeeds("-n west system reload", "Nothing to reload: changes are applied as they come\n");
}

#[test]
fn reload_names_what_is_wrong() {
    let world = World::new();
    world.van("-n west site create west");
    let listener =
        "apiVersion: skupper.io/v2alpha1\nkind: Listener\nmetadata: {name: a}\nspec: {routingKey: a, host: b}\n";
    world.drop_file("west", "a.yaml", listener);
    world.drop_file("west", "b.yaml", "kind: Site\n");
    let expected = "van: BASE/west/input/resources/b.yaml:1: missing field `apiVersion`\n\
                    van: BASE/west/input/resources/a.yaml:1: Listener a: spec.port is missing\n\
                    van: 2 of the documents or files cannot be carried out as they are\n";
    world.fails("-n west system reload", 1, expected);
}

#[test]
fn a_namespace_that_cannot_be_read_hides_no_other() {
    let world = World::new();
    world.van("-n east site create east");
    fs::create_dir_all(world.namespace("west").root()).expect("a folder can be made");
    fs::write(world.namespace("west").internal(), "no folder").expect("a file can be written");
    let said = world.van("system status -o json");
    assert!(said.output.contains("\"east\"") && said.output.contains("controller.lock cannot be read"), "{said:?}");
    assert_eq!((said.code, said.output.matches("\"unknown\"").count()), (Some(0), 1));
}

#[test]
fn of_two_sites_commands_are_about_the_one_that_counts() {
    let world = World::new();
    let site = |name| format!("apiVersion: skupper.io/v2alpha1\nkind: Site\nmetadata: {{name: {name}}}\n");
    world.drop_file("west", "1.yaml", &site("zed"));
    world.drop_file("west", "2.yaml", &site("abc"));
    assert!(world.van("system status").output.contains("\tzed\t"));
    world.van("-n west site update --enable-link-access");
    let input = world.namespace("west").load_input();
    let zed = input.sound::<Site>().next().expect("it counts");
    assert!(zed.metadata.name == "zed" && zed.spec.has_link_access(), "{zed:?}");
    world.succeeds("-n west site delete", "Site \"zed\" is deleted\n");
}

#[test]
fn the_status_lists_the_namespaces_of_this_machine() {
    let world = World::new();
    let none = "There are no namespaces; \"van site create NAME\" makes a site in a new one\n";
    world.succeeds("system status", none);
    world.van("-n west site create west-site");
    world.van("-n east listener create a 8080");
    let _controller = world.namespace("east").lock_controller().expect("nobody else has it");
    let stopped = "the site is not running: start it with \"van -n west system start\"";
    let east = format!("east\t\t-\t\trunning\t{}\tThere is no existing Skupper site resource\n", id());
    let west = format!("west\t\twest-site\tstopped\t-\t{stopped}\n");
    let width = if id() > 9_999_999 { "\t\t" } else { "\t" };
    let titles = format!("NAMESPACE\tSITE\t\tSTATUS\tPID{width}MESSAGE\n");
    let west = west.replace("-\tthe", &format!("-{width}the"));
    world.succeeds("system status", &format!("{titles}{east}{west}"));
    let said = world.van("-n west system status -o json");
    let status: serde_json::Value = serde_json::from_str(&said.output).expect("it is JSON");
    let expected = serde_json::json!({
        "namespace": "west", "site": "west-site", "status": "stopped", "pid": null, "message": stopped,
    });
    assert_eq!(status, expected);
}

/// What `system stop` leaves of a namespace that has run.
fn leave_results(world: &World) {
    let namespace = world.namespace("west");
    for folder in [namespace.runtime_issuers().join("ca"), namespace.runtime_resources(), namespace.internal()] {
        fs::create_dir_all(&folder).expect("a folder can be made");
        fs::write(folder.join("file"), "").expect("a file can be written");
    }
}

const STAYS: &str = "Namespace \"west\" has been stopped; its documents stay: \"van -n west system start\" starts it\n";
const GONE: &str = "Namespace \"west\" has been removed\n";
const NOT_RUNNING: &str = "The site of namespace \"west\" is not running\n";

#[test]
fn stop_keeps_documents_and_identity_while_there_is_a_site() {
    let world = World::new();
    world.van("-n west site create west");
    leave_results(&world);
    let namespace = world.namespace("west");
    let _controller = FakeController::start(&namespace, "");
    world.succeeds("-n west system stop", STAYS);
    assert!(namespace.controller().expect("it can be read").is_none());
    assert_eq!(namespace.load_input().entries().count(), 1);
    assert!(namespace.runtime_issuers().join("ca/file").exists() && namespace.internal().join("file").exists());
    assert!(!namespace.runtime_resources().exists());
    world.succeeds("-n west system teardown", &format!("{NOT_RUNNING}{STAYS}"));
}

#[test]
fn stop_removes_everything_when_the_site_is_deleted_or_it_is_told_to() {
    let world = World::new();
    let namespace = world.namespace("west");
    for (delete, stop) in [("site delete", "system stop"), ("site status", "system stop --purge")] {
        world.van("-n west site create west");
        leave_results(&world);
        let _controller = FakeController::start(&namespace, "");
        world.van(&format!("-n west {delete}"));
        world.succeeds(&format!("-n west {stop}"), GONE);
        assert!(!namespace.root().exists(), "{stop}");
    }
    world.fails("-n west system stop", 1, "van: there is no namespace \"west\": BASE/west does not exist\n");
}

/// A half-written file may be the site.
#[test]
fn a_namespace_of_skuppers_is_left_alone() {
    let world = World::new();
    world.van("-n west site create west");
    leave_results(&world);
    let namespace = world.namespace("west");
    fs::create_dir_all(namespace.internal()).expect("it can be made");
    fs::write(namespace.internal().join("platform.yaml"), "platform: podman\n").expect("it can be written");
    assert_eq!([world.van("-n west system start").code, world.van("-n west system stop --purge").code], [Some(1); 2]);
    world.fails(
        "-n west system stop",
        1,
        "van: namespace \"west\" is one of Skupper's: end it with \"skupper system stop -n west\", or name another with -n\n",
    );
    assert!(namespace.router_config().exists() || namespace.runtime_issuers().exists(), "nothing is removed");
}

#[test]
fn stop_never_removes_documents_that_cannot_be_read() {
    let world = World::new();
    world.drop_file("west", "site.yaml", "apiVersion: skupper.io/v2alpha1\nkind: Si");
    world.succeeds("-n west system stop", &format!("{NOT_RUNNING}{STAYS}"));
    assert!(world.namespace("west").input_resources().join("site.yaml").exists());
}

#[test]
fn a_site_that_does_not_end_is_killed() {
    let world = World::new();
    world.van("-n west site create west");
    let _controller = FakeController::start(&world.namespace("west"), "trap '' TERM;");
    let complaint = "van: the site did not end within 15s and was killed\n";
    world.shows("-n west system stop --timeout 15s", STAYS, complaint);
}

#[test]
fn a_line_for_nobody_is_no_reason_to_panic() {
    let world = World::new();
    let mut command = world.command("system status");
    let mut child = command.spawn().expect("it was built with this test");
    drop(child.stdout.take());
    let mut complaint = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut complaint).expect("it says text");
    child.wait().expect("a child can be waited for");
    assert!(!complaint.contains("panicked"), "{complaint}");
}
