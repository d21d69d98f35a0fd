//! How fast artifacts come in, go out and travel, against plain BLAKE3 and a plain copy.
//!
//! `bench_artifact MIB [DIR]`: works in a new directory in DIR (or the one for temporary files),
//! which needs room for four times the size.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use quipu_artifact::ArtifactStore;
use quipu_core::artifact::{PART_GROUPS_MAX, group_count};

type Outcome<T> = Result<T, Box<dyn Error>>;

const MIB: usize = 1 << 20;

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let mib: usize = args.next().ok_or("bench_artifact MIB [DIR]")?.parse()?;
    let above = args.next().map_or_else(std::env::temp_dir, Into::into);
    let dir = above.join(format!("bench-artifact-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let result = run(&dir, mib);
    fs::remove_dir_all(&dir)?;
    result
}

/// Runs something and prints how many GB/s that is.
fn measure<T>(name: &str, mib: usize, run: impl FnOnce() -> Outcome<T>) -> Outcome<(f64, T)> {
    let start = Instant::now();
    let result = run()?;
    let rate = (mib * MIB) as f64 / start.elapsed().as_secs_f64() / 1e9;
    println!("{name:32} {rate:6.2} GB/s");
    Ok((rate, result))
}

fn run(dir: &Path, mib: usize) -> Outcome<()> {
    let original = dir.join("original");
    write_original(&original, mib)?;
    // Memory that a virtual machine never used is slow the first time, whoever writes to it.
    for name in ["warm-1", "warm-2", "warm-3"] {
        fs::copy(&original, dir.join(name))?;
    }
    for name in ["warm-1", "warm-2", "warm-3"] {
        fs::remove_file(dir.join(name))?;
    }
    let (hash, ()) = measure("BLAKE3, one thread", 2048, hash_alone)?;
    let (read, ()) = measure("read", mib, || read_alone(&original))?;
    let (copy, ()) = measure("copy: read, write, fsync", mib, || plain_copy(&original, dir))?;

    let store = ArtifactStore::open(&dir.join("store"))?;
    let (import, imported) =
        measure("import", mib, || Ok(store.import(File::open(&original)?, &mut |_| {})?))?;
    let (key, size) = (imported.key, imported.size);
    store.adopt(imported)?;
    let (again, ()) = measure("copy, again", mib, || plain_copy(&original, dir))?;
    let out = dir.join("copy");
    let (copy_to, _) = measure("copy_to a file, fsync", mib, || {
        let mut file = File::create(&out)?;
        store.copy_to(&key, &mut file, &mut |_| {})?;
        Ok(file.sync_all()?)
    })?;
    fs::remove_file(&out)?;
    let (to_nothing, _) = measure("copy_to nothing", mib, || {
        Ok(store.copy_to(&key, &mut std::io::sink(), &mut |_| {})?)
    })?;
    let (_, problems) = measure("verify", mib, || Ok(store.verify(&mut |_| {})?))?;
    assert!(problems.is_empty(), "the store is good");

    let other = ArtifactStore::open(&dir.join("other"))?;
    parts(&store, &other, &key, size)?;

    let slower = hash.min(copy.max(again));
    println!("\nimport / min(BLAKE3, copy)       {:6.2}", import / slower);
    println!("copy_to a file / the same        {:6.2}", copy_to / slower);
    println!("copy_to nothing / min(BLAKE3, read) {:3.2}", to_nothing / hash.min(read));
    println!("peak of resident memory          {:6.1} MiB", peak_mib());
    Ok(())
}

/// Parts of 256 KiB from one store to the other, timed apart.
fn parts(
    from: &ArtifactStore,
    to: &ArtifactStore,
    key: &quipu_core::id::ArtifactId,
    size: u64,
) -> Outcome<()> {
    let (mut reading, mut writing, mut cpu_reading, mut cpu) = (0.0, 0.0, 0, 0);
    let mut end = group_count(size);
    while end > 0 {
        let start = (end - 1) / PART_GROUPS_MAX * PART_GROUPS_MAX;
        let (before, cpu_before) = (Instant::now(), cpu_ns());
        let part = from.read_part(key, start..end)?.ok_or("it is here")?;
        let (between, cpu_between) = (Instant::now(), cpu_ns());
        let written = to.write_part(key, part.size, part.groups, &part.bytes)?;
        reading += (between - before).as_secs_f64();
        cpu_reading += cpu_between - cpu_before;
        // The last one syncs everything: that is the disk's time.
        if written.complete {
            println!(
                "{:32} {:6.2} s",
                "the last part, with fsync",
                between.elapsed().as_secs_f64()
            );
        } else {
            writing += between.elapsed().as_secs_f64();
            cpu += cpu_ns() - cpu_between;
        }
        end = start;
    }
    println!("{:32} {:6.2} GB/s", "read_part", size as f64 / reading / 1e9);
    println!("{:32} {:6.2} GB/s", "read_part, by CPU time", size as f64 / cpu_reading as f64);
    println!("{:32} {:6.2} GB/s", "write_part", size as f64 / writing / 1e9);
    println!("{:32} {:6.2} GB/s", "write_part, by CPU time", size as f64 / cpu as f64);
    Ok(())
}

fn write_original(path: &Path, mib: usize) -> Outcome<()> {
    let mut file = File::create(path)?;
    let mut bytes = blake3::Hasher::new().finalize_xof();
    let mut buffer = vec![0; MIB];
    for _ in 0..mib {
        bytes.fill(&mut buffer);
        file.write_all(&buffer)?;
    }
    Ok(file.sync_all()?)
}

fn hash_alone() -> Outcome<()> {
    let buffer = vec![7; MIB];
    let mut hasher = blake3::Hasher::new();
    for _ in 0..2048 {
        hasher.update(&buffer);
    }
    std::hint::black_box(hasher.finalize());
    Ok(())
}

fn read_alone(path: &Path) -> Outcome<()> {
    let (mut file, mut buffer) = (File::open(path)?, vec![0; MIB]);
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}

fn plain_copy(from: &Path, dir: &Path) -> Outcome<()> {
    let to = dir.join("plain");
    let (mut source, mut sink) = (File::open(from)?, File::create(&to)?);
    let mut buffer = vec![0; MIB];
    loop {
        let n = source.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        sink.write_all(&buffer[..n])?;
    }
    sink.sync_all()?;
    Ok(fs::remove_file(&to)?)
}

/// Nanoseconds that this thread was on a CPU: what others do on the machine hardly shows in it.
fn cpu_ns() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or_default()
}

/// The most memory that this process ever had resident.
fn peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}
