//! What sites know of each other, and how soon.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use van_site::document::Document;
use van_site::resource::site::SiteStatus;
use van_site::resource::{Kind, connector::ConnectorStatus, link::LinkStatus, listener::ListenerStatus};
use van_site::status::State;
use van_site::{Builder, Site, Snapshot, TokenRequest, grants};

/// Far more than anything here takes; how long it took is printed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a site looks so.
async fn sees(what: &str, site: &Site, mut look: impl FnMut(&Snapshot) -> bool) {
    let begun = Instant::now();
    let mut snapshot = site.watch();
    let seen =
        timeout(PATIENCE, snapshot.wait_for(|snapshot| look(snapshot))).await.map(|seen| drop(seen.expect("it runs")));
    println!("{what}: {:?}", begun.elapsed());
    assert!(seen.is_ok(), "{what}: {:#?}", site.watch().borrow().documents);
}

fn site_status(snapshot: &Snapshot) -> SiteStatus {
    let site = snapshot.documents.values().find_map(|document| match document {
        Document::Site(site) => Some(site.status.clone()),
        _ => None,
    });
    site.expect("its Site")
}

fn link(snapshot: &Snapshot) -> Option<&LinkStatus> {
    snapshot.documents.values().find_map(|document| match document {
        Document::Link(link) => Some(&link.status),
        _ => None,
    })
}

fn listener(snapshot: &Snapshot) -> Option<&ListenerStatus> {
    snapshot.documents.values().find_map(|document| match document {
        Document::Listener(listener) => Some(&listener.status),
        _ => None,
    })
}

fn connector(snapshot: &Snapshot) -> Option<&ConnectorStatus> {
    snapshot.documents.values().find_map(|document| match document {
        Document::Connector(connector) => Some(&connector.status),
        _ => None,
    })
}

fn is_matched(snapshot: &Snapshot) -> bool {
    listener(snapshot).is_some_and(|status| status.has_matching_connector && status.common.state == Some(State::Ready))
}

fn sites(count: u32) -> impl Fn(&Snapshot) -> bool {
    move |snapshot| site_status(snapshot).sites_in_network == count
}

async fn hub() -> Site {
    Site::builder("hub").link_access_at("127.0.0.1").shards(1).start().await.expect("the hub starts")
}

async fn joined(hub: &Site, name: &str) -> Site {
    let token = hub.issue_token(&TokenRequest::default()).await.expect("a token");
    Site::builder(name).token(token).shards(1).start().await.expect("it starts")
}

#[tokio::test]
async fn sites_know_each_other_by_name() {
    let hub = hub().await;
    let east = joined(&hub, "east").await;
    sees("a link knows its remote site", &east, |snapshot| {
        link(snapshot).is_some_and(|link| {
            let name = link.remote_site_name.as_deref();
            link.common.state == Some(State::Ready) && name == Some("hub") && link.remote_site_id.is_some()
        })
    })
    .await;
    let north = joined(&hub, "north").await;
    for (name, site) in [("hub", &hub), ("east", &east), ("north", &north)] {
        sees(&format!("{name} sees three sites"), site, sites(3)).await;
    }
    hub.connector("backend", "127.0.0.1:9").await.expect("a connector");
    east.listener("backend", "127.0.0.1:0").await.expect("a listener");
    sees("a listener is matched", &east, is_matched).await;
    sees("a connector is matched", &hub, |snapshot| connector(snapshot).is_some_and(|it| it.has_matching_listener))
        .await;
    sees("all of it is seen elsewhere", &north, |snapshot| {
        let network = site_status(snapshot).network;
        let site = |name: &str| network.iter().find(|site| site.name == name);
        let (Some(hub), Some(east), Some(north)) = (site("hub"), site("east"), site("north")) else { return false };
        let leads_to_hub = |links: &[van_site::resource::site::LinkRecord]| {
            links
                .iter()
                .any(|link| (&link.remote_site_id, &*link.remote_site_name) == (&hub.id, "hub") && link.operational)
        };
        let connectors = hub.services.iter().find(|service| service.routing_key == "backend").map(|it| &it.connectors);
        let listeners = east.services.iter().find(|service| service.routing_key == "backend").map(|it| &it.listeners);
        leads_to_hub(&east.links)
            && leads_to_hub(&north.links)
            && connectors == Some(&vec!["127.0.0.1".to_owned()])
            && listeners == Some(&vec!["backend".to_owned()])
    })
    .await;
    hub.withdraw(Kind::Connector, "backend").await.expect("it goes");
    sees("a listener lost its connector", &east, |snapshot| !is_matched(snapshot)).await;
    hub.connector("backend", "127.0.0.1:9").await.expect("a connector");
    east.withdraw(Kind::Listener, "backend").await.expect("it goes");
    sees("a connector lost its listener", &hub, |snapshot| {
        connector(snapshot).is_some_and(|it| !it.has_matching_listener)
    })
    .await;
    north.shutdown(Duration::ZERO).await;
    sees("a site has left", &hub, sites(2)).await;
    sees("a site has left, seen from another", &east, sites(2)).await;
    drop(east);
    sees("a site was dropped", &hub, sites(1)).await;
}

#[tokio::test]
async fn a_site_out_of_reach_is_forgotten_in_seconds_and_comes_back() {
    goes_out_of_reach_and_comes_back("inter-router", Site::builder("far").shards(1)).await;
}

#[tokio::test]
async fn an_edge_site_out_of_reach_is_forgotten_in_seconds_and_comes_back() {
    goes_out_of_reach_and_comes_back("edge", Site::builder("far").edge().shards(1)).await;
}

async fn goes_out_of_reach_and_comes_back(role: &str, far: Builder) {
    let hub = hub().await;
    let wire = Wire::new().await;
    let far = wire.join(&hub, role, far).await;
    far.connector("backend", "127.0.0.1:9").await.expect("a connector");
    hub.listener("backend", "127.0.0.1:0").await.expect("a listener");
    sees("a listener is matched", &hub, is_matched).await;
    sees("two sites", &hub, sites(2)).await;
    wire.cut();
    sees("cut: the listener is not ready", &hub, |snapshot| !is_matched(snapshot)).await;
    sees("cut: the link is not ready", &far, |snapshot| {
        link(snapshot).is_some_and(|link| link.common.state != Some(State::Ready))
    })
    .await;
    let begun = Instant::now();
    sees("cut: the other site is gone", &hub, sites(1)).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "silence alone takes 30 s");
    sees("cut: the hub is gone", &far, sites(1)).await;
    wire.mend();
    sees("mended: the listener is ready", &hub, is_matched).await;
    sees("mended: two sites", &hub, sites(2)).await;
    sees("mended: two sites at the other end", &far, sites(2)).await;
}

#[tokio::test]
async fn a_dial_waits_for_a_site_that_comes_later() {
    let hub = Arc::new(hub().await);
    let dialling = tokio::spawn({
        let hub = Arc::clone(&hub);
        async move { hub.dial("greeter").await }
    });
    let late = joined(&hub, "late").await;
    let mut incoming = late.accept("greeter").await.expect("the key is consumed");
    let mut stream = timeout(PATIENCE, dialling).await.expect("in time").expect("no panic").expect("a stream");
    stream.write_all(b"at last").await.expect("it is taken");
    stream.shutdown().await.expect("it ends");
    let mut heard = String::new();
    incoming.next().await.expect("a stream").read_to_string(&mut heard).await.expect("it ends");
    assert_eq!(heard, "at last");
}

#[tokio::test]
async fn streams_under_way_may_end_before_a_site_does() {
    let hub = hub().await;
    let late = joined(&hub, "late").await;
    let mut incoming = hub.accept("greeter").await.expect("the key is consumed");
    let mut stream = timeout(PATIENCE, late.dial("greeter")).await.expect("in time").expect("a stream");
    stream.write_all(b"one ").await.expect("it is taken");
    let mut served = incoming.next().await.expect("a stream");
    let mut first = [0; 4];
    served.read_exact(&mut first).await.expect("it comes");
    let ending = tokio::spawn(late.shutdown(PATIENCE));
    stream.write_all(b"more").await.expect("it is taken");
    stream.shutdown().await.expect("it ends");
    let mut rest = String::new();
    served.read_to_string(&mut rest).await.expect("it ends");
    served.shutdown().await.expect("it ends");
    assert_eq!(rest, "more");
    drop((stream, served));
    timeout(PATIENCE / 2, ending).await.expect("well before the deadline").expect("no panic");
}

/// What a link runs over: can be cut as a cable can.
struct Wire {
    port: u16,
    state: Arc<Mutex<Line>>,
    accepting: AbortHandle,
}

#[derive(Default)]
struct Line {
    is_cut: bool,
    target: Option<String>,
    connections: JoinSet<()>,
}

impl Wire {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::<Mutex<Line>>::default();
        let line = Arc::clone(&state);
        let accept = async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut line = line.lock().expect("not poisoned");
                let Some(target) = line.target.clone().filter(|_| !line.is_cut) else { continue };
                line.connections.spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(target).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        };
        let accepting = tokio::spawn(accept).abort_handle();
        Self { port, state, accepting }
    }

    /// Starts a site that links to the hub over this wire.
    async fn join(&self, hub: &Site, role: &str, mut builder: Builder) -> Site {
        let token = hub.issue_token(&TokenRequest::default()).await.expect("a token");
        let documents = grants::redeem(&token, "far", PATIENCE).await.expect("it is redeemed");
        for mut document in documents {
            if let Document::Link(link) = &mut document {
                for endpoint in link.spec.endpoints.iter_mut().filter(|endpoint| endpoint.name == role) {
                    let target = format!("{}:{}", endpoint.host, endpoint.port);
                    self.state.lock().expect("not poisoned").target = Some(target);
                    endpoint.port = self.port.to_string();
                }
            }
            builder = builder.document(document);
        }
        builder.start().await.expect("it starts")
    }

    fn cut(&self) {
        let mut line = self.state.lock().expect("not poisoned");
        line.is_cut = true;
        line.connections.abort_all();
    }

    fn mend(&self) {
        self.state.lock().expect("not poisoned").is_cut = false;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
