use super::*;
use crate::limits::{AWAIT_MS, DEFER_MS};

const HERE: Address = [9; 16];
const THERE: Address = [1; 16];
/// No connect failed.
const NONE: [u64; 0] = [];

/// A station that can be heard, and holds something.
fn station() -> Station {
    let settings = Settings {
        key: SigningKey::from_bytes(&[1; 32]),
        domain: DomainId([3; 32]),
        identity: [0; 64],
        share: None,
        seed: [0; 32],
    };
    let mut station = Station::new(settings, 0);
    let mut out = Vec::new();
    station.handle(0, Input::HelperUp, &mut out);
    let hello = FromHelper::Hello { version: VERSION, name: "modem".to_owned() };
    station.handle(0, Input::Helper(hello), &mut out);
    let registered = FromHelper::Registered { destination: OWN, address: HERE };
    station.handle(0, Input::Helper(registered), &mut out);
    let standing = Input::Standing { digest: [5; 32], published: BTreeMap::new() };
    station.handle(0, standing, &mut out);
    station
}

fn peer() -> NodeKey {
    NodeKey(SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes())
}

/// The peer announces that it holds something else.
fn heard() -> Input {
    let beacon = Beacon {
        domain: domain_tag(&DomainId([3; 32])),
        node: node_tag(&peer()),
        digest: [6; 8],
        epoch: 1,
        published: Vec::new(),
        busy_s: 0,
    };
    Input::Helper(FromHelper::Heard {
        destination: OWN,
        address: THERE,
        identity: THERE,
        public: [0; 64],
        data: beacon.encode(),
        hops: 1,
        interface: None,
        rssi: None,
        snr: None,
    })
}

/// How many links it wants opened.
fn opens(station: &mut Station, now: u64, input: Input) -> usize {
    let mut out = Vec::new();
    station.handle(now, input, &mut out);
    out.iter().filter(|output| matches!(output, Output::Say(ToHelper::Open { .. }))).count()
}

#[test]
fn who_is_reached_by_wire_is_left_alone() {
    let mut station = station();
    assert_eq!(opens(&mut station, 1, Input::Wired { peer: peer(), wired: true }), 0);
    assert_eq!(opens(&mut station, 2, heard()), 0);
    assert_eq!(opens(&mut station, 2 + DEFER_MS, Input::Tick), 0);
    // The wire is gone.
    let gone = 10 + DEFER_MS;
    assert_eq!(opens(&mut station, gone, Input::Wired { peer: peer(), wired: false }), 0);
    assert_eq!(opens(&mut station, gone + DEFER_MS, Input::Tick), 1, "it lets the other go first");
    // It is back: what was begun ends.
    let mut out = Vec::new();
    let link = LINKS_FROM + 1;
    station.associations.get_mut(&link).unwrap().peer = Some(peer());
    station.handle(gone + DEFER_MS + 1, Input::Wired { peer: peer(), wired: true }, &mut out);
    assert!(station.associations.is_empty());
    assert_eq!(opens(&mut station, gone + 600_000, heard()), 0);
}

#[test]
fn who_is_asked_for_is_waited_for() {
    let mut station = station();
    let failed = |station: &mut Station, now: u64, input: Input| -> Vec<u64> {
        let mut out = Vec::new();
        station.handle(now, input, &mut out);
        let request = |output: &Output| match output {
            Output::Net(NetEvent::ConnectFailed { request, .. }) => Some(*request),
            _ => None,
        };
        out.iter().filter_map(request).collect()
    };
    assert_eq!(failed(&mut station, 1, Input::Connect { request: 7, peer: peer() }), NONE);
    assert!(station.deadline(1) <= 1 + AWAIT_MS);
    assert_eq!(failed(&mut station, AWAIT_MS, Input::Tick), NONE);
    assert_eq!(failed(&mut station, 1 + AWAIT_MS, Input::Tick), [7]);
    assert_eq!(failed(&mut station, 2 + AWAIT_MS, Input::Tick), NONE, "told once");
    // Also if it is reached by wire, for somebody asks for it.
    let later = 100_000;
    assert_eq!(failed(&mut station, later, Input::Wired { peer: peer(), wired: true }), NONE);
    assert_eq!(failed(&mut station, later, Input::Connect { request: 8, peer: peer() }), NONE);
    assert_eq!(opens(&mut station, later + 1, heard()), 1);
    assert_eq!(failed(&mut station, later + 2 * AWAIT_MS, Input::Tick), NONE);
    assert_eq!(failed(&mut station, later, Input::NoWire { request: 9 }), [9]);
}
