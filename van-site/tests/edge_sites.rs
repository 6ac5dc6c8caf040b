//! Edge sites, and interior ones that they link to.

#[path = "../../van-adaptors/tests/dial/ports.rs"]
mod ports;

use std::time::Duration;

use ports::free_port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use van_site::document::{Document, Key};
use van_site::resource::link::LinkSpec;
use van_site::resource::router_access::{AccessRole, RouterAccessSpec};
use van_site::resource::site::{SiteSpec, SiteStatus};
use van_site::resource::{AccessGrant, Endpoint, Kind, Link, Resource, RouterAccess};
use van_site::status::{EDGE_CANNOT_ACCEPT, State};
use van_site::{Builder, Site, Snapshot, TokenRequest};
use van_tls::{HostCheck, ServiceConnector, directory};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a site looks so.
async fn sees(what: &str, site: &Site, mut look: impl FnMut(&Snapshot) -> bool) {
    let mut snapshot = site.watch();
    let seen =
        timeout(PATIENCE, snapshot.wait_for(|snapshot| look(snapshot))).await.map(|seen| drop(seen.expect("it runs")));
    assert!(seen.is_ok(), "{what}: {:#?}", site.watch().borrow().documents);
}

/// State and message of a document.
fn status(snapshot: &Snapshot, kind: Kind, name: &str) -> Option<(State, String)> {
    let status = snapshot.documents.get(&Key::new(kind, name))?.status()?;
    Some((status.state?, status.message.clone()))
}

fn site_status(snapshot: &Snapshot) -> SiteStatus {
    let site = snapshot.documents.values().find_map(|document| match document {
        Document::Site(site) => Some(site.status.clone()),
        _ => None,
    });
    site.expect("its Site")
}

fn links(snapshot: &Snapshot) -> impl Iterator<Item = &Link> {
    snapshot.documents.values().filter_map(|document| match document {
        Document::Link(link) => Some(link),
        _ => None,
    })
}

/// The sites that the site's links lead to, those in use and those that stand by.
fn uplinks(snapshot: &Snapshot) -> (Vec<String>, Vec<String>) {
    let ready = links(snapshot).filter(|link| link.status.common.is_ready());
    let (used, standing_by): (Vec<_>, Vec<_>) = ready.partition(|link| link.status.common.message == "OK");
    let names = |links: Vec<&Link>| links.iter().filter_map(|link| link.status.remote_site_name.clone()).collect();
    (names(used), names(standing_by))
}

fn hub(name: &str) -> Builder {
    Site::builder(name).link_access_at("127.0.0.1").shards(1)
}

async fn token(hub: &Site) -> van_site::AccessToken {
    hub.issue_token(&TokenRequest::default()).await.expect("a token")
}

/// Answers requests with the name of its site.
async fn serves(site: &Site, key: &'static str) {
    let workload = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let target = workload.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = workload.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 1024];
                let mut read = 0;
                while !head[..read].ends_with(b"\r\n\r\n") {
                    read += client.read(&mut head[read..]).await.expect("it is open");
                }
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{key}", key.len());
                client.write_all(answer.as_bytes()).await.expect("it is open");
            });
        }
    });
    site.connector(key, &target).await.expect("a connector");
}

/// Asks at a listener of the site.
async fn asks(site: &Site, key: &str) {
    let port = site.listener(key, "127.0.0.1:0").await.expect("a listener");
    timeout(PATIENCE, site.ready(Kind::Listener, key)).await.expect("in time").expect("it runs");
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.expect("it is open");
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.expect("it is taken");
    let mut answer = String::new();
    timeout(PATIENCE, client.read_to_string(&mut answer)).await.expect("in time").expect("a clean end");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with(key), "{answer}");
}

/// A stream without sockets, from one site to another.
async fn reaches(from: &Site, to: &Site, key: &str) {
    let mut incoming = to.accept(key).await.expect("the key is consumed");
    let mut stream = timeout(PATIENCE, from.dial(key)).await.expect("in time").expect("a stream");
    stream.write_all(b"hello").await.expect("it is taken");
    stream.shutdown().await.expect("it ends");
    let mut heard = String::new();
    let mut taken = timeout(PATIENCE, incoming.next()).await.expect("in time").expect("a stream");
    taken.read_to_string(&mut heard).await.expect("it ends");
    assert_eq!(heard, "hello");
}

#[tokio::test]
async fn an_edge_site_and_interior_ones_serve_and_see_each_other() {
    let hub = hub("hub").start().await.expect("the hub starts");
    let far = Site::builder("far").token(token(&hub).await).shards(1).start().await.expect("it starts");
    let edge = Site::builder("edge").edge().token(token(&hub).await).shards(1).start().await.expect("it starts");
    sees("its link is in use", &edge, |snapshot| uplinks(snapshot) == (vec!["hub".to_owned()], Vec::new())).await;
    serves(&edge, "at-edge").await;
    serves(&far, "at-far").await;
    asks(&edge, "at-far").await;
    asks(&far, "at-edge").await;
    asks(&hub, "at-edge").await;
    reaches(&edge, &far, "out").await;
    reaches(&far, &edge, "in").await;
    for (name, site) in [("hub", &hub), ("far", &far), ("edge", &edge)] {
        sees(&format!("{name} sees all of it"), site, |snapshot| {
            let network = site_status(snapshot).network;
            let site = |name: &str| network.iter().find(|site| site.name == name);
            let (Some(hub), Some(far), Some(edge)) = (site("hub"), site("far"), site("edge")) else { return false };
            let leads_to_hub = |site: &van_site::resource::site::SiteRecord| {
                let [link] = &site.links[..] else { return false };
                (&*link.remote_site_name, link.operational) == ("hub", true)
            };
            let has_connector = |site: &van_site::resource::site::SiteRecord, key: &str| {
                site.services.iter().any(|service| service.routing_key == key && !service.connectors.is_empty())
            };
            leads_to_hub(far)
                && leads_to_hub(edge)
                && hub.links.is_empty()
                && has_connector(edge, "at-edge")
                && has_connector(far, "at-far")
        })
        .await;
    }
    sees("its connector is matched", &edge, |snapshot| {
        status(snapshot, Kind::Connector, "at-edge") == Some((State::Ready, "OK".to_owned()))
    })
    .await;
    edge.shutdown(Duration::ZERO).await;
    sees("it has left", &far, |snapshot| site_status(snapshot).sites_in_network == 2).await;
}

#[tokio::test]
async fn of_several_links_one_is_in_use_and_the_next_takes_over() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let first = hub("first").state_dir(folder.path()).start().await.expect("it starts");
    let second = hub("second").token(token(&first).await).start().await.expect("it starts");
    let edge = Site::builder("edge").edge().token(token(&first).await).shards(1).start().await.expect("it starts");
    sees("the first is in use", &edge, |snapshot| uplinks(snapshot).0 == ["first"]).await;
    edge.redeem(token(&second).await).await.expect("it is redeemed");
    sees("the second stands by", &edge, |snapshot| {
        uplinks(snapshot) == (vec!["first".to_owned()], vec!["second".to_owned()])
    })
    .await;
    let snapshot = edge.watch().borrow().clone();
    let in_use = links(&snapshot).find(|link| link.status.common.message == "OK").expect("one").metadata.name.clone();
    let message = format!("Standing by, should link \"{in_use}\" be lost");
    assert!(links(&snapshot).any(|link| link.status.common.message == message), "{message}");
    reaches(&edge, &second, "one").await;

    first.shutdown(Duration::ZERO).await;
    sees("the second is in use", &edge, |snapshot| uplinks(snapshot) == (vec!["second".to_owned()], Vec::new())).await;
    reaches(&edge, &second, "two").await;
    reaches(&second, &edge, "three").await;
    sees("it is ready meanwhile", &edge, |snapshot| site_status(snapshot).common.is_ready()).await;

    let first = hub("first").state_dir(folder.path()).start().await.expect("it starts again");
    sees("the first stands by", &edge, |snapshot| {
        uplinks(snapshot) == (vec!["second".to_owned()], vec!["first".to_owned()])
    })
    .await;
    reaches(&first, &edge, "four").await;
}

/// An edge site's own Site, or an interior one's.
fn site_document(is_edge: bool) -> Resource<SiteSpec> {
    Resource::new("roamer", SiteSpec { edge: is_edge, ..SiteSpec::default() })
}

#[tokio::test]
async fn a_site_becomes_an_edge_site_and_back_while_it_runs() {
    let hub = hub("hub").start().await.expect("the hub starts");
    let roamer = Site::builder("roamer").token(token(&hub).await).shards(1).start().await.expect("it starts");
    reaches(&roamer, &hub, "interior").await;
    let mut accepted = roamer.accept("lost").await.expect("the key is consumed");
    for (is_edge, role, key) in [(true, "edge", "edge"), (false, "inter-router", "interior-again")] {
        roamer.declare(site_document(is_edge)).await.expect("it can be carried out");
        reaches(&roamer, &hub, key).await;
        reaches(&hub, &roamer, &format!("{key}-in")).await;
        sees("the hub sees by what it links", &hub, |snapshot| {
            let mut sites = snapshot.network.sites.iter();
            let roamer = sites.find(|site| site.name == "roamer");
            roamer.is_some_and(|it| it.links.len() == 1 && it.links[0].role == role && it.links[0].is_operational)
        })
        .await;
    }
    assert!(accepted.next().await.is_none(), "who accepts is told that the router is another one");
}

#[tokio::test]
async fn what_an_edge_site_cannot_be_says_so() {
    let site = SiteSpec { edge: true, link_access: Some("default".into()), ..SiteSpec::default() };
    let roles = vec![AccessRole { name: "inter-router".into(), port: None }];
    let access = RouterAccessSpec { roles, ..RouterAccessSpec::default() };
    let edge = Site::builder("edge")
        .edge()
        .document(RouterAccess::new("open", access))
        .document(AccessGrant::new("grant", Default::default()))
        .shards(1)
        .start()
        .await
        .expect("it starts");
    let error = |advice: &str| Some((State::Error, format!("{EDGE_CANNOT_ACCEPT}{advice}")));
    sees("an access is refused", &edge, |snapshot| {
        status(snapshot, Kind::RouterAccess, "open") == error("; remove it, or `edge: true` of the Site")
    })
    .await;
    sees("a grant is refused", &edge, |snapshot| status(snapshot, Kind::AccessGrant, "grant") == error("")).await;
    let refused = edge.issue_token(&TokenRequest::default()).await.expect_err("there is no token");
    assert!(refused.to_string().ends_with(EDGE_CANNOT_ACCEPT), "{refused}");
    edge.declare(Resource::new("edge", site)).await.expect("it is carried out as far as it can be");
    sees("link access is refused", &edge, |snapshot| {
        status(snapshot, Kind::Site, "edge") == error("; remove `linkAccess`, or `edge: true`")
    })
    .await;
}

#[tokio::test]
async fn a_link_without_an_endpoint_for_this_kind_of_site_says_what_is_missing() {
    for (is_edge, offered, wanted, own) in
        [(true, "inter-router", "edge", "an edge"), (false, "edge", "inter-router", "an interior")]
    {
        let endpoint = Endpoint { name: offered.into(), host: "127.0.0.1".into(), port: "1".into(), group: None };
        let spec = LinkSpec { endpoints: vec![endpoint], ..LinkSpec::default() };
        let mut builder = Site::builder("site").shards(1).document(Link::new("hub", spec));
        if is_edge {
            builder = builder.edge();
        }
        let site = builder.start().await.expect("it starts");
        let message = format!(
            "there is no endpoint `{wanted}`, and this is {own} site; let the other one accept the role `{wanted}`, and \
             take a new token of it"
        );
        sees("the link says so", &site, |snapshot| {
            status(snapshot, Kind::Link, "hub") == Some((State::Error, message.clone()))
        })
        .await;
    }
}

#[tokio::test]
async fn an_access_opens_the_roles_it_has_and_tokens_tell_of_them() {
    for wanted in [&["inter-router"][..], &["edge"], &["inter-router", "edge"]] {
        let roles = wanted.iter().map(|name| AccessRole { name: (*name).into(), port: Some(free_port()) }).collect();
        let (bind_host, hosts) = (Some("127.0.0.1".into()), vec!["127.0.0.1".into()]);
        let access = RouterAccessSpec { roles, bind_host, subject_alternative_names: hosts, ..Default::default() };
        let hub = Site::builder("hub").document(RouterAccess::new("own", access.clone())).shards(1);
        let hub = hub.start().await.expect("it starts");
        let expected: Vec<_> = access.roles.iter().map(|it| (it.name.clone(), it.port.unwrap().to_string())).collect();
        sees("the endpoints are those", &hub, |snapshot| {
            let endpoints = site_status(snapshot).endpoints;
            endpoints.into_iter().map(|it| (it.name, it.port)).collect::<Vec<_>>() == expected
        })
        .await;
        let documents = van_site::grants::redeem(&token(&hub).await, "x", PATIENCE).await.expect("it is redeemed");
        let link = documents.iter().find_map(|document| match document {
            Document::Link(link) => Some(link),
            _ => None,
        });
        let endpoints = link.expect("a Link").spec.endpoints.iter().map(|it| (it.name.clone(), it.port.clone()));
        assert_eq!(endpoints.collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn clients_of_this_machine_are_let_in_by_their_certificate() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let site = Site::builder("site").state_dir(folder.path()).shards(1).start().await.expect("it starts");
    sees("the access is open", &site, |snapshot| {
        status(snapshot, Kind::RouterAccess, "skupper-local") == Some((State::Ready, "OK".to_owned()))
    })
    .await;
    let snapshot = site.watch().borrow().clone();
    let key = Key::new(Kind::RouterAccess, "skupper-local");
    let Some(Document::RouterAccess(access)) = snapshot.documents.get(&key) else { panic!("it is there") };
    let endpoint = &access.status.endpoints[0];
    let credentials = directory::read(&folder.path().join("runtime/certs/skupper-local-client")).expect("it is made");
    // What a listener offers, by its first frame: it comes once the client is known.
    let offered = async |identity: Option<&van_tls::Identity>| {
        let connector =
            ServiceConnector::new(&credentials.trust, identity, HostCheck::Verify).expect("there are suites");
        let address = format!("{}:{}", endpoint.host, endpoint.port);
        let socket = TcpStream::connect(address).await.expect("it is open");
        let shaken = connector.connect(&endpoint.host, None, std::time::SystemTime::now(), socket).await;
        let mut stream = shaken.ok()?;
        stream.write_all(b"AMQP\x03\x01\x00\x00").await.ok()?;
        let mut octets = vec![0; 512];
        let mut read = 0;
        while !octets[..read].windows(8).any(|it| it == b"EXTERNAL") {
            read += timeout(PATIENCE, stream.read(&mut octets[read..]))
                .await
                .expect("in time")
                .ok()
                .filter(|it| *it > 0)?;
        }
        Some(())
    };
    assert_eq!(offered(Some(&credentials.identity)).await, Some(()));
    assert_eq!(offered(None).await, None);
    assert!(site_status(&snapshot).endpoints.is_empty(), "nobody elsewhere is told of it");
}
