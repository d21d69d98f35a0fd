//! What events take on the air: batches of workload W over a link of Reticulum (MESH-6).

use std::path::Path;

use ed25519_dalek::SigningKey;
use quipu_core::node::{Command, Input, LinkRole};
use quipu_radio::station::air_bytes;
use quipu_radio::stream::{Medium, Stream};

use crate::pair::{LINK, Machine};
use crate::workload::{SALT, Writer, founder, store};
use crate::{Result, figure};

const AUTHORS: usize = 10;
const BASE: usize = 1_000;
const BATCHES: usize = 10;
const BATCH: usize = 100;

/// Plain Reticulum: an MTU of 500.
const MEDIUM: Medium =
    Medium { packet_max: 431, resource_max: 1 << 20, rtt_ms: 500, bitrate: Some(5_000) };

/// Bytes of frames, and of what carries them.
#[derive(Debug, Default)]
struct Count {
    frames: u64,
    air: u64,
}

/// Measures.
pub(crate) fn run(dir: &Path) -> Result<()> {
    for (salted, again, what) in [
        (true, false, "on the air, with salt, one link for all batches"),
        (false, false, "on the air, without salt, one link for all batches"),
        (false, true, "on the air, without salt, a link for each batch"),
    ] {
        let count = batches(dir, salted, again)?;
        let events = (BATCHES * BATCH) as f64;
        let note = format!("{:.1} B/event in frames", count.frames as f64 / events);
        figure(what, format!("{:.1} B/event", count.air as f64 / events), &note);
    }
    Ok(())
}

fn batches(dir: &Path, salted: bool, again: bool) -> Result<Count> {
    let salt = if salted { SALT } else { 0 };
    let (mut writer, mut list) = Writer::with_salt(AUTHORS, BASE * 10, salt);
    writer.write_many(BASE, &mut list);
    let list = writer.sign_ends(list);
    let paths = [dir.join("air-a"), dir.join("air-b")];
    for path in &paths {
        store(path, writer.domain, &list)?;
    }
    let member = SigningKey::from_bytes(blake3::hash(b"bench author 0").as_bytes());
    let mut a = Machine::open(&paths[0], writer.domain, founder())?;
    let mut b = Machine::open(&paths[1], writer.domain, member)?;
    let mut count = Count::default();
    link(&mut a, &mut b)?;
    exchange(&mut a, &mut b, &mut Count::default())?;
    for _ in 0..BATCHES {
        if again {
            for machine in [&mut a, &mut b] {
                machine.turn([Input::LinkDown { link: LINK, reason: "quiet".to_owned() }])?;
            }
        }
        let mut extra = Vec::new();
        writer.write_many(BATCH, &mut extra);
        let command = Command::Import(writer.sign_ends(extra));
        a.turn([Input::Local { request: 1, command }])?;
        if again {
            link(&mut a, &mut b)?;
        }
        exchange(&mut a, &mut b, &mut count)?;
    }
    assert_eq!(a.count(), b.count(), "everything arrived");
    drop((a, b));
    for path in paths {
        std::fs::remove_dir_all(path)?;
    }
    Ok(count)
}

fn link(a: &mut Machine, b: &mut Machine) -> Result<()> {
    let (key_a, key_b) = (a.driver.node().key(), b.driver.node().key());
    b.turn([Input::LinkUp { link: LINK, peer: key_a, role: LinkRole::Responder }])?;
    let role = LinkRole::Initiator { live: true, request: None, invite: None, only_state: false };
    a.turn([Input::LinkUp { link: LINK, peer: key_b, role }])
}

/// Lets both talk until nobody has anything to say, over streams as on the air.
fn exchange(a: &mut Machine, b: &mut Machine, count: &mut Count) -> Result<()> {
    let mut streams = [Stream::default(), Stream::default()];
    let mut now = 0;
    loop {
        let mut moved = false;
        for from in 0..2 {
            let (sender, receiver) =
                if from == 0 { (&mut *a, &mut *b) } else { (&mut *b, &mut *a) };
            for frame in sender.frames() {
                count.frames += frame.len() as u64;
                streams[from].push(&frame)?;
            }
            now += 1_000;
            while let Some(next) = streams[from].next(now, &MEDIUM, |_, _| true) {
                moved = true;
                count.air += air_bytes(next.bytes.len(), next.resource);
                let other = &mut streams[1 - from];
                let frames = other.take(now, &next.bytes, next.resource, &MEDIUM)?;
                let inputs = frames.into_iter().map(|bytes| Input::Frame { link: LINK, bytes });
                receiver.turn(inputs)?;
                if next.resource {
                    streams[from].arrived(next.number);
                } else {
                    streams[from].left(now, next.number, &MEDIUM);
                }
            }
            sender.turn([Input::Writable { link: LINK, written: u64::MAX }])?;
        }
        if !moved {
            return Ok(());
        }
    }
}
