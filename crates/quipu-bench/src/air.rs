//! What events take on the air: batches of workload W over a link of Reticulum (MESH-6).

use std::path::Path;

use ed25519_dalek::SigningKey;
use quipu_core::codec::pack::{Context, encode_payloads};
use quipu_core::codec::v1::split_payload;
use quipu_core::event::{Event, VerifiedEvent};
use quipu_core::node::{Command, Input, LinkRole};
use quipu_radio::station::air_bytes;
use quipu_radio::stream::{Medium, Stream};

use crate::pair::{LINK, Machine};
use crate::workload::{SALT, Writer, founder, store};
use crate::{Result, figure};

const AUTHORS: usize = 10;
const BASE: usize = 1_000;
const BATCHES: usize = 10;

/// Plain Reticulum: an MTU of 500.
const MEDIUM: Medium =
    Medium { packet_max: 431, resource_max: 1 << 20, rtt_ms: 500, bitrate: Some(5_000) };

/// What is sent, and how.
#[derive(Debug, Clone, Copy)]
struct Setting {
    /// Events in a batch.
    batch: usize,
    salted: bool,
    /// A new link for each batch, by machines that have met before.
    again: bool,
}

/// Bytes of frames, of what carries them, and of the values alone, packed.
#[derive(Debug, Default)]
struct Count {
    frames: u64,
    air: u64,
    values: u64,
}

/// Measures.
pub(crate) fn run(dir: &Path) -> Result<()> {
    let meshlogd = meshlogd(dir)?;
    let usual = Setting { batch: 100, salted: false, again: false };
    for setting in [
        usual,
        Setting { again: true, ..usual },
        Setting { salted: true, ..usual },
        Setting { batch: 10, ..usual },
        Setting { batch: 1, ..usual },
    ] {
        let Setting { batch, salted, again } = setting;
        let count = batches(dir, setting)?;
        let events = (BATCHES * batch) as f64;
        let of = |bytes: u64| bytes as f64 / events;
        let what = format!(
            "on the air, batches of {batch}{}{}",
            if salted { ", 8 B of salt" } else { "" },
            if again { ", a link for each" } else { "" }
        );
        let mut note = format!(
            "{:.1} B/event in frames, of them {:.1} values",
            of(count.frames),
            of(count.values)
        );
        if let Some(theirs) = meshlogd.filter(|_| batch == usual.batch) {
            note += &format!("; meshlogd: {:.1} times as many", theirs / of(count.air));
        }
        figure(&what, format!("{:.1} B/event", of(count.air)), &note);
    }
    Ok(())
}

/// Bytes that the real meshlogd, signed, has on the air for an event of the same batches, if it is installed.
fn meshlogd(dir: &Path) -> Result<Option<f64>> {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let place = Path::new(&target).join("meshlogd");
    if !place.join("0.5.0").is_dir() {
        return Ok(None);
    }
    let setting = Setting { batch: 100, salted: false, again: false };
    let (mut writer, _) = Writer::with_salt(AUTHORS, BASE * 10, 0);
    writer.write_many(BASE, &mut Vec::new());
    let mut lines = String::new();
    for _ in 0..BATCHES {
        let mut list = Vec::new();
        writer.write_many(setting.batch, &mut list);
        for event in list {
            lines += &line_of(&event)?;
        }
        lines.push('\n');
    }
    let input = dir.join("air-events");
    std::fs::write(&input, lines)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/meshlogd/air.py");
    let mut command = std::process::Command::new(place.join("bin/python"));
    command.arg(script).stdin(std::fs::File::open(input)?);
    let output = command.env("PYTHONPATH", place.join("0.5.0")).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let (mut json, mut packed, mut air) = (0, 0, 0);
    for line in String::from_utf8(output.stdout)?.lines() {
        let (raw, folded) = line.split_once(' ').ok_or("air.py says something else")?;
        json += raw.parse::<u64>()?;
        let folded: u64 = folded.parse()?;
        packed += folded;
        air += air_bytes(folded as usize, true);
    }
    let of = |bytes: u64| bytes as f64 / (BATCHES * setting.batch) as f64;
    let note = format!("{:.1} B/event as bz2, {:.1} as JSON", of(packed), of(json));
    figure("on the air, meshlogd 0.5.0, signed", format!("{:.1} B/event", of(air)), &note);
    Ok(Some(of(air)))
}

/// An event as `air.py` reads it.
fn line_of(event: &VerifiedEvent) -> Result<String> {
    let value = event.payload_value().ok_or("an event without payload")?;
    let value = quipu_core::value::decode(value)?;
    let head = &event.header.head;
    let payload = quipu_core::value::to_json(&value);
    Ok(format!("[\"{}\",{},{payload}]\n", head.author, head.logseq.ms()))
}

fn batches(dir: &Path, setting: Setting) -> Result<Count> {
    let salt = if setting.salted { SALT } else { 0 };
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
        if setting.again {
            for machine in [&mut a, &mut b] {
                machine.turn([Input::LinkDown { link: LINK, reason: "quiet".to_owned() }])?;
            }
        }
        let mut extra = Vec::new();
        writer.write_many(setting.batch, &mut extra);
        count.values += values(&extra);
        let command = Command::Import(writer.sign_ends(extra));
        a.turn([Input::Local { request: 1, command }])?;
        if setting.again {
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

/// What the values of a batch take, without salts.
fn values(events: &[VerifiedEvent]) -> u64 {
    let plain: Vec<Event> = events.iter().map(|event| event.event().clone()).collect();
    let mut context = Context::writer();
    context.set_small();
    let packed = encode_payloads(&plain, &mut context).len() as u64;
    let salts = plain.iter().filter_map(|event| split_payload(event.payload.as_ref()?));
    packed - salts.map(|(salt, _)| salt.len() as u64).sum::<u64>()
}

fn link(a: &mut Machine, b: &mut Machine) -> Result<()> {
    let (key_a, key_b) = (a.driver.node().key(), b.driver.node().key());
    b.turn([Input::LinkUp { link: LINK, peer: key_a, role: LinkRole::Responder }])?;
    let role = LinkRole::Initiator { live: true, request: None, invite: None, only_state: false };
    a.turn([Input::LinkUp { link: LINK, peer: key_b, role }])?;
    for machine in [a, b] {
        machine.turn([Input::Paced { link: LINK, pace: MEDIUM.pace() }])?;
    }
    Ok(())
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
