//! Other people's tools, which set-up scripts put into the target directory.

use std::path::{Path, PathBuf};

use super::skip;

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where a set-up script has put a tool. Nothing, said loudly, if it has not.
pub(crate) fn installed(name: &str, setup: &str) -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let place = repository().join(target.unwrap_or_else(|| "target".into())).join(name);
    if !place.join("complete-1").exists() {
        skip(&format!("{} is missing; run {setup}", place.display()));
        return None;
    }
    // Who uses it may run in another directory.
    Some(place.canonicalize().unwrap())
}
