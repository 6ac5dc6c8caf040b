//! Many sites in one process, linked by tokens: a ring, and as many links again at random. All are ready and see each
//! other, and streams go from any to any.
//!
//! With `--nocapture` it says how long everything took and what a site takes of memory, and with `IDLE_SECONDS` also of
//! processor time when nothing happens.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;
use van_site::resource::Kind;
use van_site::{Incoming, Site, TokenRequest};

/// Debug builds on two busy processors count.
const PATIENCE: Duration = Duration::from_secs(300);

/// Streams from one site to another.
const DIALS: usize = 300;

#[tokio::test]
async fn twenty_sites_see_and_dial_each_other() {
    join(20).await;
}

#[tokio::test]
#[ignore = "a minute of all processors"]
async fn a_hundred_sites_see_and_dial_each_other() {
    join(100).await;
}

async fn join(count: usize) {
    let before = resident_kib();
    let begun = Instant::now();
    let sites = start(count).await;
    println!("{count} sites ready after {:?}", begun.elapsed());
    link(&sites).await;
    println!("all links ready after {:?}", begun.elapsed());
    for (index, site) in sites.iter().enumerate() {
        let mut snapshot = site.watch();
        let sees_all = snapshot.wait_for(|snapshot| snapshot.network.sites.len() == count && is_linked(snapshot));
        let seen = timeout(PATIENCE, sees_all).await.map(|seen| drop(seen.expect("it runs")));
        assert!(seen.is_ok(), "site {index} sees {}", site.watch().borrow().network.sites.len());
    }
    println!("every site sees all after {:?}", begun.elapsed());
    dial(&sites).await;
    println!("{DIALS} streams after {:?}", begun.elapsed());
    println!("{} KiB per site", (resident_kib() - before) / count);
    if let Some(seconds) = number("IDLE_SECONDS") {
        let (begun, used) = (Instant::now(), processor_time());
        tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
        let share = (processor_time() - used).div_duration_f64(begun.elapsed());
        println!("{:.1} % of a processor while idle", share * 100.0);
    }
}

async fn start(count: usize) -> Vec<Arc<Site>> {
    let mut starting = JoinSet::new();
    for index in 0..count {
        let builder = Site::builder(format!("site-{index}")).link_access_at("127.0.0.1").shards(1);
        starting.spawn(async move { (index, builder.start().await.expect("it starts")) });
    }
    let mut sites = starting.join_all().await;
    sites.sort_by_key(|(index, _)| *index);
    sites.into_iter().map(|(_, site)| Arc::new(site)).collect()
}

/// A ring, and from each site a link to one that has none with it yet.
async fn link(sites: &[Arc<Site>]) {
    let mut random = Random(7);
    let ring = (0..sites.len()).map(|index| (index, (index + 1) % sites.len()));
    let mut pairs: BTreeSet<_> = ring.map(|(one, other)| (one.min(other), one.max(other))).collect();
    let mut links: Vec<_> = pairs.iter().copied().collect();
    for index in 0..sites.len() {
        let other = random.below(sites.len());
        let pair = (index.min(other), index.max(other));
        if index != other && pairs.insert(pair) {
            links.push(pair);
        }
    }
    let mut linking = JoinSet::new();
    for (from, to) in links {
        let (from, to) = (Arc::clone(&sites[from]), Arc::clone(&sites[to]));
        linking.spawn(async move {
            let token = to.issue_token(&TokenRequest::default()).await.expect("a token");
            let name = token.metadata.name.clone();
            timeout(PATIENCE, from.redeem(token)).await.expect("in time").expect("it is redeemed");
            timeout(PATIENCE, from.ready(Kind::Link, &name)).await.expect("in time").expect("the link is ready");
        });
    }
    linking.join_all().await;
}

/// Whether all links of a site are up, to sites it knows by name.
fn is_linked(snapshot: &van_site::Snapshot) -> bool {
    let mut links = snapshot.documents.iter().filter(|(key, _)| key.kind == Kind::Link);
    links.all(|(_, link)| match link {
        van_site::document::Document::Link(link) => link.status.remote_site_name.is_some(),
        _ => false,
    })
}

/// Every site echoes at a key of its own, and is dialled by others.
async fn dial(sites: &[Arc<Site>]) {
    let mut serving = JoinSet::new();
    for (index, site) in sites.iter().enumerate() {
        let incoming = site.accept(&format!("key-{index}")).await.expect("the key is consumed");
        serving.spawn(echo(incoming));
    }
    let mut random = Random(11);
    for turn in 0..DIALS {
        let (from, to) = (&sites[turn % sites.len()], random.below(sites.len()));
        let dialled = timeout(PATIENCE, from.dial(&format!("key-{to}"))).await;
        let mut stream = dialled.expect("in time").expect("a stream");
        stream.write_all(b"hello").await.expect("it is taken");
        stream.shutdown().await.expect("it ends");
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.expect("it ends");
        assert_eq!(heard, "hello", "from {} to {to}", turn % sites.len());
    }
}

async fn echo(mut incoming: Incoming) {
    while let Some(mut stream) = incoming.next().await {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.expect("it ends");
        stream.write_all(&heard).await.expect("it is taken");
        stream.shutdown().await.expect("it ends");
    }
}

/// Numbers that look random, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

fn resident_kib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB")?.trim().parse().ok());
    resident.unwrap_or_default()
}

/// What all threads of this process have used; a tick is 10 ms.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}
