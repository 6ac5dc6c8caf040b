//! Places that are not as they should be: ports, folders, disks, what the site remembers.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};

use van_site::resource::Kind;
use van_tls::{Authority, AuthorityRequest, KeyKind, directory};

use crate::rig::{self, Controller, Conversation, Machine, Pair, connector, echo, grant, listener, open_site, site};

#[test]
fn a_port_that_another_program_has_is_told_and_taken_when_it_is_free() {
    let pair = Pair::start();
    let conversation = Conversation::start(pair.port);
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are ports");
    let port = other.local_addr().expect("it is bound").port();
    pair.east.put("extra.yaml", &listener("extra", "backend", port));
    pair.east.wait_for(Kind::Listener, "extra", &format!("Error: cannot listen on 127.0.0.1:{port}; another program, perhaps another router, is listening there: Address already in use (os error 98)"));
    drop(other);
    pair.east.wait_for(Kind::Listener, "extra", "Ready: OK");
    rig::wait_until_answered(port);
    conversation.finish();
}

#[test]
fn a_namespace_has_one_controller() {
    let pair = Pair::start();
    let conversation = Conversation::start(pair.port);
    let pid = pair.east_controller.process.id();
    let output = pair.east.command().output().expect("it was built with this test");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!("van-controller: another controller (process {pid}) runs namespace \"east\"; stop it first\n")
    );
    pair.east.wait_for(Kind::Site, "east", "Ready: OK");
    conversation.finish();
}

#[test]
fn what_the_site_remembers_is_not_made_up_anew_when_it_is_damaged() {
    let machine = Machine::new();
    let place = machine.namespace("west");
    place.put("site.yaml", &open_site("west"));
    let controller = place.start();
    place.wait_for(Kind::Site, "west", "Ready: OK");
    controller.kill();
    let file = place.folder.internal().join("site.json");
    let sound = fs::read(&file).expect("it is kept");
    fs::write(&file, &sound[..20]).expect("it is ours");
    let output = place.command().output().expect("it was built with this test");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        place.shortened(&String::from_utf8_lossy(&output.stderr)),
        "van-controller: internal/site.json cannot be read; restore it from a backup, or remove it: then tokens and links \
         made before are lost: EOF while parsing a string at line 2 column 18\n"
    );
    fs::write(&file, &sound).expect("it is ours");
    let _controller = place.start();
    place.wait_for(Kind::Site, "west", "Ready: OK");
    assert_eq!(fs::read(&file).expect("it is kept"), sound);
}

#[test]
fn a_damaged_certificate_is_made_anew() {
    let pair = Pair::start();
    pair.west_controller.kill();
    let folder = pair.west.folder.runtime_certs().join("west");
    fs::write(folder.join("tls.crt"), "nonsense").expect("it is ours");
    let _again = pair.west.start();
    pair.east.wait_for(Kind::Link, "to-east", "Ready: OK");
    rig::wait_until_answered(pair.port);
    directory::read(&folder).expect("it is sound");
}

#[test]
fn a_damaged_authority_is_told_and_not_made_anew() {
    let pair = Pair::start();
    pair.west_controller.kill();
    let file = pair.west.folder.runtime_issuers().join("skupper-site-ca/tls.key");
    let sound = fs::read(&file).expect("it is kept");
    fs::write(&file, "nonsense").expect("it is ours");
    let again = pair.west.start();
    let told = "restore this CA from a backup, or remove its folder: then tokens and links made before are lost: \
                runtime/issuers/skupper-site-ca/tls.key cannot be used: no private key; a PEM block `BEGIN PRIVATE KEY`, \
                or the RSA or EC form, is expected";
    let status = || pair.west.shortened(&pair.west.status(Kind::Certificate, "skupper-site-ca"));
    rig::wait_until(status, || status() == format!("Error: {told}"));
    let of_grant = "Error: the CA of links cannot be used; its Certificate says why";
    pair.west.wait_for(Kind::AccessGrant, "to-east", of_grant);
    // What was issued before is as good as ever.
    pair.west.wait_for(Kind::Site, "west", "Ready: OK");
    pair.east.wait_for(Kind::Link, "to-east", "Ready: OK");
    rig::wait_until_answered(pair.port);
    let complaints =
        again.log().lines().filter(|line| line.contains("WARN") && line.contains("skupper-site-ca")).count();
    assert!(complaints == 1, "it is told once: {}", again.log());
    fs::write(&file, &sound).expect("it is ours");
    pair.west.wait_for(Kind::AccessGrant, "to-east", "Ready: OK");
    pair.west.wait_for(Kind::Certificate, "skupper-site-ca", "Ready: OK");
}

#[test]
fn an_authority_of_the_user_is_used_and_left_as_it_is() {
    let machine = Machine::new();
    let (west, east) = (machine.namespace("west"), machine.namespace("east"));
    let now = std::time::SystemTime::now();
    let request = AuthorityRequest {
        common_name: "Example Corp CA".into(),
        key: KeyKind::EcdsaP256,
        now,
        valid_for: van_tls::SKUPPER_LIFE,
    };
    let authority = Authority::create(&request).expect("it is made").credentials().clone();
    let folder = west.folder.input_issuers().join("skupper-site-ca");
    directory::write(&folder, &authority).expect("it is ours");
    west.put("west.yaml", &(open_site("west") + &grant("to-east", 1)));
    east.put("east.yaml", &site("east"));
    let (_west, _east) = (west.start(), east.start());
    east.put("token.yaml", &west.token("to-east"));
    east.wait_for(Kind::Link, "to-east", "Ready: OK");
    let server = directory::read(&west.folder.runtime_certs().join("west")).expect("it is there");
    assert_eq!(server.trust.pem(), authority.identity.chain_pem());
    assert_eq!(directory::read(&folder).expect("it is there").identity.key_pem(), authority.identity.key_pem());
    assert!(!west.folder.runtime_issuers().join("skupper-site-ca").exists());
}

#[test]
fn a_certificate_near_its_end_is_renewed_and_streams_go_on() {
    let pair = Pair::start();
    let conversation = Conversation::start(pair.port);
    let folder = pair.west.folder.runtime_certs().join("west");
    let authority = directory::read(&pair.west.folder.runtime_issuers().join("skupper-site-ca")).expect("it is kept");
    let known = directory::read(&folder).expect("it is there");
    let authority = Authority::from_credentials(authority).expect("it signs");
    let certificate = known.identity.certificate();
    // Certificates begin in the past, because clocks differ: most of its life is over.
    let old = authority.issue(&van_tls::LeafRequest {
        common_name: "west".into(),
        hosts: certificate.ip_addresses.iter().map(ToString::to_string).collect(),
        usage: van_tls::Usage::Server,
        key: KeyKind::EcdsaP256,
        now: std::time::SystemTime::now(),
        valid_for: std::time::Duration::from_secs(60),
    });
    let old = old.expect("it is issued");
    directory::write(&folder, &old).expect("it is ours");
    // Anything makes the site look at its certificates.
    pair.west.put("extra.yaml", &connector("extra", "extra", 1));
    rig::wait_until(
        || "the certificate is renewed".to_owned(),
        || directory::read(&folder).is_ok_and(|now| now.identity.chain_pem() != old.identity.chain_pem()),
    );
    pair.west.wait_for(Kind::Site, "west", "Ready: OK");
    conversation.finish();
    pair.east_controller.kill();
    let _again = pair.east.start();
    rig::wait_until_answered(pair.port);
}

// === in a mount namespace of their own ===

/// The command of a place, after a script has changed what is mounted; `$DATA` is the folder of all namespaces.
fn in_mounts(machine: &Machine, place: &rig::Place, script: &str) -> std::process::Command {
    let inner = place.command();
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", &format!("{script}; exec \"$@\""), "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("DATA", machine.path());
    command
}

#[test]
#[ignore = "needs user namespaces and unshare"]
fn a_folder_that_cannot_be_written_is_told() {
    let machine = Machine::new();
    let place = machine.namespace("west");
    place.put("site.yaml", &site("west"));
    let logs = tempfile::tempdir().expect("a folder can be made");
    let script = "mount --bind \"$DATA\" \"$DATA\"; mount -o remount,ro,bind \"$DATA\"";
    let controller = Controller::spawn(in_mounts(&machine, &place, script), logs.path());
    assert_eq!(
        place.shortened(&controller.failed()),
        "van-controller: internal cannot be written: check its owner and permissions, or choose another place with \
         XDG_DATA_HOME: Read-only file system (os error 30)\n"
    );
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let machine = Machine::new();
    let place = machine.namespace("west");
    let port = rig::free_port();
    place.put(
        "west.yaml",
        &(site("west") + &listener("backend", "backend", port) + &connector("backend", "backend", echo())),
    );
    let logs = tempfile::tempdir().expect("a folder can be made");
    std::os::unix::fs::symlink("/dev/full", logs.path().join("log")).expect("nothing is there");
    let _controller = Controller::spawn(place.command(), logs.path());
    place.wait_for(Kind::Listener, "backend", "Ready: OK");
    rig::wait_until_answered(port);
}

#[test]
#[ignore = "needs user namespaces and unshare"]
fn a_full_disk_is_told_and_nothing_is_lost() {
    let machine = Machine::new();
    let west = machine.namespace("west");
    west.put("west.yaml", &(open_site("west") + &grant("to-east", 1) + &connector("backend", "backend", echo())));
    let _west = west.start();
    let token = west.token("to-east");

    let east = machine.namespace("east");
    let logs = tempfile::tempdir().expect("a folder can be made");
    let script = "mount -t tmpfs -o size=1m none \"$DATA\"";
    let controller = Controller::spawn(in_mounts(&machine, &east, script), logs.path());
    // The disk is seen only by who is in the same mounts.
    let east = controller.inside(&east);
    rig::wait_until(|| "its folders are made".to_owned(), || east.folder.input_certs().exists());
    let port = rig::free_port();
    fs::create_dir_all(east.folder.input_resources()).expect("it is ours");
    east.put("east.yaml", &(site("east") + &listener("backend", "backend", port)));
    east.wait_for(Kind::Site, "east", "Ready: OK");
    east.put("token.txt", &token);
    let filler = fill(&east);
    fs::rename(east.file("token.txt"), east.file("token.yaml")).expect("that takes no room");
    controller.wait_for_log(&[
        "ERROR",
        "not kept yet",
        "redeemed, but",
        "cannot be written: the disk is full; make room and try again",
    ]);
    controller.wait_for_log(&["ERROR", "cannot write", "the disk is full; make room and try again"]);
    fs::remove_file(filler).expect("it is there");
    east.wait_for(Kind::AccessToken, "to-east", "Ready: OK");
    east.wait_for(Kind::Link, "to-east", "Ready: OK");
    rig::wait_until_answered(port);
    assert_eq!(west.grant("to-east").status.redemptions, 1);
}

/// A file that takes what room is left.
fn fill(place: &rig::Place) -> std::path::PathBuf {
    let path = place.folder.root().join("filler");
    let mut file = fs::File::create(&path).expect("there is room");
    while file.write_all(&[0; 4096]).is_ok() {}
    path
}
