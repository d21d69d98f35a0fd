//! SIGKILL of either side, again and again, while one large artifact moves.
//!
//! `QUIPU_TRANSFER_BYTES` sets its size (64 MiB if it is not set), `QUIPU_KILLS` how often the
//! receiver, and then the sender, are killed (5).

mod common;

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::data::noise;
use common::{Machine, temp};
use quipu_artifact::ArtifactStore;
use quipu_core::artifact::{GROUP_BYTES, PART_GROUPS_MAX, group_bytes, group_count};
use quipu_core::id::ArtifactId;
use quipu_core::limits::PARTS_ASKED_MAX;

/// How long the whole transfer may take between two signs of life.
const STALL_MAX: Duration = Duration::from_secs(60);
/// Bytes of the parts that may be asked for, or be on their way, at one time.
const WINDOW_BYTES: u64 = PARTS_ASKED_MAX as u64 * PART_GROUPS_MAX * GROUP_BYTES;
/// Groups that were verified and stored before a kill, and come again after it.
const AGAIN_MAX: usize = 1;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One large artifact that moves from one machine to another.
struct Transfer {
    key: String,
    size: u64,
    kills: u64,
    /// Its bytes at the receiver, in the end and on the way.
    whole: PathBuf,
    partial: PathBuf,
    random: u64,
}

impl Transfer {
    /// Puts the artifact at the sender.
    fn new(sender: &Machine, receiver: &Machine) -> Self {
        let size = number("QUIPU_TRANSFER_BYTES", 64 << 20);
        let file = sender.file("large", &noise(7, usize::try_from(size).unwrap()));
        let row = sender.one(["put", file.to_str().unwrap()]);
        std::fs::remove_file(file).unwrap();
        let key = row["key"].as_str().unwrap().to_owned();
        let artifacts = receiver.dir.join(".quipu/artifacts");
        let partial = artifacts.join(format!("partial/{key}.data"));
        let kills = number("QUIPU_KILLS", 5);
        Self { whole: receiver.stored(&key), partial, size, key, kills, random: 11 }
    }

    fn is_whole(&self) -> bool {
        self.whole.exists()
    }

    /// Bytes on the disk of the receiver: what did not come is a hole.
    fn on_disk(&self) -> u64 {
        match std::fs::metadata(&self.partial) {
            Ok(meta) => meta.blocks() * 512,
            Err(_) if self.is_whole() => self.size,
            Err(_) => 0,
        }
    }

    /// What a receiver that was just killed will ask for, by what it will find.
    fn missing(&self, receiver: &Machine) -> Vec<Range<u64>> {
        let store = ArtifactStore::open(&receiver.dir.join(".quipu/artifacts")).unwrap();
        let key: ArtifactId = self.key.parse().unwrap();
        let missing = store.missing(&key).unwrap();
        if missing.size.is_none() {
            return std::iter::once(0..group_count(self.size)).collect();
        }
        assert_eq!(missing.size, Some(self.size));
        missing.groups
    }

    /// Bytes that it need not ask for.
    fn kept(&self, missing: &[Range<u64>]) -> u64 {
        let lacking = missing.iter().map(|run| group_bytes(run, self.size));
        self.size - lacking.map(|range| range.end - range.start).sum::<u64>()
    }

    /// Groups of which all bytes lie in the file of a receiver that was just killed, whether it will
    /// know of them or not: only what was verified is ever written there.
    fn written(&self, sender: &Machine) -> BTreeSet<u64> {
        let path = if self.is_whole() { &self.whole } else { &self.partial };
        let Ok(found) = File::open(path) else { return BTreeSet::new() };
        let whole = File::open(sender.stored(&self.key)).unwrap();
        let mut buffers = [vec![0; GROUP_BYTES as usize], vec![0; GROUP_BYTES as usize]];
        let mut same = |group: &u64| {
            let range = group_bytes(&(*group..group + 1), self.size);
            let length = (range.end - range.start) as usize;
            let [a, b] = buffers.each_mut().map(|buffer| &mut buffer[..length]);
            whole.read_exact_at(a, range.start).unwrap();
            found.read_exact_at(b, range.start).is_ok() && a == b
        };
        (0..group_count(self.size)).filter(|group| same(group)).collect()
    }

    /// Waits until more has come: how much, is drawn so that the kills are spread over the size.
    /// Gives false if it is through.
    fn wait_for_more(&mut self, before: u64, kills_left: u64) -> bool {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let spread = 2 * (self.size - before) / (kills_left + 1);
        let target = before + (self.random >> 33) % spread.max(1);
        let start = Instant::now();
        while !self.is_whole() {
            assert!(start.elapsed() < STALL_MAX, "stalled at {} of {}", self.on_disk(), self.size);
            if self.on_disk() > target {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    /// Waits for the end, and compares.
    fn finish(&mut self, sender: &Machine) {
        let mut last = (Instant::now(), self.on_disk());
        while !self.is_whole() {
            let now = self.on_disk();
            if now != last.1 {
                last = (Instant::now(), now);
            }
            assert!(last.0.elapsed() < STALL_MAX, "stalled at {now} of {}", self.size);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(same(&self.whole, &sender.stored(&self.key)), "other bytes came");
    }
}

fn same(a: &Path, b: &Path) -> bool {
    std::process::Command::new("cmp").arg(a).arg(b).status().unwrap().success()
}

/// What a daemon received of artifacts over the links that it has now: bytes with what proves them,
/// and groups that it had already.
fn received(machine: &Machine) -> (u64, u64) {
    let status = machine.status();
    let peers = status["peers"].as_array().unwrap();
    let sum = |field: &str| peers.iter().map(|peer| peer[field].as_u64().unwrap()).sum();
    (sum("artifact_bytes_received"), sum("groups_again"))
}

/// What proves the groups takes less than one part in 64.
fn with_proofs(bytes: u64) -> u64 {
    bytes + bytes / 64 + (64 << 10)
}

/// What a sender has put on the links that it knows of: dead ones are known for some seconds. Waits
/// until it is stuck.
fn sent(machine: &Machine) -> Vec<u64> {
    let now = || -> Vec<u64> {
        let status = machine.status();
        let peers = status["peers"].as_array().unwrap().iter();
        peers.map(|peer| peer["artifact_bytes_sent"].as_u64().unwrap()).collect()
    };
    let mut before = now();
    loop {
        std::thread::sleep(Duration::from_millis(20));
        let after = now();
        if after == before {
            return after;
        }
        before = after;
    }
}

/// What a sender put on all links that it ever had.
#[derive(Debug, Default)]
struct Sent {
    all: u64,
    /// Of links that were counted already.
    counted: Vec<u64>,
}

impl Sent {
    fn count(&mut self, links: Vec<u64>) {
        let mut counted = std::mem::take(&mut self.counted);
        for bytes in links {
            match counted.iter().position(|one| *one == bytes) {
                Some(at) => drop(counted.swap_remove(at)),
                None => self.all += bytes,
            }
            self.counted.push(bytes);
        }
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the numbers are the result")]
fn kill_nine_of_the_receiver() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let mut b = Machine::joined("b", temp.path(), &ticket);
    let mut transfer = Transfer::new(&a, &b);
    let start = Instant::now();
    let (mut before, mut killed, mut all) = (0, 0, Sent::default());
    let (mut stored, mut repeated) = (0, 0);
    b.serve();
    while killed < transfer.kills && transfer.wait_for_more(before, transfer.kills - killed) {
        let (received, again) = received(&b);
        b.kill();
        killed += 1;
        all.count(sent(&a));
        let written = transfer.written(&a);
        let missing = transfer.missing(&b);
        let lost = written.iter().filter(|group| missing.iter().any(|run| run.contains(group)));
        let lost = lost.count();
        assert!(lost <= AGAIN_MAX, "{lost} of {} stored groups are to come again", written.len());
        (stored, repeated) = (written.len(), repeated + lost);
        let (kept, on_disk) = (transfer.kept(&missing), transfer.on_disk());
        assert!(kept >= before, "what was kept is kept: {kept} after {before}");
        // What is on the disk is known again, but for the part that was just being written.
        let part = PART_GROUPS_MAX * GROUP_BYTES;
        assert!(kept + part >= on_disk, "{kept} known of {on_disk} on the disk");
        // What had come is kept, but for what was being checked.
        let lost = received.saturating_sub(with_proofs(kept - before));
        assert!(lost <= WINDOW_BYTES, "{lost} of {received} received bytes are to come again");
        assert_eq!(again, 0, "groups that were here already");
        before = kept;
        b.serve();
    }
    transfer.finish(&a);
    let (last, again) = received(&b);
    all.count(sent(&a));
    // The last life is known to the byte: it brought what was missing, and nothing else.
    assert!(last <= with_proofs(transfer.size - before), "{last} for {}", transfer.size - before);
    assert_eq!(again, 0, "groups that were here already");
    // Nothing was sent twice but what was on its way when the receiver was killed.
    let most = with_proofs(transfer.size) + killed * WINDOW_BYTES;
    assert!(all.all <= most, "{} bytes sent, {most} at most", all.all);
    assert!(killed >= transfer.kills / 2, "only {killed} kills hit: the transfer is too small");
    b.verify_clean();
    assert!(b.has(&transfer.key));
    println!(
        "{} bytes, {killed} kills of the receiver, {:.1} s: {} bytes of parts were put on the wire \
         in all ({:.4} of the size), {} for each kill beyond the size; {repeated} of the groups that \
         were stored before a kill came again, of {stored} at the last",
        transfer.size,
        start.elapsed().as_secs_f64(),
        all.all,
        all.all as f64 / transfer.size as f64,
        all.all.saturating_sub(transfer.size) / killed.max(1),
    );
}

#[test]
#[expect(clippy::print_stdout, reason = "the numbers are the result")]
fn kill_nine_of_the_sender() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let mut b = Machine::joined("b", temp.path(), &ticket);
    let mut transfer = Transfer::new(&a, &b);
    let start = Instant::now();
    let (mut before, mut killed) = (0, 0);
    b.serve();
    while killed < transfer.kills && transfer.wait_for_more(before, transfer.kills - killed) {
        a.kill();
        killed += 1;
        let now = transfer.on_disk();
        assert!(now >= before, "what came is kept: {now} after {before}");
        before = now;
        a.serve();
    }
    transfer.finish(&a);
    let (_, again) = received(&b);
    assert_eq!(again, 0, "groups that were here already");
    assert!(killed >= transfer.kills / 2, "only {killed} kills hit: the transfer is too small");
    b.verify_clean();
    println!(
        "{} bytes, {killed} kills of the sender, {:.1} s",
        transfer.size,
        start.elapsed().as_secs_f64()
    );
}
