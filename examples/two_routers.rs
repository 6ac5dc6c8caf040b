//! Two routers in one process, linked by mutual TLS; a TCP service of one is reached through the other by its routing key.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::json;
use van_adaptors::{Options, Router};
use van_core::management::config::Configuration;
use van_tls::{Authority, AuthorityRequest, KeyKind, LeafRequest, Usage, directory};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    make_certificates(folder.path())?;
    let workload = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (service, link, client) = (workload.local_addr()?.port(), free_port()?, free_port()?);
    std::thread::spawn(move || workload.incoming().try_for_each(|stream| stream?.write_all(b"hello from east")));

    let east = start(json!([
        ["router", {"id": "east", "mode": "interior"}],
        tls_profile(folder.path(), "east"),
        ["listener", {"name": "links", "role": "inter-router", "host": "localhost", "port": link, "sslProfile": "links", "authenticatePeer": true}],
        ["tcpConnector", {"name": "greeter", "host": "127.0.0.1", "port": service, "address": "greeter"}],
    ]))?;
    let mut west = start(json!([
        ["router", {"id": "west", "mode": "interior"}],
        tls_profile(folder.path(), "west"),
        ["connector", {"name": "east", "role": "inter-router", "host": "localhost", "port": link, "sslProfile": "links"}],
        ["tcpListener", {"name": "greeter", "host": "127.0.0.1", "port": client, "address": "greeter"}],
    ]))?;
    while !west.routes().is_reachable("greeter") {
        west.routes_changed().await;
    }
    println!("west's client hears: {}", tokio::task::spawn_blocking(move || ask(client)).await??);
    west.shutdown(Duration::from_secs(1)).await;
    east.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

fn start(configuration: serde_json::Value) -> anyhow::Result<Router> {
    let configuration = Configuration::parse(&configuration.to_string(), |name| std::env::var(name).ok())?;
    Ok(Router::start(configuration, &Options::default())?)
}

/// The listener opens a moment after its routing key has become reachable.
fn ask(port: u16) -> std::io::Result<String> {
    let mut answer = String::new();
    let mut client =
        std::iter::repeat_with(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port))).take(1000).find_map(Result::ok);
    client.as_mut().ok_or(std::io::ErrorKind::ConnectionRefused)?.read_to_string(&mut answer)?;
    Ok(answer)
}

fn tls_profile(folder: &Path, name: &str) -> serde_json::Value {
    let file = |file| folder.join(name).join(file);
    let (ca, certificate, key) =
        (file(directory::CA_FILE), file(directory::CERTIFICATE_FILE), file(directory::KEY_FILE));
    json!(["sslProfile", {"name": "links", "caCertFile": ca, "certFile": certificate, "privateKeyFile": key}])
}

fn make_certificates(folder: &Path) -> anyhow::Result<()> {
    let (now, key) = (SystemTime::now(), KeyKind::EcdsaP256);
    let authority = Authority::create(&AuthorityRequest { common_name: "example".into(), key, now, valid_for: DAY })?;
    for name in ["east", "west"] {
        let hosts = vec!["localhost".to_owned()];
        let leaf = LeafRequest { common_name: name.into(), hosts, usage: Usage::Both, key, now, valid_for: DAY };
        directory::write(&folder.join(name), &authority.issue(&leaf)?)?;
    }
    Ok(())
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
