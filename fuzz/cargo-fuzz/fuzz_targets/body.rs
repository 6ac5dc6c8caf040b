//! Gives libFuzzer's inputs to the target that `FUZZ_TARGET` names.

#![no_main]

use std::sync::LazyLock;

use fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    Target::of(&name).unwrap_or_else(|| panic!("no target `{name}`"))
});

fuzz_target!(|octets: &[u8]| {
    if let Err(cause) = fuzz::check(&TARGET, octets) {
        panic!("the input {cause}");
    }
});
