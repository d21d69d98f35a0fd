//! libFuzzer on one target, named by `QUIPU_TARGET`. See `fuzz/README.md`.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<quipu_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("QUIPU_TARGET").unwrap_or_default();
    quipu_fuzz::target(&name).unwrap_or_else(|| panic!("QUIPU_TARGET={name:?} is no target"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));
