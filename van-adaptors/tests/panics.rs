//! What a panic does to a program that is not to live on without one of its threads.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// Set in the process that is to end.
const VICTIM: &str = "VAN_TEST_PANIC";

/// Of Linux on every machine.
const SIGABRT: i32 = 6;

#[test]
fn a_panic_in_any_thread_ends_the_process_and_is_told() {
    if std::env::var_os(VICTIM).is_some() {
        van_adaptors::abort_on_panic();
        let _ = std::thread::spawn(|| panic!("on purpose")).join();
        return;
    }
    let mut again = Command::new(std::env::current_exe().expect("Linux tells"));
    let ended = again.args(["--nocapture"]).env(VICTIM, "1").output().expect("it runs once more");
    assert_eq!(ended.status.signal(), Some(SIGABRT), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("on purpose"), "{ended:?}");
}
