//! Links with OpenSSL, which is what skupper-router uses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::*;
use crate::directory;

/// An `openssl` process with a folder `west` of credentials; ended with the test.
struct OpenSsl {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    _folder: tempfile::TempDir,
}

/// [`now`] for openssl.
const NOW: &str = "1800000000";

/// Whether there is an `openssl`; `.ci/run` insists on it.
fn is_installed() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    let required = std::env::var_os("VAN_REQUIRE_FOREIGN").is_some_and(|value| value == "1");
    assert!(found || !required, "openssl is missing");
    found
}

fn start(subcommand: &str, credentials: &Credentials, args: &[&str]) -> OpenSsl {
    let folder = tempfile::tempdir().unwrap();
    directory::write(folder.path(), credentials).unwrap();
    let mut process = Command::new("openssl")
        .arg(subcommand)
        .args([
            "-tls1_3",
            "-cert",
            "tls.crt",
            "-key",
            "tls.key",
            "-CAfile",
            "ca.crt",
            "-verify_return_error",
            "-attime",
            NOW,
        ])
        .args(args)
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (stdin, stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
    OpenSsl { process, stdin, stdout: BufReader::new(stdout), _folder: folder }
}

/// A server on a free port, and a connection to it.
fn serve(credentials: &Credentials, args: &[&str]) -> (OpenSsl, TcpStream) {
    let mut server = start("s_server", credentials, &[&["-accept", "127.0.0.1:0", "-Verify", "1"], args].concat());
    let ready = server.wait_for("ACCEPT ");
    let stream = TcpStream::connect(ready.trim_start_matches("ACCEPT ").trim()).unwrap();
    (server, stream)
}

/// A client, and the connection it made.
fn dial(credentials: &Credentials, args: &[&str]) -> (OpenSsl, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = start("s_client", credentials, &[&["-connect", &address, "-servername", "west"], args].concat());
    (client, listener.accept().unwrap().0)
}

impl OpenSsl {
    /// Types a line, which openssl sends, or takes as a command if it is one letter.
    fn type_line(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    /// Waits for a line of output that contains `text`.
    fn wait_for(&mut self, text: &str) -> String {
        let mut line = Vec::new();
        while self.stdout.read_until(b'\n', &mut line).unwrap() > 0 {
            let shown = String::from_utf8_lossy(&line).into_owned();
            if shown.contains(text) {
                return shown;
            }
            line.clear();
        }
        panic!("openssl ended without {text:?}");
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Our end, over a socket.
struct Ours {
    stream: TcpStream,
    records: Tls13Records,
    received: Vec<u8>,
    opened: Vec<u8>,
}

fn establish(mut handshake: Handshake, mut stream: TcpStream) -> Result<Ours, HandshakeError> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    loop {
        stream.write_all(&drain(handshake.output())).unwrap();
        let octets = read(&mut stream);
        if let Some(mut established) = handshake.handle_received(&octets)? {
            stream.write_all(&drain(&mut established.output)).unwrap();
            let Established { records, received, .. } = established;
            return Ok(Ours { stream, records, received, opened: Vec::new() });
        }
    }
}

fn read(stream: &mut TcpStream) -> Vec<u8> {
    let mut octets = vec![0; 4096];
    let len = stream.read(&mut octets).unwrap();
    octets.truncate(len);
    octets
}

impl Ours {
    fn send(&mut self, parts: &[&[u8]]) {
        let mut out = OutBuf::new();
        self.records.seal(parts, &mut out).unwrap();
        self.stream.write_all(&drain(&mut out)).unwrap();
    }

    /// Reads until `text` was opened, or to the end of the octets.
    fn wait_for(&mut self, text: &str) -> Result<(), OpenError> {
        loop {
            self.opened.extend(open_all(&mut self.records, &mut self.received)?.0);
            if String::from_utf8_lossy(&self.opened).contains(text) || !self.read() {
                return Ok(());
            }
        }
    }

    fn read(&mut self) -> bool {
        let octets = read(&mut self.stream);
        self.received.extend(&octets);
        !octets.is_empty()
    }
}

/// Says everything that a link may say, in both directions.
fn converse(openssl: &mut OpenSsl, ours: &mut Ours) {
    openssl.type_line("from openssl");
    ours.wait_for("from openssl\n").unwrap();
    ours.send(&[b"from", b" ", b"us\n"]);
    openssl.wait_for("from us");

    // openssl takes new keys and wants us to. It reads a command only if nothing comes right behind it.
    openssl.type_line("K");
    ours.read();
    openssl.type_line("under its second key");
    ours.wait_for("under its second key\n").unwrap();
    ours.send(&[b"under our second key\n"]);
    openssl.wait_for("under our second key");

    // We take new keys and want openssl to.
    let mut out = OutBuf::new();
    ours.records.refresh_keys(&mut out).unwrap();
    ours.stream.write_all(&drain(&mut out)).unwrap();
    ours.send(&[b"under our third key\n"]);
    openssl.wait_for("under our third key");
    openssl.type_line("under its third key");
    ours.wait_for("under its third key\n").unwrap();

    // Many full records, and a short one.
    let block = "0123456789abcde\n".repeat(10_000);
    ours.send(&[&block.as_bytes()[..7], &block.as_bytes()[7..], b"last line\n"]);
    openssl.wait_for("last line");
    openssl.stdin.write_all(block.as_bytes()).unwrap();
    openssl.type_line("last of openssl");
    ours.wait_for("last of openssl\n").unwrap();
    assert!(String::from_utf8_lossy(&ours.opened).contains(&block));
}

#[test]
#[ignore = "needs openssl"]
fn connector_links_with_openssl() {
    if !is_installed() {
        return;
    }
    for suite in SUITES {
        let west = west();
        let (mut server, stream) = serve(&west, &["-ciphersuites", suite.name()]);
        let mut ours = establish(connector(&west).connect("west", now()).unwrap(), stream).unwrap();
        assert_eq!(ours.records.suite(), suite);
        converse(&mut server, &mut ours);

        let mut out = OutBuf::new();
        ours.records.close(&mut out);
        ours.stream.write_all(&drain(&mut out)).unwrap();
        ours.wait_for("the end").unwrap();
        ours.records.handle_eof().unwrap();
    }
}

#[test]
#[ignore = "needs openssl"]
fn acceptor_links_with_openssl() {
    if !is_installed() {
        return;
    }
    for suite in SUITES {
        let west = ca().issue(&LeafRequest { key: KeyKind::Rsa2048, ..leaf("west", &["west"]) }).unwrap();
        let (mut client, stream) = dial(&west, &["-ciphersuites", suite.name()]);
        let mut ours = establish(acceptor(&west).accept(now()).unwrap(), stream).unwrap();
        assert_eq!(ours.records.suite(), suite);
        converse(&mut client, &mut ours);

        client.type_line("Q");
        ours.wait_for("the end").unwrap();
        ours.records.handle_eof().unwrap();
    }
}

#[test]
#[ignore = "needs openssl"]
fn openssl_that_refuses_our_certificate_says_why() {
    if !is_installed() {
        return;
    }
    let stranger = new_ca("other", KeyKind::EcdsaP256).issue(&leaf("west", &["west"])).unwrap();
    let distrusting = Credentials { trust: stranger.trust.clone(), ..west() };
    let (_server, stream) = serve(&distrusting, &[]);
    let mut ours = establish(connector(&west()).connect("west", now()).unwrap(), stream).unwrap();
    let error = ours.wait_for("nothing").unwrap_err();
    assert!(matches!(error, OpenError::Alert(Alert(48))), "{error}");

    let (_client, stream) = dial(&distrusting, &[]);
    let error = establish(acceptor(&west()).accept(now()).unwrap(), stream).err().unwrap();
    assert!(matches!(error, HandshakeError::Refused(Alert(48))), "{error}");
}

#[test]
#[ignore = "needs openssl"]
fn openssl_verifies_what_we_issue() {
    if !is_installed() {
        return;
    }
    for key in [KeyKind::Rsa2048, KeyKind::EcdsaP256] {
        let folder = tempfile::tempdir().unwrap();
        let issued = new_ca("skupper-site-ca", key).issue(&LeafRequest { key, ..leaf("west", &["west"]) }).unwrap();
        directory::write(folder.path(), &issued).unwrap();
        for purpose in ["sslserver", "sslclient"] {
            let output = Command::new("openssl")
                .args(["verify", "-x509_strict", "-attime", NOW, "-purpose", purpose, "-verify_hostname", "west"])
                .args(["-CAfile", "ca.crt", "tls.crt"])
                .current_dir(folder.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
