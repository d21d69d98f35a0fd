//! Runs every target on what made it fail once (`test-vectors/fuzz/TARGET/`), and on pieces of all
//! other targets' cases. Needs neither nightly nor libFuzzer.

use std::fs;
use std::path::{Path, PathBuf};

use quipu_fuzz::TARGETS;

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[test]
fn found_once_never_again() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/fuzz");
    for directory in files(&root).iter().filter(|path| path.is_dir()) {
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        assert!(quipu_fuzz::target(name).is_some(), "no target {name}");
        for case in files(directory) {
            let data = fs::read(&case).unwrap_or_default();
            for target in TARGETS {
                println!("{} on {}", target.name, case.display());
                (target.run)(&data);
            }
        }
    }
}

#[test]
fn plain_inputs() {
    for target in TARGETS {
        for data in [&[][..], &[0], &[0xff; 300], &[0x81; 70_000], &[0; 5000]] {
            (target.run)(data);
        }
    }
}
