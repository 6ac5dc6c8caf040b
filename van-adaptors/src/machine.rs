//! The process and its machine: how much memory there is (less where a cgroup says so), also for a TCP connection; how many
//! descriptors; what becomes of a panic.

pub(crate) mod heap;

use std::fs;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What Linux gives a connection's writer and its reader at most, unless told otherwise.
const STOCK_SEND_BUFFER: u64 = 4 * 1024 * 1024;
const STOCK_RECEIVE_BUFFER: u64 = 6 * 1024 * 1024;

/// Memory that this process may have, in octets, if it can be told.
pub(crate) fn memory() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let limits = files(&groups).into_iter().filter_map(|file| limit(&fs::read_to_string(file).ok()?));
    machine.into_iter().chain(limits).min()
}

/// Octets that the system lets a TCP connection have under way, as far as it can be told.
pub(crate) fn send_buffer() -> u64 {
    third("/proc/sys/net/ipv4/tcp_wmem").unwrap_or(STOCK_SEND_BUFFER)
}

/// Octets that the system lets a TCP connection's peer send before they are read, as far as it can be told.
pub(crate) fn receive_buffer() -> u64 {
    third("/proc/sys/net/ipv4/tcp_rmem").unwrap_or(STOCK_RECEIVE_BUFFER)
}

/// Lets this process have as many descriptors as it may: each connection of a client takes one at either end. For programs
/// that do nothing but carry connections; the usual limit of 1024 is for those who use `select`.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Ends this process by a panic in whichever of its threads, once the panic was told as before. For programs that others
/// start again: a router that has lost a thread looks whole, and holds the streams of that thread without carrying them.
pub fn abort_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
}

/// The third number in a file.
fn third(file: &str) -> Option<u64> {
    fs::read_to_string(file).ok()?.split_whitespace().nth(2)?.parse().ok()
}

/// `MemTotal` of /proc/meminfo, which is in KiB.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The files that bound the groups of a process, and those above: of version 2, then of version 1.
fn files(groups: &str) -> Vec<String> {
    let paths = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        match (fields.next()?, fields.next()?) {
            ("", path) => Some(("/sys/fs/cgroup", path, "memory.max")),
            (kinds, path) if kinds.split(',').any(|kind| kind == "memory") => {
                Some(("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"))
            }
            _ => None,
        }
    });
    let above = |(root, path, file): (&str, &str, &str)| -> Vec<String> {
        let folders = Path::new(path).ancestors().filter_map(Path::to_str);
        folders.map(|folder| format!("{root}{}/{file}", folder.trim_end_matches('/'))).collect()
    };
    paths.flat_map(above).collect()
}

/// What such a file says; it may say `max`, or a number beyond any memory.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_bounded_by_themselves_and_by_those_above() {
        let second = files("0::/pods/one\n");
        assert_eq!(
            second,
            ["/sys/fs/cgroup/pods/one/memory.max", "/sys/fs/cgroup/pods/memory.max", "/sys/fs/cgroup/memory.max"]
        );
        let first = files("12:cpu,memory:/one\n3:pids:/one\n");
        let root = "/sys/fs/cgroup/memory";
        assert_eq!(first, [format!("{root}/one/memory.limit_in_bytes"), format!("{root}/memory.limit_in_bytes")]);
        assert_eq!((limit("268435456\n"), limit("max\n")), (Some(268_435_456), None));
    }

    #[test]
    fn the_machine_has_memory() {
        assert_eq!(total("MemTotal:       24683648 kB\nMemFree: 1 kB\n"), Some(24_683_648 * 1024));
        assert!(memory().is_some_and(|octets| octets > 1024 * 1024));
    }
}
