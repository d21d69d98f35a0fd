//! Writes the corpus that each target begins with, made from `test-vectors/`, into
//! `fuzz/corpus/TARGET/`.

use std::fs;
use std::path::Path;

use data_encoding::HEXLOWER;
use quipu_core::event::Log;
use quipu_core::id::{ArtifactId, DomainId};
use quipu_fuzz::join;
use quipu_node::api::{Request, Tip};
use quipu_node::bundle::BundleWriter;
use quipu_radio::beacon::Beacon;
use quipu_radio::stream::{Medium, Stream};
use serde_json::Value as Json;

fn file(root: &Path, name: &str) -> Json {
    let text = fs::read_to_string(root.join("test-vectors").join(name)).expect("vectors are there");
    serde_json::from_str(&text).expect("vectors are JSON")
}

/// All hexadecimal texts under this key, however deep.
fn bytes_under(json: &Json, key: &str, out: &mut Vec<Vec<u8>>) {
    match json {
        Json::Array(items) => items.iter().for_each(|item| bytes_under(item, key, out)),
        Json::Object(map) => {
            for (name, value) in map {
                match value {
                    Json::String(text) if name == key => {
                        out.extend(HEXLOWER.decode(text.as_bytes()));
                    }
                    other => bytes_under(other, key, out),
                }
            }
        }
        _ => {}
    }
}

fn texts_under(json: &Json, key: &str, out: &mut Vec<Vec<u8>>) {
    match json {
        Json::Array(items) => items.iter().for_each(|item| texts_under(item, key, out)),
        Json::Object(map) => {
            for (name, value) in map {
                match value {
                    Json::String(text) if name == key => out.push(text.clone().into_bytes()),
                    other => texts_under(other, key, out),
                }
            }
        }
        _ => {}
    }
}

/// What a stream says that sends three frames, each message after a byte that says how it came.
fn messages_of_a_stream() -> Vec<Vec<u8>> {
    let medium = Medium { packet_max: 400, resource_max: 4_000, rtt_ms: 300, bitrate: Some(5_000) };
    let mut stream = Stream::default();
    for class in [3, 40, 41] {
        stream.push(&vec![class; 500]).expect("there is room");
    }
    let mut messages = Vec::new();
    while let Some(sent) = stream.next(1_000, &medium, |_, _| true) {
        stream.left(1_000, sent.number, &medium);
        stream.arrived(sent.number);
        messages.push([&[u8::from(sent.resource)], &sent.bytes[..]].concat());
    }
    vec![join(&messages), join(&messages[..1])]
}

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let bytes = |name: &str, key: &str| {
        let mut out = Vec::new();
        bytes_under(&file(&root, name), key, &mut out);
        out
    };
    let texts = |name: &str, key: &str| {
        let mut out = Vec::new();
        texts_under(&file(&root, name), key, &mut out);
        out
    };
    let bodies = [bytes("event-v1.json", "body"), bytes("event-v1-refused.json", "body")].concat();
    let blocks: Vec<_> =
        bytes("payload-v1.json", "block").iter().map(|b| [&[8], &b[..]].concat()).collect();
    let pack = file(&root, "pack-v1.json");
    let mut streams: Vec<Vec<u8>> = Vec::new();
    for stream in pack["streams"].as_array().into_iter().flatten() {
        let mut batches = Vec::new();
        bytes_under(stream, "bytes", &mut batches);
        streams.push(join(&batches));
    }
    streams.extend(bytes("pack-v1.json", "bytes").into_iter().map(|batch| join(&[batch])));
    let frames = bytes("sync-messages-v1.json", "frame");
    let symbols: Vec<_> =
        bytes("sync-messages-v1.json", "bytes").into_iter().map(|b| join(&[b])).collect();
    let node: Vec<_> = (0..16u8)
        .flat_map(|flags| {
            frames.iter().map(move |f| [&[flags][..], &join(&[f.clone(), f.clone()])].concat())
        })
        .collect();
    let ids = [texts("ids.json", "text"), texts("event-v1.json", "uuid")].concat();
    let runs = vec![join(&bodies), join(&bodies[..4])];
    let ticket = b"quipu1aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaib".to_vec();
    let patches: Vec<_> = (0..8u8)
        .flat_map(|file| {
            [0, 9, 40, 200].map(|at| join(&[vec![file, at, 0, 1, 2], vec![file, at, 1]]))
        })
        .collect();
    let bundles = streams.iter().map(|stream| {
        let mut writer =
            BundleWriter::begin(Vec::new(), &DomainId([7; 32]), Log::Internal).expect("a vector");
        for batch in quipu_fuzz::pieces(stream) {
            writer.put(batch).expect("a vector");
        }
        writer.end_events().expect("a vector");
        let key = ArtifactId::of(b"hello");
        writer.artifact(&key, 5, &mut &b"hello"[..]).expect("a vector");
        writer.end().expect("a vector").0
    });
    let bundles = bundles.collect();
    let tip = Tip { author: "00".repeat(32), seq: 7, id: "bafy".to_owned() };
    let requests = [
        Request::Id,
        Request::Status { at: None },
        Request::ImportEnd,
        Request::BundleExport { tips: vec![tip], all_artifacts: true },
        Request::ImportPack { packed: "AAEC".to_owned() },
        Request::Invite { role: "writer".to_owned(), expires_ms: 60_000, uses_max: 3 },
    ];
    let line = |request| serde_json::to_vec(request).expect("a request is written");
    let requests = requests.iter().map(line).collect();
    let good: Vec<_> = [(18, 2), (0, 16), (7, 1), (16, 2), (4, 200)]
        .map(|(start, length)| vec![0, start, length])
        .to_vec();
    let changed = vec![vec![0, 18, 2], vec![0, 0, 16, 9, 1, 1], vec![1, 0, 16], vec![2, 3, 4, 5]];
    let parts = vec![join(&good), join(&changed), vec![0xff; 200]];
    let records: Vec<u8> = (0..60).map(|n: u8| n % 12 * 7 % 11).collect();
    let index = [(vec![], vec![]), (vec![80, 0, 1], vec![1, 2, 3])]
        .map(|(changes, rest)| join(&[records.clone(), changes, rest]))
        .to_vec();
    let meshlog = file(&root, "meshlog.json");
    let mesh = |target: &str| -> Vec<Vec<u8>> {
        let texts = meshlog[target].as_array().into_iter().flatten();
        texts.filter_map(|text| Some(text.as_str()?.as_bytes().to_vec())).collect()
    };
    let beacon = Beacon {
        domain: [1; 6],
        node: [2; 6],
        digest: [3; 8],
        epoch: 1_000,
        published: vec![([4; 6], [5; 8])],
        busy_s: 0,
    };
    let told: Vec<Vec<u8>> =
        quipu_fuzz::radio::meeting().iter().map(quipu_helper::FromHelper::encode).collect();
    let framed = |message: &Vec<u8>| quipu_helper::frame(message);
    let helper_frames = vec![join(&told.iter().map(framed).collect::<Vec<_>>())];
    let streamed = messages_of_a_stream();
    let sets: [(&str, Vec<Vec<u8>>); 27] = [
        ("radio_station", vec![join(&told), join(&told[..told.len() / 2])]),
        ("helper_frames", helper_frames),
        ("helper_message", told),
        ("beacon", vec![beacon.encode(), vec![1; 22]]),
        ("radio_stream", streamed),
        ("artifact_index", index),
        ("artifact_part", parts),
        ("bundle", bundles),
        ("request", requests),
        ("body", bodies),
        ("payload", blocks),
        ("value", bytes("value.json", "cbor")),
        ("json", texts("value.json", "json")),
        ("pack_stream", streams.clone()),
        ("pack_held", streams),
        ("message", frames),
        ("symbols", symbols),
        ("ids", ids),
        ("run_of_events", runs),
        ("ticket", vec![ticket]),
        ("node_frames", node.clone()),
        ("node_messages", node),
        ("store_files", patches),
        ("mesh_json", mesh("json")),
        ("mesh_event", mesh("event")),
        ("mesh_message", mesh("message")),
        ("mesh_lines", mesh("lines")),
    ];
    for (target, inputs) in sets {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        fs::create_dir_all(&directory).expect("the directory can be made");
        for (n, input) in inputs.iter().enumerate() {
            fs::write(directory.join(format!("seed-{n:03}")), input).expect("seeds can be written");
        }
    }
}
