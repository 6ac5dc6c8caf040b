//! From nothing to a request through two sites, as the first page of the guide has it; as whoever runs the tests, and as
//! an ordinary user.

#[path = "../../../../van-adaptors/tests/dial/ports.rs"]
mod ports;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use ports::free_port;
use van_site::document::Document;
use van_site::resource::AccessToken;
use van_site::yaml;

use crate::world::{Said, World};

/// The user `nobody`.
const NOBODY: u32 = 65534;

/// Somebody at a machine.
struct Traveller {
    world: World,
    /// Who it is, if not whoever runs this test.
    user: Option<u32>,
}

impl Traveller {
    fn new(user: Option<u32>) -> Self {
        let world = World::new();
        fs::create_dir(world.path("run")).expect("it is ours");
        let program = world.path("van");
        fs::copy(env!("CARGO_BIN_EXE_van"), &program).expect("there is room");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
        for path in ["", "run"] {
            chown(world.path(path), user, user).expect("only root travels as somebody else");
        }
        Self { world, user }
    }

    /// Runs a command that must succeed without complaints.
    #[track_caller]
    fn does(&self, line: &str, output: &str) {
        assert_eq!(
            self.van(line),
            Said { code: Some(0), output: output.into(), complaint: String::new() },
            "van {line}"
        );
    }

    fn van(&self, line: &str) -> Said {
        let known = self.world.command(line);
        let mut command = Command::new(self.world.path("van"));
        command.args(known.get_args()).current_dir(self.world.path("")).env_clear();
        command.envs(known.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        self.world.said(&command.output().expect("it is a program"))
    }

    /// The name in the token that was issued.
    fn token(&self) -> String {
        let text = fs::read_to_string(self.world.path("west.yaml")).expect("it was issued");
        let document = Document::read_all(&text).pop().expect("a document").expect("it can be read");
        let Document::AccessToken(AccessToken { metadata, .. }) = document else {
            panic!("{}", yaml::write(&document))
        };
        metadata.name
    }
}

impl Drop for Traveller {
    fn drop(&mut self) {
        for namespace in ["east", "west"] {
            self.van(&format!("-n {namespace} system stop --purge"));
        }
    }
}

/// A server that answers every request with one text; its port.
fn server() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are ports");
    let port = socket.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for mut stream in socket.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello");
        }
    });
    port
}

fn request(port: u16) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("somebody listens");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").expect("it is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let _ = stream.shutdown(Shutdown::Both);
    answer
}

fn started(name: &str) -> String {
    format!(
        "Sources will be consumed from namespace {name:?}\nSite {name:?} has been created on namespace {name:?}\n\
         Platform: linux\nDefinition is available at: BASE/{name}/input/resources\n"
    )
}

fn stopped(name: &str) -> String {
    let start = format!("\"van -n {name} system start\" starts it");
    format!("Namespace {name:?} has been stopped; its documents stay: {start}\n")
}

fn travel(user: Option<u32>) {
    let traveller = Traveller::new(user);
    let (backend, port) = (server(), free_port());
    let written = |namespace, file| format!("File written to BASE/{namespace}/input/resources/{file}.yaml\n");

    traveller.does("-n west site create west --enable-link-access", &written("west", "Site-west"));
    // Tests keep to the loopback.
    let file = traveller.world.namespace("west").input_resources().join("Site-west.yaml");
    let mut text = fs::read_to_string(&file).expect("it was written");
    text += "  settings: {link-bind-host: 127.0.0.1, link-hosts: 127.0.0.1}\n";
    fs::write(&file, text).expect("it can be written");
    traveller.does("-n west system start", &started("west"));
    traveller.does("-n east site create east", &written("east", "Site-east"));
    traveller.does("-n east system start", &started("east"));

    let issued = traveller.van("-n west token issue west.yaml");
    let token = traveller.token();
    let next = "Transfer this file to a remote site. At the remote site, make a link to this site with\n\n\tvan token \
                redeem west.yaml\n\nThe token expires after 1 use(s) or after 15m0s.\n";
    let output =
        format!("Waiting for token status ...\n\nGrant {token:?} is ready\nToken file west.yaml created\n\n{next}");
    assert_eq!(issued, Said { code: Some(0), output, complaint: String::new() });
    let redeemed = format!("Token {token:?} has been redeemed.\nLink {token:?} is ready.\n");
    traveller.does("-n east token redeem west.yaml", &redeemed);
    let status = traveller.van("-n east link status");
    let is_ready = status.output.lines().any(|line| line.starts_with(&format!("{token}\tReady\t1\t")));
    assert!(is_ready && status.code == Some(0), "{status:?}");

    traveller.does(
        &format!("-n west connector create backend {backend} --host 127.0.0.1"),
        &written("west", "Connector-backend"),
    );
    let waited = "Waiting for create to complete...\nListener \"backend\" is ready\n";
    traveller.does(
        &format!("-n east listener create backend {port} --host 127.0.0.1 --wait ready"),
        &(written("east", "Listener-backend") + waited),
    );
    let answer = request(port);
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");
    let titles = "NAME\tSTATUS\tROUTING-KEY\tHOST\t\tPORT\tMATCHING-CONNECTOR\tMESSAGE\n";
    let row = format!("backend\tReady\tbackend\t\t127.0.0.1\t{port}\ttrue\t\t\tOK\n");
    traveller.does("-n east listener status", &format!("{titles}{row}"));

    let complaint = format!("van: failed to redeem claim {token}: the token has been used up; ask for a new one\n");
    let refused = Said { code: Some(1), output: String::new(), complaint };
    assert_eq!(traveller.van("-n east token redeem west.yaml"), refused);
    // It does no harm.
    assert!(request(port).ends_with("hello"));
    traveller.does("-n east system stop", &stopped("east"));
    traveller.does("-n west system stop", &stopped("west"));
}

#[test]
fn two_sites_are_joined_by_a_token() {
    travel(None);
}

#[test]
fn an_ordinary_user_can_do_the_same() {
    if rustix::process::geteuid().is_root() {
        travel(Some(NOBODY));
    } else {
        eprintln!("skipped: whoever runs the tests is an ordinary user already");
    }
}
