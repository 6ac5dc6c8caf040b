//! Sites that come and go leave nothing behind. Alone in its program: it counts what the whole process has.
#![cfg(target_os = "linux")]

use std::fs;
use std::time::{Duration, Instant};

use van_site::Site;

/// How long threads may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Threads and open files. Those of a site that was dropped end when they notice.
fn held() -> (usize, usize) {
    let count = |folder| fs::read_dir(folder).expect("Linux").count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

fn resident_kib() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB")?.trim().parse().ok());
    resident.expect("Linux")
}

async fn come_and_go(count: usize) {
    for turn in 0..count {
        let site = Site::builder("guest").link_access_at("127.0.0.1").shards(2).start().await.expect("it starts");
        let port = site.listener("backend", "127.0.0.1:0").await.expect("a listener");
        let incoming = site.accept("backend").await.expect("the key is consumed");
        if turn % 2 == 0 {
            site.shutdown(Duration::ZERO).await;
        } else {
            drop(site);
        }
        drop(incoming);
        std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free again");
    }
}

#[tokio::test]
async fn sites_that_come_and_go_leave_nothing_behind() {
    let mut before = (usize::MAX, usize::MAX);
    for _ in 0..3 {
        come_and_go(2).await;
        let (threads, files) = held();
        before = (before.0.min(threads), before.1.min(files));
    }
    let memory = resident_kib();
    come_and_go(20).await;
    let (mut after, grown) = (held(), resident_kib().saturating_sub(memory));
    let begun = Instant::now();
    while after != before && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(10)).await;
        after = held();
    }
    println!("threads and files before {before:?}, after {after:?}; {grown} KiB more memory");
    assert_eq!(after, before);
    assert!(grown < 8 * 1024, "{grown} KiB more after 20 sites");
}
