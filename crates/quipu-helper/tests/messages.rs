//! Messages survive the way, and garbage is refused without harm.

use proptest::prelude::*;
use quipu_helper::limits::{FRAME_BYTES_MAX, LINK_NAME_BYTES_MAX, PACKET_BYTES_MAX};
use quipu_helper::{FrameError, Frames, FromHelper, Interface, Malformed, ToHelper, frame};

fn text() -> impl Strategy<Value = String> {
    "[a-zåß ]{0,20}"
}

fn link() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..LINK_NAME_BYTES_MAX)
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..500)
}

fn keys() -> impl Strategy<Value = [u8; 64]> {
    any::<[u8; 32]>().prop_map(|half| {
        let mut both = [7; 64];
        both[..32].copy_from_slice(&half);
        both
    })
}

fn to_helper() -> impl Strategy<Value = ToHelper> {
    prop_oneof![
        (any::<u32>(), text()).prop_map(|(version, name)| ToHelper::Hello { version, name }),
        (any::<u32>(), keys())
            .prop_map(|(identity, private)| ToHelper::Identity { identity, private }),
        (any::<u32>(), any::<u32>(), text(), prop::collection::vec(text(), 0..4)).prop_map(
            |(destination, identity, app, aspects)| ToHelper::Register {
                destination,
                identity,
                app,
                aspects
            }
        ),
        (any::<u32>(), data())
            .prop_map(|(destination, data)| ToHelper::Announce { destination, data }),
        (any::<u64>(), any::<[u8; 16]>(), any::<Option<u32>>())
            .prop_map(|(request, address, identity)| ToHelper::Open { request, address, identity }),
        (link(), any::<u64>(), data()).prop_map(|(link, number, data)| ToHelper::Packet {
            link,
            number,
            data
        }),
        (link(), any::<u64>(), any::<bool>(), data()).prop_map(|(link, number, compress, data)| {
            ToHelper::Resource { link, number, compress, data }
        }),
        link().prop_map(|link| ToHelper::Close { link }),
        Just(ToHelper::Look {}),
        Just(ToHelper::Bye {}),
    ]
}

fn interface() -> impl Strategy<Value = Interface> {
    let figures = (any::<Option<u64>>(), any::<u64>(), any::<Option<i32>>(), any::<Option<u32>>());
    (any::<u32>(), text(), any::<bool>(), figures).prop_map(
        |(number, name, up, (bitrate, sent_bytes, rssi, mtu))| Interface {
            number,
            kind: name.clone(),
            name,
            up,
            mtu,
            bitrate,
            sent_bytes,
            received_bytes: sent_bytes / 2,
            airtime_us: bitrate,
            rssi,
            snr: rssi,
        },
    )
}

fn from_helper() -> impl Strategy<Value = FromHelper> {
    prop_oneof![
        (any::<u32>(), any::<[u8; 16]>(), keys(), data(), any::<Option<i32>>()).prop_map(
            |(destination, address, public, data, rssi)| FromHelper::Heard {
                destination,
                address,
                identity: address,
                public,
                data,
                hops: 3,
                interface: Some(destination),
                rssi,
                snr: rssi,
            }
        ),
        (link(), any::<Option<u64>>(), any::<Option<u32>>(), any::<u32>()).prop_map(
            |(link, request, destination, packet_max)| FromHelper::LinkUp {
                link,
                request,
                destination,
                packet_max,
                resource_max: packet_max / 3,
                rtt_ms: 5,
            }
        ),
        (link(), any::<bool>(), text()).prop_map(|(link, closed, reason)| FromHelper::LinkDown {
            link,
            closed,
            reason
        }),
        (link(), any::<u64>(), text()).prop_map(|(link, number, reason)| FromHelper::Failed {
            link,
            number,
            reason
        }),
        (link(), data()).prop_map(|(link, data)| FromHelper::Packet { link, data }),
        (link(), data()).prop_map(|(link, data)| FromHelper::Resource { link, data }),
        prop::collection::vec(interface(), 0..5)
            .prop_map(|interfaces| FromHelper::Interfaces { interfaces }),
        (text(), text()).prop_map(|(about, reason)| FromHelper::Error { about, reason }),
        text().prop_map(|reason| FromHelper::Bye { reason }),
    ]
}

proptest! {
    #[test]
    fn messages_survive(to in to_helper(), from in from_helper()) {
        prop_assert_eq!(ToHelper::decode(&to.encode()).unwrap(), to);
        prop_assert_eq!(FromHelper::decode(&from.encode()).unwrap(), from);
    }

    #[test]
    fn every_cut_is_noticed(to in to_helper(), cut in any::<prop::sample::Index>()) {
        let bytes = to.encode();
        let cut = cut.index(bytes.len());
        prop_assert!(ToHelper::decode(&bytes[..cut]).is_err());
        let mut longer = bytes;
        longer.push(0);
        prop_assert_eq!(ToHelper::decode(&longer), Err(Malformed::Trailing(1)));
    }

    #[test]
    fn garbage_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        // Whatever is taken for a message is written again as one that means the same.
        if let Ok(message) = ToHelper::decode(&bytes) {
            prop_assert_eq!(ToHelper::decode(&message.encode()).unwrap(), message);
        }
        if let Ok(message) = FromHelper::decode(&bytes) {
            prop_assert_eq!(FromHelper::decode(&message.encode()).unwrap(), message);
        }
        let mut frames = Frames::default();
        frames.push(&bytes);
        while let Ok(Some(message)) = frames.pop() {
            prop_assert!(message.len() < bytes.len());
        }
    }

    #[test]
    fn spoilt_messages_do_no_harm(to in to_helper(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = to.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(message) = ToHelper::decode(&bytes) {
            prop_assert_ne!(message, to);
        }
    }

    #[test]
    fn frames_come_in_any_pieces(
        messages in prop::collection::vec(to_helper(), 1..6),
        piece in 1usize..40,
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|m| frame(&m.encode())).collect();
        let mut frames = Frames::default();
        let mut got = Vec::new();
        for part in bytes.chunks(piece) {
            frames.push(part);
            while let Some(message) = frames.pop().unwrap() {
                got.push(ToHelper::decode(message).unwrap());
            }
        }
        prop_assert_eq!(got, messages);
    }
}

#[test]
fn what_is_too_long_is_refused() {
    let mut frames = Frames::default();
    frames.push(&[0xff, 0, 0, 0]);
    assert_eq!(frames.pop(), Err(FrameError(0xff00_0000)));
    const { assert!(FRAME_BYTES_MAX < 0xff00_0000) };

    let data = vec![0; PACKET_BYTES_MAX + 1];
    let packet = ToHelper::Packet { link: vec![1], number: 1, data };
    assert!(matches!(
        ToHelper::decode(&packet.encode()),
        Err(Malformed::TooLong { what: "a packet", .. })
    ));
    let close = ToHelper::Close { link: vec![0; LINK_NAME_BYTES_MAX + 1] };
    assert!(matches!(ToHelper::decode(&close.encode()), Err(Malformed::TooLong { .. })));
}

/// The bytes of the format's description.
#[test]
fn the_examples_of_the_description() {
    let hello = ToHelper::Hello { version: 1, name: "quipu".to_owned() };
    assert_eq!(hello.encode(), b"\x83\x01\x01\x65quipu");
    let open = ToHelper::Open { request: 7, address: [9; 16], identity: None };
    let mut bytes = vec![0x84, 0x05, 0x07, 0x50];
    bytes.extend([9; 16]);
    bytes.push(0xf6);
    assert_eq!(open.encode(), bytes);
    assert_eq!(frame(&ToHelper::Bye {}.encode()), [0, 0, 0, 2, 0x81, 0x0a]);
    assert_eq!(ToHelper::decode(&[0x81, 0x18, 0x63]), Err(Malformed::Unknown(99)));
}
