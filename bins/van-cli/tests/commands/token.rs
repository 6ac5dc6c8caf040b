//! `van token`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use jiff::Timestamp;
use van_site::document::Document;
use van_site::resource::access_grant::AccessGrantStatus;
use van_site::resource::{AccessGrant, Kind};
use van_site::status::access_grant_status;

use crate::world::{World, wait_for};

/// The grant that a command made, as soon as it is there.
fn grant(world: &World) -> AccessGrant {
    let namespace = world.namespace("west");
    wait_for("a grant", || namespace.load_input().sound::<AccessGrant>().next().cloned())
}

/// A grant with a status, as a controller writes it.
fn served(grant: &AccessGrant, processed: Result<(), &str>) -> AccessGrant {
    let so_far = AccessGrantStatus {
        url: Some("https://10.0.0.1:9090/id".to_owned()),
        code: "the code".into(),
        ca: Some("the CA\n".to_owned()),
        ..AccessGrantStatus::default()
    };
    let processed = processed.map_err(str::to_owned);
    AccessGrant { status: access_grant_status(&so_far, processed, Timestamp::UNIX_EPOCH), ..grant.clone() }
}

fn world_with_a_site() -> World {
    let world = World::new();
    world.van("-n west site create my-site --enable-link-access");
    world
}

#[test]
fn only_a_running_site_with_link_access_issues_tokens() {
    let world = World::new();
    let line = "-n west token issue f.yaml";
    world.fails(line, 1, "van: the site is not running: start it with \"van -n west system start\"\n");
    let _controller = world.namespace("west").lock_controller().expect("nobody else has it");
    world.fails(line, 1, "van: there is no active skupper site in this namespace\n");
    world.van("-n west site create west");
    let advice = "\"van -n west site update --enable-link-access\" does it";
    let message = "You must enable link access for this site before you can create a token.";
    world.fails(line, 1, &format!("van: {message} {advice}\n"));
    let edge = "apiVersion: skupper.io/v2alpha1\nkind: Site\nmetadata: {name: west}\nspec: {edge: true}\n";
    world.drop_file("west", "Site-west.yaml", edge);
    world.fails(line, 1, "van: Edge sites cannot accept incoming links from remote sites\n");
    assert!(!world.path("f.yaml").exists());
}

#[test]
fn a_token_is_a_file_for_its_owner() {
    let world = world_with_a_site();
    let _controller = world.namespace("west").lock_controller().expect("nobody else has it");
    let line = "-n west token issue f.yaml --redemptions-allowed 3 --cost 7 --ingress-host a --ingress-host 10.0.0.1";
    let mut command = world.start(line);
    command.wait_until_said("Waiting for token status ...");
    let grant = grant(&world);
    assert!(grant.metadata.name.starts_with("my-site-"), "{grant:?}");
    assert_eq!(grant.spec.allowed(), 3);
    assert_eq!(grant.spec.expiration_window.as_deref(), Some("15m"));
    assert_eq!(grant.spec.settings["ingress-hosts"], "a,10.0.0.1");
    let mut served = served(&grant, Ok(()));
    served.metadata.annotations.insert("skupper.io/hosts".to_owned(), "10.0.0.1,a".to_owned());
    world.report("west", served);

    let said = command.end();
    let name = &grant.metadata.name;
    assert_eq!((said.code, said.complaint.as_str()), (Some(0), ""));
    assert_eq!(
        said.output,
        format!(
            "\nGrant \"{name}\" is ready\nToken file f.yaml created\n\n\
             Transfer this file to a remote site. At the remote site, make a link to this site with\n\n\
             \tvan token redeem f.yaml\n\nThe token expires after 3 use(s) or after 15m0s.\n"
        )
    );
    let text = fs::read_to_string(world.path("f.yaml")).expect("it was written");
    let mode = fs::metadata(world.path("f.yaml")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let documents = Document::read_all(&text);
    let [Ok(Document::AccessToken(token))] = documents.as_slice() else { panic!("{text}") };
    assert_eq!((&token.metadata.name, token.spec.link_cost), (name, 7));
    assert_eq!((&*token.spec.url, token.spec.code.reveal()), ("https://10.0.0.1:9090/id", "the code"));
    assert_eq!((&*token.spec.ca, &*token.spec.settings["hosts"]), ("the CA\n", "10.0.0.1,a"));
}

#[test]
fn a_grant_that_fails_does_not_stay() {
    let world = world_with_a_site();
    let namespace = world.namespace("west");
    let _controller = namespace.lock_controller().expect("nobody else has it");
    let mut command = world.start("-n west token issue f.yaml");
    command.wait_until_said("Waiting for token status ...");
    let grant = grant(&world);
    world.report("west", served(&grant, Err("AccessGrants are not enabled")));
    let complaint = format!("van: Grant {:?} is not yet ready: AccessGrants are not enabled\n", grant.metadata.name);
    let said = command.end();
    assert_eq!((said.code, said.complaint), (Some(1), complaint));
    assert!(namespace.load_input().entries().all(|entry| entry.document.kind() != Kind::AccessGrant));
    assert!(!world.path("f.yaml").exists());
}

#[test]
fn a_token_replaces_only_a_token() {
    let world = world_with_a_site();
    let _controller = world.namespace("west").lock_controller().expect("nobody else has it");
    fs::write(world.path("notes.yaml"), "mine: true\n").expect("a file can be written");
    let there = "van: notes.yaml is there already, and is no token: choose another name\n";
    world.fails("-n west token issue notes.yaml", 1, there);
    world.fails("-n west token issue .", 1, "van: . is there already, and is no token: choose another name\n");
    for _ in 0..2 {
        let mut command = world.start("-n west token issue f.yaml");
        command.wait_until_said("Waiting for token status ...");
        let grant = grant(&world);
        world.report("west", served(&grant, Ok(())));
        assert_eq!(command.end().code, Some(0));
        world.van("-n west site delete --all");
        world.van("-n west site create my-site --enable-link-access");
    }
}

/// Nothing is granted that nobody could carry.
#[test]
fn a_file_that_cannot_be_written_is_named_before_anything_is_granted() {
    let world = world_with_a_site();
    let namespace = world.namespace("west");
    let _controller = namespace.lock_controller().expect("nobody else has it");
    let said = world.van("-n west token issue missing/f.yaml");
    assert_eq!((said.code, said.output.as_str()), (Some(1), ""));
    assert!(said.complaint.starts_with("van: missing/f.yaml cannot be written: No such file or directory"));
    assert!(namespace.load_input().entries().all(|entry| entry.document.kind() != Kind::AccessGrant));
}
