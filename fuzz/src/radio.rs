//! What comes over the air, and what a link helper says.

use ed25519_dalek::SigningKey;
use quipu_core::id::DomainId;
use quipu_helper::{Address, Frames, FromHelper, ToHelper};
use quipu_node::service::NetEvent;
use quipu_radio::Settings;
use quipu_radio::beacon::{BEACON_BYTES_MAX, Beacon};
use quipu_radio::limits::{FRAME_BYTES_MAX, WINDOW_BYTES};
use quipu_radio::station::{Input, Output, Station};
use quipu_radio::stream::{CLASSES, Medium, Stream};

use crate::pieces;

/// Messages between a daemon and a helper.
pub(crate) fn helper_message(data: &[u8]) {
    if let Ok(message) = ToHelper::decode(data) {
        assert_eq!(ToHelper::decode(&message.encode()), Ok(message));
    }
    if let Ok(message) = FromHelper::decode(data) {
        assert_eq!(FromHelper::decode(&message.encode()), Ok(message));
    }
}

/// Frames of a helper, in the pieces in which they are read.
pub(crate) fn helper_frames(data: &[u8]) {
    let mut frames = Frames::default();
    for piece in pieces(data) {
        frames.push(piece);
        loop {
            match frames.pop() {
                Ok(Some(message)) => helper_message(message),
                Ok(None) => break,
                Err(error) => {
                    assert!(error.0 > quipu_helper::limits::FRAME_BYTES_MAX);
                    return;
                }
            }
        }
    }
}

/// Beacons.
pub(crate) fn beacon(data: &[u8]) {
    if let Some(beacon) = Beacon::decode(data) {
        assert_eq!(beacon.encode(), data);
        assert!(data.len() <= BEACON_BYTES_MAX);
    }
}

/// A stream with something to say, and a liar at its other end. A piece is a message; its first byte says how it
/// came, and what else happens.
pub(crate) fn radio_stream(data: &[u8]) {
    let medium = Medium { packet_max: 400, resource_max: 4_000, rtt_ms: 300, bitrate: Some(5_000) };
    let mut stream = Stream::default();
    for class in [3, 40, 41] {
        stream.push(&vec![class; 3_000]).expect("there is room");
    }
    let mut now = 1_000;
    for piece in pieces(data) {
        let Some((how, message)) = piece.split_first() else { continue };
        now += u64::from(*how) * 50;
        match stream.take(now, message, how & 1 == 1, &medium) {
            Ok(frames) => assert!(frames.iter().all(|frame| frame.len() <= FRAME_BYTES_MAX)),
            Err(_) => return,
        }
        if how & 2 == 2 {
            let places = stream.places();
            // The other end names places, and the stream may not believe them.
            if stream.resume(places.map(|place| place.min(u64::from(*how)))).is_err() {
                return;
            }
        }
        stream.on_time(now);
        send_some(&mut stream, now, &medium, *how);
        assert!(stream.queued() <= 3 * 3_010);
    }
    assert_eq!(stream.places().len(), CLASSES);
    assert!(stream.places().iter().all(|place| *place <= WINDOW_BYTES * (1 + data.len() as u64)));
}

fn send_some(stream: &mut Stream, now: u64, medium: &Medium, how: u8) {
    for _ in 0..8 {
        let Some(sent) = stream.next(now, medium, |_, _| true) else { return };
        assert!(sent.bytes.len() <= if sent.resource { 4_000 } else { 400 });
        match how & 12 {
            0 => stream.left(now, sent.number, medium),
            4 => stream.arrived(sent.number),
            8 => stream.failed(sent.number),
            _ => {}
        }
    }
}

/// A station, with a key and a domain that are always the same.
pub fn station(side: u8) -> Station {
    let settings = Settings {
        key: SigningKey::from_bytes(&[side; 32]),
        domain: DomainId([7; 32]),
        identity: [side; 64],
        share: (side == 1).then_some(10_000),
        seed: [side; 32],
    };
    Station::new(settings, 1_000_000)
}

/// A whole station, whose helper and whose neighbours lie. A piece is a message of its helper; after it time passes.
pub(crate) fn radio_station(data: &[u8]) {
    let mut station = station(1);
    let (mut now, mut out) = (1_000_000, Vec::new());
    station.handle(now, Input::HelperUp, &mut out);
    station.handle(
        now,
        Input::Standing { digest: [1; 32], published: Default::default() },
        &mut out,
    );
    for piece in pieces(data) {
        let Ok(message) = FromHelper::decode(piece) else { continue };
        out.clear();
        station.handle(now, Input::Helper(message), &mut out);
        let deadline = station.deadline(now);
        assert!(deadline > now);
        for output in std::mem::take(&mut out) {
            match output {
                Output::Net(NetEvent::Up { link, .. }) => {
                    let frame = vec![3; 2_000];
                    station.handle(now, Input::Send { link, frame }, &mut out);
                }
                Output::Net(NetEvent::Frame { bytes, .. }) => {
                    assert!(bytes.len() <= FRAME_BYTES_MAX);
                }
                Output::Say(said) => assert_eq!(ToHelper::decode(&said.encode()), Ok(said)),
                Output::Net(_) | Output::Guest(_) => {}
            }
        }
        now = deadline;
        station.handle(now, Input::Tick, &mut out);
    }
    assert!(station.report(now)["queue_bytes"].is_u64());
}

/// What the helper of the first of two stations says while they meet and exchange something: seeds.
pub fn meeting() -> Vec<FromHelper> {
    let mut stations = [station(1), station(2)];
    let mut told = Vec::new();
    let (mut now, mut out) = (1_000_000, Vec::new());
    for (side, station) in stations.iter_mut().enumerate() {
        let digest = [u8::try_from(side).unwrap_or(0) + 1; 32];
        station.handle(now, Input::HelperUp, &mut out);
        station.handle(now, Input::Standing { digest, published: Default::default() }, &mut out);
        carry(side, std::mem::take(&mut out), &mut told);
    }
    let mut heard = Vec::new();
    for _ in 0..300 {
        while !told.is_empty() {
            let (side, message): (usize, FromHelper) = told.remove(0);
            if side == 0 {
                heard.push(message.clone());
            }
            stations[side].handle(now, Input::Helper(message), &mut out);
            for output in std::mem::take(&mut out) {
                if let Output::Net(NetEvent::Up { link, .. }) = &output {
                    let (link, frame) = (*link, vec![3; 2_000]);
                    stations[side].handle(now, Input::Send { link, frame }, &mut out);
                }
                carry(side, vec![output], &mut told);
            }
            carry(side, std::mem::take(&mut out), &mut told);
        }
        now = stations.iter().map(|station| station.deadline(now)).min().unwrap_or(now);
        for (side, station) in stations.iter_mut().enumerate() {
            station.handle(now, Input::Tick, &mut out);
            carry(side, std::mem::take(&mut out), &mut told);
        }
    }
    heard
}

/// What a station says to its helper, as what the helpers of both sides say then.
fn carry(side: usize, outputs: Vec<Output>, told: &mut Vec<(usize, FromHelper)>) {
    let other = 1 - side;
    let address = |side: usize| -> Address { [u8::try_from(side).unwrap_or(0) + 1; 16] };
    for output in outputs {
        let Output::Say(said) = output else { continue };
        match said {
            ToHelper::Hello { version, name } => {
                told.push((side, FromHelper::Hello { version, name }));
            }
            ToHelper::Register { destination, .. } => {
                let address = address(side);
                told.push((side, FromHelper::Registered { destination, address }));
            }
            ToHelper::Announce { destination, data } => {
                let (address, public) = (address(side), [9; 64]);
                let (interface, rssi, snr) = (Some(1), Some(-90), Some(55));
                let (identity, hops) = (address, 1);
                told.push((
                    other,
                    FromHelper::Heard {
                        destination,
                        address,
                        identity,
                        public,
                        data,
                        hops,
                        interface,
                        rssi,
                        snr,
                    },
                ));
            }
            ToHelper::Open { request, .. } => {
                let up = |request, destination| FromHelper::LinkUp {
                    link: vec![5; 16],
                    request,
                    destination,
                    packet_max: 431,
                    resource_max: 100_000,
                    rtt_ms: 200,
                };
                told.push((side, up(Some(request), None)));
                told.push((other, up(None, Some(0))));
            }
            ToHelper::Packet { link, number, data } => {
                told.push((side, FromHelper::Sent { link: link.clone(), number }));
                told.push((other, FromHelper::Packet { link, data }));
            }
            ToHelper::Resource { link, number, data, .. } => {
                told.push((other, FromHelper::Resource { link: link.clone(), data }));
                told.push((side, FromHelper::Delivered { link, number }));
            }
            ToHelper::Close { link } => {
                let reason = "closed".to_owned();
                for side in [side, other] {
                    let (link, reason) = (link.clone(), reason.clone());
                    told.push((side, FromHelper::LinkDown { link, closed: true, reason }));
                }
            }
            ToHelper::Look {} => {
                let interface = quipu_helper::Interface {
                    number: 1,
                    name: "radio".into(),
                    up: true,
                    bitrate: Some(5_000),
                    ..Default::default()
                };
                told.push((side, FromHelper::Interfaces { interfaces: vec![interface] }));
            }
            ToHelper::Identity { .. } | ToHelper::Bye {} => {}
        }
    }
}
