//! `van site`.

use std::fs;

use jiff::Timestamp;
use van_site::resource::Site;
use van_site::resource::site::{SiteSpec, SiteStatus};
use van_site::status::site_status;

use crate::world::World;

const NOT_RUNNING: &str = "the site is not running: start it with \"van -n west system start\"";

/// A site with a status, as a controller writes it.
pub(crate) fn site(link_access: Option<&str>, running: Result<(), &str>) -> Site {
    let spec = SiteSpec { link_access: link_access.map(str::to_owned), ..SiteSpec::default() };
    let running = running.map_err(str::to_owned);
    let endpoints = vec![van_site::resource::Endpoint::default()];
    let status = site_status(&SiteStatus::default(), &spec, Ok(()), running, endpoints, Timestamp::UNIX_EPOCH);
    Site { status, ..Site::new("west", spec) }
}

#[test]
fn a_site_is_a_file() {
    let world = World::new();
    world.succeeds("-n west site create west", "File written to BASE/west/input/resources/Site-west.yaml\n");
    let file = world.namespace("west").input_resources().join("Site-west.yaml");
    let text = fs::read_to_string(file).expect("it was written");
    assert_eq!(text, "apiVersion: skupper.io/v2alpha1\nkind: Site\nmetadata:\n  name: west\nspec: {}\n");
}

#[test]
fn link_access_can_be_given_and_taken_and_nothing_else_changes() {
    let world = World::new();
    world.drop_file(
        "west",
        "mine.yaml",
        "apiVersion: skupper.io/v2alpha1\nkind: Site\nmetadata: {name: west}\nspec: {defaultIssuer: mine, settings: {size: big}}\n",
    );
    let spec = || {
        let input = world.namespace("west").load_input();
        input.sound::<Site>().next().expect("there is one").spec.clone()
    };
    let before = spec();
    world.succeeds("-n west site update --enable-link-access", "File written to BASE/west/input/resources/mine.yaml\n");
    assert_eq!(spec(), SiteSpec { link_access: Some("default".to_owned()), ..before.clone() });
    world.succeeds(
        "-n west site update west --enable-link-access=false",
        "File written to BASE/west/input/resources/mine.yaml\n",
    );
    assert_eq!(spec(), SiteSpec { link_access: Some("none".to_owned()), ..before });
}

#[test]
fn a_site_becomes_an_edge_site_and_back_and_none_that_others_link_to() {
    let world = World::new();
    world.succeeds("-n west site create west --edge", "File written to BASE/west/input/resources/Site-west.yaml\n");
    let spec = || {
        let input = world.namespace("west").load_input();
        input.sound::<Site>().next().expect("there is one").spec.clone()
    };
    assert_eq!(spec(), SiteSpec { edge: true, ..SiteSpec::default() });
    let refused = "van: Edge sites cannot accept incoming links from remote sites; add --enable-link-access=false, or \
                   --edge=false\n";
    world.fails("-n west site update --enable-link-access", 1, refused);
    let written = "File written to BASE/west/input/resources/Site-west.yaml\n";
    world.succeeds("-n west site update --edge=false --enable-link-access", written);
    assert_eq!(spec(), SiteSpec { link_access: Some("default".to_owned()), ..SiteSpec::default() });
    world.fails("-n west site update --edge", 1, refused);
    assert!(!spec().edge);
}

#[test]
fn a_namespace_has_one_site() {
    let world = World::new();
    world.van("-n west site create west");
    for name in ["west", "other"] {
        let line = format!("-n west site create {name}");
        world.fails(&line, 1, "van: There is already a site created for this namespace\n");
    }
}

/// A new file beside one that is half written would hide what the user meant.
#[test]
fn a_site_that_cannot_be_read_is_a_site() {
    let world = World::new();
    world.drop_file(
        "west",
        "a.yaml",
        "apiVersion: skupper.io/v2alpha1\nkind: Site\nmetadata: {name: w}\nspec: {hh: 1}\n",
    );
    world.fails("-n west site create west", 1, "van: There is already a site created for this namespace\n");
}

#[test]
fn without_a_site_there_is_nothing_to_show_update_or_delete() {
    let world = World::new();
    let none = "There is no existing Skupper site resource";
    world.succeeds("-n west site status", &format!("{none}\n"));
    world.succeeds("-n west site status -o json", "");
    world.fails("-n west site update --enable-link-access", 1, &format!("van: {none}\n"));
    world.fails("-n west site delete", 1, &format!("van: {none}\n"));
    world.fails("-n west site delete x", 1, "van: there is no site \"x\" in namespace \"west\"\n");
    world.fails("-n west site status x", 1, "van: there is no site \"x\" in namespace \"west\"\n");
}

#[test]
fn an_update_has_to_say_what() {
    let said = World::new().van("site update");
    assert_eq!(said.code, Some(2));
    assert!(said.complaint.contains("--enable-link-access"), "{}", said.complaint);
}

#[test]
fn delete_removes_the_site_and_with_all_everything() {
    let world = World::new();
    for line in ["site create west", "listener create a 8080", "connector create a 8080"] {
        assert_eq!(world.van(line).code, Some(0), "{line}");
    }
    world.succeeds("site delete", "Site \"west\" is deleted\n");
    world.van("site create west");
    let unknown = "van: there is no site \"x\" in namespace \"default\"; there is: west\n";
    world.fails("site delete --all x", 1, unknown);
    let deleted = "Site \"west\" is deleted\nListener \"a\" is deleted\nConnector \"a\" is deleted\n";
    world.succeeds("site delete --all", deleted);
    assert_eq!(world.namespace("default").load_input().entries().count(), 0);
}

#[test]
fn the_status_is_what_the_controller_says() {
    let world = World::new();
    world.van("-n west site create west --enable-link-access");
    let namespace = world.namespace("west");
    let _controller = namespace.lock_controller().expect("nobody else has it");
    let table = |row: &str| format!("NAME\tSTATUS\tMESSAGE\n{row}\n");
    world.succeeds("-n west site status", &table("west\tPending\tthe site has not taken it up yet"));
    world.report("west", site(Some("default"), Err("the router is starting")));
    world.succeeds("-n west site status", &table("west\tPending\tthe router is starting"));
    world.report("west", site(Some("default"), Ok(())));
    world.succeeds("-n west site status", &table("west\tReady\tOK"));
    world.succeeds("-n west site status west", &table("west\tReady\tOK"));
}

/// What a controller wrote before it ended was true once.
#[test]
fn nothing_is_ready_without_a_controller() {
    let world = World::new();
    world.van("-n west site create west --enable-link-access");
    world.report("west", site(Some("default"), Ok(())));
    let table = format!("NAME\tSTATUS\tMESSAGE\nwest\tPending\t{NOT_RUNNING}\n");
    world.succeeds("-n west site status", &table);
    for format in ["yaml", "json"] {
        let said = world.van(&format!("-n west site status -o {format}"));
        assert!(!said.output.contains("Ready") && said.output.contains("Pending"), "{}", said.output);
    }
}

/// The status of a change is not that of what was there before.
#[test]
fn a_status_is_that_of_the_document_as_it_is() {
    let world = World::new();
    let namespace = world.namespace("west");
    let _controller = namespace.lock_controller().expect("nobody else has it");
    world.van("-n west site create west");
    world.report("west", site(None, Ok(())));
    world.van("-n west site update --enable-link-access");
    let table = "NAME\tSTATUS\tMESSAGE\nwest\tPending\tthe site has not taken it up yet\n";
    world.succeeds("-n west site status", table);
}

#[test]
fn documents_are_printed_for_programs() {
    let world = World::new();
    let said = world.van("-n west site create west --enable-link-access -o yaml");
    assert_eq!(said.complaint, "File written to BASE/west/input/resources/Site-west.yaml\n");
    let file = world.namespace("west").input_resources().join("Site-west.yaml");
    assert_eq!(said.output, fs::read_to_string(file).expect("it was written"));
    let said = world.van("-n west site status -o json");
    let document: serde_json::Value = serde_json::from_str(&said.output).expect("it is JSON");
    assert_eq!(document["status"]["message"], NOT_RUNNING);
    assert_eq!(document["spec"]["linkAccess"], "default");
}
