use super::*;

fn samples() -> Vec<Message> {
    let digest = LogDigest([3; 32]);
    let item = Item([9; ITEM_BYTES]);
    let range = Range { author: [1; 5], above: 300 };
    vec![
        Message::Hello {
            version: 1,
            domain: DomainId([1; 32]),
            log: Log::Published,
            live: true,
            invite: None,
        },
        Message::Hello {
            version: 1,
            domain: DomainId([1; 32]),
            log: Log::Internal,
            live: false,
            invite: Some(InviteProof { key: NodeKey([2; 32]), signature: [7; 64] }),
        },
        Message::Welcome,
        Message::Refuse {
            refusal: Refusal::OtherDomain,
            text: "no".into(),
            domain: Some(DomainId([4; 32])),
        },
        Message::Compare { round: 1, attempt: 2, digest, count: 9, met: Some([1; 8]) },
        Message::Same { round: 1 },
        Message::Differs { round: 1, digest, count: 3, view: View::All(vec![item]) },
        Message::Differs { round: 1, digest, count: 3, view: View::Changed(vec![]) },
        Message::Differs { round: 1, digest, count: 3, view: View::Symbols(vec![1, 2]) },
        Message::MoreSymbols { round: 1, start: 300, count: 20 },
        Message::Symbols { round: 1, bytes: vec![1] },
        Message::Want { round: 1, plain: true, wanted: Wanted::Everything },
        Message::Want { round: 1, plain: false, wanted: Wanted::Ranges(vec![range]) },
        Message::Events { index: 4, restart: true, live: true, packed: vec![5] },
        Message::End { round: 1, digest },
        Message::Level { round: 1, digest },
        Message::Tips(vec![item, item]),
        Message::Prune,
        Message::Graft,
        Message::Poke { plain: true },
        Message::Ask { ask: 1, keys: vec![ArtifactId([1; 32]), ArtifactId([2; 32])] },
        Message::Offer { ask: 0, entries: vec![(ArtifactId([1; 32]), 300)] },
        Message::Get { key: ArtifactId([1; 32]), groups: 16..32 },
        Message::Part {
            key: ArtifactId([1; 32]),
            size: 20_000,
            groups: 0..2,
            bytes: Bytes::from_static(b"part"),
        },
        Message::Lack { key: ArtifactId([1; 32]) },
        Message::Idle,
        Message::AskState,
        Message::State(None),
        Message::State(Some(StateOffer { proof: vec![5; 9], key: ArtifactId([1; 32]), size: 70 })),
    ]
}

#[test]
fn messages_round_trip_and_cut_ones_are_refused() {
    for message in samples() {
        let bytes = message.encode();
        assert_eq!(Message::decode(&bytes), Ok(message.clone()), "{bytes:?}");
        let open_ended = matches!(
            message,
            Message::Events { .. }
                | Message::Part { .. }
                | Message::Symbols { .. }
                | Message::Differs { view: View::Symbols(_), .. }
        );
        if !open_ended {
            assert!(Message::decode(&bytes[..bytes.len() - 1]).is_err(), "{message:?}");
            assert!(Message::decode(&[&bytes[..], &[0]].concat()).is_err(), "{message:?}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        if let Ok(message) = Message::decode(&bytes)
            && !matches!(message, Message::Hello { version, .. } if version != PROTOCOL_VERSION)
        {
            proptest::prop_assert_eq!(message.encode(), bytes);
        }
    }
}
