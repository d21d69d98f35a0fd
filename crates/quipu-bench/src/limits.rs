//! What the machine can do at best, measured in the same run.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Instant;

use ed25519_dalek::{Signer, SigningKey};

use crate::{Result, figure};

/// Measured limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Plain append and fsync of 300-byte records, events a second.
    pub(crate) append: f64,
    /// One fsync, seconds.
    pub(crate) fsync: f64,
    /// Ed25519 signatures a second on one core.
    pub(crate) sign: f64,
}

pub(crate) fn measure(dir: &Path) -> Result<Limits> {
    let path = dir.join("append");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let group = vec![7u8; 300 * 10_000];
    let start = Instant::now();
    for _ in 0..50 {
        file.write_all(&group)?;
        file.sync_data()?;
    }
    let append = 500_000.0 / start.elapsed().as_secs_f64();
    let mut waits: Vec<f64> = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        file.write_all(&[7; 300])?;
        file.sync_data()?;
        waits.push(start.elapsed().as_secs_f64());
    }
    waits.sort_by(f64::total_cmp);
    let fsync = waits[waits.len() / 2];
    std::fs::remove_file(&path)?;
    let key = SigningKey::from_bytes(&[1; 32]);
    let start = Instant::now();
    for n in 0..20_000u32 {
        std::hint::black_box(key.sign(&n.to_le_bytes()));
    }
    let sign = 20_000.0 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    let record = [7u8; 300];
    for _ in 0..1_000_000 {
        std::hint::black_box(blake3::hash(std::hint::black_box(&record)));
    }
    let hash = 1e6 / start.elapsed().as_secs_f64();
    figure("limit: append+fsync, 300 B, groups of 10,000", format!("{:.0} k/s", append / 1e3), "");
    figure("limit: one fsync (median)", format!("{:.0} us", fsync * 1e6), "");
    figure("limit: Ed25519 sign, one core", format!("{:.1} k/s", sign / 1e3), "");
    figure("limit: BLAKE3 of 300 B, one core", format!("{:.0} k/s", hash / 1e3), "");
    figure("limit: loopback TCP", format!("{:.0} MB/s", loopback()? / 1e6), "");
    Ok(Limits { append, fsync, sign })
}

fn loopback() -> Result<f64> {
    const BYTES: usize = 1 << 30;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let writer = std::thread::spawn(move || -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        let chunk = vec![7u8; 256 << 10];
        for _ in 0..BYTES / chunk.len() {
            stream.write_all(&chunk)?;
        }
        Ok(())
    });
    let (mut stream, _) = listener.accept()?;
    let start = Instant::now();
    let mut chunk = vec![0u8; 256 << 10];
    let mut total = 0;
    while total < BYTES {
        match stream.read(&mut chunk)? {
            0 => break,
            read => total += read,
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    writer.join().map_err(|_| "writer panicked")??;
    Ok(total as f64 / seconds)
}
