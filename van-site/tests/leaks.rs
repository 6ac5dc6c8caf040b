//! Sites that come and go leave nothing behind. Alone in its program: it counts what the whole process has.
#![cfg(target_os = "linux")]

use std::fs;
use std::time::Duration;

use van_site::Site;

/// Threads and open files.
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
    come_and_go(4).await;
    let (before, memory) = (held(), resident_kib());
    come_and_go(20).await;
    let (after, grown) = (held(), resident_kib().saturating_sub(memory));
    println!("threads and files before {before:?}, after {after:?}; {grown} KiB more memory");
    assert_eq!(after, before);
    assert!(grown < 8 * 1024, "{grown} KiB more after 20 sites");
}
