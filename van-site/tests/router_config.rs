//! The router's configuration as a file.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use van_adaptors::EntityKind;
use van_core::management::config::{Configuration, Mode};
use van_site::certificates::{self, Certificates};
use van_site::derive::{self, Surroundings};
use van_site::document::{Document, DocumentMap, Key};
use van_site::render;
use van_site::resource::{Kind, Secret};
use van_site::router_config::router_config;
use van_site::store::{Identity, Store};

const INPUT: &str = "
apiVersion: skupper.io/v2alpha1
kind: Site
metadata: {name: west}
spec: {linkAccess: default, settings: {link-bind-host: 127.0.0.1}}
---
apiVersion: skupper.io/v2alpha1
kind: Listener
metadata: {name: backend}
spec: {routingKey: backend, host: 127.0.0.1, port: 8080, tlsCredentials: web, observer: none}
---
apiVersion: skupper.io/v2alpha1
kind: Connector
metadata: {name: db}
spec: {routingKey: db, host: 10.1.2.3, port: 5432, tlsCredentials: db}
---
apiVersion: skupper.io/v2alpha1
kind: MultiKeyListener
metadata: {name: mk}
spec: {host: 127.0.0.1, port: 8081, strategy: {priority: {routingKeys: [first, second]}}}
---
apiVersion: skupper.io/v2alpha1
kind: Link
metadata: {name: hub}
spec:
  cost: 2
  tlsCredentials: hub
  endpoints: [{name: inter-router, host: hub.example.com, port: \"55671\"}]
  settings: {proxy-configuration: corp}
---
apiVersion: v1
kind: Secret
metadata: {name: corp}
type: kubernetes.io/basic-auth
stringData: {host: proxy.example.com, port: \"3128\", username: svc, password: s3cret}
";

/// One entity a line, as the original's file has them.
const EXPECTED: &str = r#"["router",{"id":"west-1","mode":"interior","helloMaxAgeSeconds":"3","metadata":"{\"id\":\"9a0d\",\"version\":\"VERSION\",\"platform\":\"linux\"}","dropTcpConnections":false}]
["sslProfile",{"name":"db-profile","caCertFile":"/certs/db-profile/ca.crt"}]
["sslProfile",{"name":"hub-profile","certFile":"/certs/hub-profile/tls.crt","privateKeyFile":"/certs/hub-profile/tls.key","caCertFile":"/certs/hub-profile/ca.crt"}]
["sslProfile",{"name":"skupper-local-server","certFile":"/certs/skupper-local-server/tls.crt","privateKeyFile":"/certs/skupper-local-server/tls.key","caCertFile":"/certs/skupper-local-server/ca.crt"}]
["sslProfile",{"name":"web","certFile":"/certs/web/tls.crt","privateKeyFile":"/certs/web/tls.key","caCertFile":"/certs/web/ca.crt"}]
["sslProfile",{"name":"west","certFile":"/certs/west/tls.crt","privateKeyFile":"/certs/west/tls.key","caCertFile":"/certs/west/ca.crt"}]
["proxyProfile",{"name":"corp","host":"proxy.example.com","port":"3128","username":"svc","password":"file:/proxies/corp/password.txt"}]
["connector",{"name":"hub","role":"inter-router","host":"hub.example.com","port":"55671","cost":2,"sslProfile":"hub-profile","proxyProfile":"corp"}]
["listener",{"name":"skupper-local-normal","role":"normal","host":"127.0.0.1","port":5671,"sslProfile":"skupper-local-server","saslMechanisms":"EXTERNAL","authenticatePeer":true}]
["listener",{"name":"west-edge","role":"edge","host":"127.0.0.1","port":45671,"sslProfile":"west","saslMechanisms":"EXTERNAL","authenticatePeer":true}]
["listener",{"name":"west-inter-router","role":"inter-router","host":"127.0.0.1","port":55671,"sslProfile":"west","saslMechanisms":"EXTERNAL","authenticatePeer":true}]
["address",{"prefix":"mc","distribution":"multicast"}]
["tcpConnector",{"name":"connector/db@10.1.2.3","host":"10.1.2.3","port":"5432","address":"db","siteId":"9a0d","sslProfile":"db-profile","verifyHostname":false}]
["tcpListener",{"name":"listener/backend","host":"127.0.0.1","port":"8080","address":"backend","siteId":"9a0d","sslProfile":"web","observer":"none"}]
["tcpListener",{"name":"multiAddress/mk","host":"127.0.0.1","port":"8081","siteId":"9a0d","multiAddressStrategy":"priority"}]
["listenerAddress",{"name":"mk/first","address":"first","value":1,"listener":"multiAddress/mk"}]
["listenerAddress",{"name":"mk/second","address":"second","value":0,"listener":"multiAddress/mk"}]
["log",{"module":"ROUTER_CORE","enable":"error+"}]
["site",{"name":"west-1","platform":"linux","namespace":"west","version":"VERSION"}]"#;

/// What the original made its configuration of an edge site from, with what else it looks at in vain there.
const EDGE_INPUT: &str = "
apiVersion: skupper.io/v2alpha1
kind: Site
metadata: {name: edge1}
spec: {edge: true}
---
apiVersion: skupper.io/v2alpha1
kind: Connector
metadata: {name: db}
spec: {routingKey: db, host: 10.1.2.3, port: 5432}
---
apiVersion: skupper.io/v2alpha1
kind: Link
metadata: {name: west}
spec:
  tlsCredentials: west-link
  endpoints:
  - {name: inter-router, host: 203.0.113.9, port: \"55671\", group: skupper-router}
  - {name: edge, host: 203.0.113.9, port: \"45671\", group: skupper-router}
---
apiVersion: skupper.io/v2alpha1
kind: AccessGrant
metadata: {name: nobody}
";

const EDGE_EXPECTED: &str = r#"["router",{"id":"west-1","mode":"edge","helloMaxAgeSeconds":"3","metadata":"{\"id\":\"9a0d\",\"version\":\"VERSION\",\"platform\":\"linux\"}","dropTcpConnections":false}]
["sslProfile",{"name":"skupper-local-server","certFile":"/certs/skupper-local-server/tls.crt","privateKeyFile":"/certs/skupper-local-server/tls.key","caCertFile":"/certs/skupper-local-server/ca.crt"}]
["sslProfile",{"name":"west-link-profile","certFile":"/certs/west-link-profile/tls.crt","privateKeyFile":"/certs/west-link-profile/tls.key","caCertFile":"/certs/west-link-profile/ca.crt"}]
["connector",{"name":"west","role":"edge","host":"203.0.113.9","port":"45671","cost":1,"sslProfile":"west-link-profile"}]
["listener",{"name":"skupper-local-normal","role":"normal","host":"127.0.0.1","port":5671,"sslProfile":"skupper-local-server","saslMechanisms":"EXTERNAL","authenticatePeer":true}]
["address",{"prefix":"mc","distribution":"multicast"}]
["tcpConnector",{"name":"connector/db@10.1.2.3","host":"10.1.2.3","port":"5432","address":"db","siteId":"9a0d"}]
["log",{"module":"ROUTER_CORE","enable":"error+"}]
["site",{"name":"west-1","platform":"linux","namespace":"west","version":"VERSION"}]"#;

fn made(documents: &DocumentMap) -> Certificates {
    let wanted = documents.values().filter_map(|document| match document {
        Document::Certificate(certificate) => Some((certificate.metadata.name.clone(), certificate.spec.clone())),
        _ => None,
    });
    certificates::ensure(&wanted.collect(), &Store::memory(), SystemTime::now())
}

fn ports() -> BTreeMap<String, u16> {
    let ports = [("inter-router", 55671), ("edge", 45671), ("local", 5671)];
    ports.map(|(name, port)| (name.to_owned(), port)).into()
}

/// What a site of these documents is to be.
fn documents(input: &str) -> DocumentMap {
    let documents = Document::read_all(input).into_iter().map(|document| document.expect("it is sound"));
    let documents = documents.map(|document| (document.key(), document)).collect();
    derive::derive(&documents, &Surroundings { ports: &ports(), hosts: &[], loopback: &["127.0.0.1".to_owned()] })
}

/// Certificates, with what a link's Secret would hold.
fn certificates(documents: &DocumentMap) -> Certificates {
    let mut certificates = made(documents);
    let hub = certificates["west"].as_ref().expect("it is made").clone();
    certificates.insert("hub".to_owned(), Ok(hub));
    certificates
}

#[test]
fn the_file_has_the_attributes_and_types_of_the_original() {
    let documents = documents(INPUT);
    let read = check(&documents, &certificates(&documents), EXPECTED);
    assert_eq!((read.connectors.len(), read.listeners.len()), (1, 3));
    assert_eq!((read.tcp_connectors.len(), read.tcp_listeners.len(), read.tls_profiles.len()), (1, 2, 5));
}

#[test]
fn an_edge_site_dials_the_edge_endpoint_and_opens_nothing_to_others() {
    let documents = documents(EDGE_INPUT);
    let mut certificates = made(&documents);
    let link = certificates["skupper-local-client"].as_ref().expect("it is made").clone();
    certificates.insert("west-link".to_owned(), Ok(link));
    let read = check(&documents, &certificates, EDGE_EXPECTED);
    assert_eq!((read.mode, read.connectors.len(), read.listeners.len()), (Mode::Edge, 1, 1));
}

/// Renders documents, and reads the file as our router does.
fn check(documents: &DocumentMap, certificates: &Certificates, expected: &str) -> Configuration {
    let rendered = render::render(documents, certificates, SystemTime::now());
    assert_eq!(rendered.faults, BTreeMap::new());
    let identity = Identity { id: "9a0d".into(), router: "west-1".into(), ports: ports() };
    let text = router_config(documents, &rendered, &identity, "west", Path::new("/certs"));
    let compact: String = text.lines().map(str::trim_start).collect::<String>().replace("\": ", "\":");
    let expected = expected.replace("VERSION", env!("CARGO_PKG_VERSION"));
    assert_eq!(compact, format!("[{}]", expected.replace('\n', ",")));
    Configuration::parse(&text, |_| None).expect("our router reads it")
}

#[test]
fn a_proxy_that_cannot_be_used_is_a_fault_of_its_link() {
    for (entry, instead) in [("host: proxy.example.com, ", ""), ("port: \"3128\"", "port: http")] {
        let input = INPUT.replace(entry, instead);
        assert_ne!(input, INPUT);
        let documents = documents(&input);
        let rendered = render::render(&documents, &certificates(&documents), SystemTime::now());
        let faults: Vec<_> = rendered.faults.values().collect();
        assert!(matches!(&faults[..], [fault] if fault.starts_with("secret \"corp\" has no usable `")), "{faults:?}");
    }
}

/// A Secret of this name, as YAML, with a certificate of another site.
fn foreign_secret(name: &str) -> String {
    let documents = documents(INPUT);
    let made = made(&documents);
    let credentials = made["west"].as_ref().expect("it is made");
    let mut secret = Secret::new(name, Secret::TLS);
    secret.set("tls.crt", credentials.identity.chain_pem());
    secret.set("tls.key", credentials.identity.key_pem());
    secret.set("ca.crt", credentials.trust.pem());
    format!("\n---\n{}", van_site::yaml::write(&Document::from(secret)))
}

#[test]
fn a_secret_called_like_the_certificate_of_an_access_is_a_fault_of_its_listener() {
    let listener = "\n---\napiVersion: skupper.io/v2alpha1\nkind: Listener\nmetadata: {name: twin}\n\
                    spec: {routingKey: twin, host: 127.0.0.1, port: 1, tlsCredentials: west}\n";
    let documents = documents(&(INPUT.to_owned() + listener + &foreign_secret("west")));
    let certificates = certificates(&documents);
    let rendered = render::render(&documents, &certificates, SystemTime::now());
    let faults: Vec<_> = rendered.faults.iter().map(|(key, fault)| format!("{key}: {fault}")).collect();
    let told =
        |fault: &String| fault.starts_with("Listener twin: `tlsCredentials` \"west\" is also what RouterAccess west");
    assert!(matches!(&faults[..], [fault] if told(fault)), "{faults:?}");
}

#[test]
fn a_certificate_that_has_expired_is_a_fault_and_stays_in_use() {
    let documents = documents(INPUT);
    let later = SystemTime::now() + Duration::from_secs(10 * 365 * 24 * 3600);
    let rendered = render::render(&documents, &certificates(&documents), later);
    let fault = &rendered.faults[&Key::new(Kind::RouterAccess, "west")];
    assert!(fault.starts_with("certificate \"west\": ") && fault.contains("expired"), "{fault}");
    assert!(rendered.entities.contains_key(&(EntityKind::Listener, "west-inter-router".to_owned())));
}
