//! Messages of the sync protocol, and coded symbols.

use ed25519_dalek::Signer;
use quipu_core::codec::pack::{self, Context};
use quipu_core::dag::digest_of;
use quipu_core::event::Log;
use quipu_core::id::DomainId;
use quipu_core::sketch::{Item, Sketch, Symbol, decode_symbols, encode_symbols};
use quipu_core::sync::message::{
    InviteProof, Message, Range, Refusal, View, Wanted, invite_message,
};
use serde_json::{Value as Json, json};

use crate::json::{hex, message_json};
use crate::raw::{section, varint};
use crate::world::{domain, key, node, root, small_log};

fn item(n: u8) -> Item {
    Item([n, 0, 1, 2, 3, n, 0, 0, 0xaa, n])
}

fn good() -> Vec<(&'static str, Message)> {
    let digest = digest_of(&[root().id]);
    let proof = InviteProof {
        key: node(9),
        signature: key(9).sign(&invite_message(&domain(), &node(3))).to_bytes(),
    };
    let packed =
        pack::encode(&[root()], &mut Context::writer().without_compression(), &pack::Nothing);
    let mut sketch = Sketch::new([5; 32]);
    (0..5).for_each(|n| sketch.insert(item(n)));
    let symbols = encode_symbols(&sketch.symbols(0..4), 0, 5);
    let ranges =
        vec![Range { author: [1, 2, 3, 4, 5], above: 0 }, Range { author: [6; 5], above: 300 }];
    vec![
        (
            "hello",
            Message::Hello {
                version: 1,
                domain: domain(),
                log: Log::Internal,
                live: true,
                invite: None,
            },
        ),
        (
            "hello-to-the-published-log",
            Message::Hello {
                version: 1,
                domain: domain(),
                log: Log::Published,
                live: true,
                invite: None,
            },
        ),
        (
            "hello-of-a-newcomer",
            Message::Hello {
                version: 1,
                domain: domain(),
                log: Log::Internal,
                live: false,
                invite: Some(proof),
            },
        ),
        ("welcome", Message::Welcome),
        (
            "refuse-version",
            Message::Refuse {
                refusal: Refusal::Version,
                text: "this machine speaks version 1".into(),
                domain: None,
            },
        ),
        (
            "refuse-other-domain",
            Message::Refuse {
                refusal: Refusal::OtherDomain,
                text: "other domain".into(),
                domain: Some(domain()),
            },
        ),
        (
            "refuse-busy",
            Message::Refuse { refusal: Refusal::Busy, text: String::new(), domain: None },
        ),
        ("compare-first", Message::Compare { round: 1, attempt: 0, digest, count: 1, met: None }),
        (
            "compare-remembered",
            Message::Compare {
                round: 70_000,
                attempt: 3,
                digest,
                count: u64::MAX,
                met: Some([1, 2, 3, 4, 5, 6, 7, 8]),
            },
        ),
        ("same", Message::Same { round: 1 }),
        (
            "differs-all",
            Message::Differs {
                round: 1,
                digest,
                count: 2,
                view: View::All(vec![item(1), item(2)]),
            },
        ),
        (
            "differs-changed-none",
            Message::Differs { round: 1, digest, count: 2, view: View::Changed(vec![]) },
        ),
        (
            "differs-symbols",
            Message::Differs { round: 1, digest, count: 5, view: View::Symbols(symbols.clone()) },
        ),
        ("more-symbols", Message::MoreSymbols { round: 1, start: 316, count: 158 }),
        ("symbols", Message::Symbols { round: 1, bytes: symbols }),
        ("want-everything", Message::Want { round: 1, plain: false, wanted: Wanted::Everything }),
        (
            "want-ranges-plain",
            Message::Want { round: 2, plain: true, wanted: Wanted::Ranges(ranges) },
        ),
        (
            "events",
            Message::Events { index: 0, restart: true, live: false, packed: packed.clone() },
        ),
        ("events-live", Message::Events { index: u32::MAX, restart: true, live: true, packed }),
        ("end", Message::End { round: 1, digest }),
        ("level", Message::Level { round: 1, digest }),
        ("tips", Message::Tips(vec![item(3)])),
        ("prune", Message::Prune),
        ("graft", Message::Graft),
        ("poke", Message::Poke { plain: false }),
        ("poke-plain", Message::Poke { plain: true }),
    ]
}

fn refused() -> Json {
    let frame = |name: &str| good().into_iter().find(|(n, _)| *n == name).unwrap().1.encode();
    let cut = |name: &str| {
        let mut bytes = frame(name);
        bytes.pop();
        bytes
    };
    let more = |name: &str| [frame(name), vec![0]].concat();
    let with = |name: &str, at: usize, byte: u8| {
        let mut bytes = frame(name);
        bytes[at] = byte;
        bytes
    };
    let ends =
        |count: u64, items: usize| [&[13][..], &varint(count), &vec![0; 10 * items]].concat();
    let refuse =
        |text: &[u8], domain: &[u8]| [&[3, 2][..], &section(text), &section(domain)].concat();
    let digest = [0u8; 32];
    let compare = |met: &[u8]| [&[4, 1, 0][..], &digest, &[1], &section(met)].concat();
    let want = |count: u64, more: &[u8]| [&[9, 1, 0][..], &varint(count), more].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "empty"),
        ("type-0", vec![0], "field"),
        ("type-17", vec![17], "field"),
        ("hello-cut", cut("hello"), "field"),
        ("hello-trailing", more("hello"), "trailing bytes"),
        ("hello-unknown-flag", with("hello", 34, 8), "field"),
        ("hello-promises-an-invitation", with("hello", 34, 2), "field"),
        ("hello-without-version", vec![1], "field"),
        ("welcome-trailing", more("welcome"), "trailing bytes"),
        ("refuse-reason-0", with("refuse-busy", 1, 0), "field"),
        ("refuse-reason-9", with("refuse-busy", 1, 9), "field"),
        ("refuse-text-513-bytes", refuse(&[b'a'; 513], &[]), "field"),
        ("refuse-text-not-utf-8", refuse(&[0xff], &[]), "field"),
        ("refuse-text-length-huge", [&[3, 2][..], &varint(u64::MAX)].concat(), "field"),
        ("refuse-domain-31-bytes", refuse(b"", &[0; 31]), "field"),
        ("compare-cut", cut("compare-first"), "field"),
        ("compare-met-7-bytes", compare(&[0; 7]), "field"),
        ("compare-met-9-bytes", compare(&[0; 9]), "field"),
        ("compare-round-over-32-bits", [&[4][..], &varint(1 << 32)].concat(), "field"),
        ("same-varint-long", vec![5, 0x81, 0x00], "field"),
        ("same-varint-without-end", vec![5, 0x80], "field"),
        ("same-varint-11-bytes", [&[5][..], &[0xff; 11]].concat(), "field"),
        ("same-trailing", more("same"), "trailing bytes"),
        ("differs-view-3", [&[6, 1][..], &digest, &[1, 3]].concat(), "field"),
        ("differs-without-view", [&[6, 1][..], &digest, &[1]].concat(), "field"),
        ("more-symbols-cut", cut("more-symbols"), "field"),
        ("want-unknown-flag", with("want-everything", 2, 4), "field"),
        ("want-everything-and-ranges", more("want-everything"), "trailing bytes"),
        ("want-count-too-large", want(3, &[0; 12]), "field"),
        ("want-count-huge", want(u64::MAX, &[]), "field"),
        (
            "want-131073-ranges",
            want((1 << 17) + 1, &vec![0; 6 * ((1 << 17) + 1)])[..20_000].to_vec(),
            "field",
        ),
        ("events-unknown-flag", vec![10, 0, 4], "field"),
        ("events-without-flags", vec![10, 0], "field"),
        ("end-cut", cut("end"), "field"),
        ("level-trailing", more("level"), "trailing bytes"),
        ("tips-cut", cut("tips"), "field"),
        ("tips-count-too-large", ends(2, 1), "field"),
        ("tips-count-huge", ends(u64::MAX, 1), "field"),
        ("tips-count-131073", ends((1 << 17) + 1, 1), "field"),
        ("tips-trailing", more("tips"), "trailing bytes"),
        ("prune-trailing", more("prune"), "trailing bytes"),
        ("poke-2", vec![16, 2], "field"),
        ("poke-empty", vec![16], "field"),
    ];
    let mut wrong = Vec::new();
    let vectors: Vec<Json> = cases
        .into_iter()
        .map(|(name, frame, error)| {
            let given = Message::decode(&frame).map_or_else(|e| e.0, |_| "accepted");
            if given != error {
                wrong.push(format!("{name}: expected {error:?}, got {given:?}"));
            }
            json!({ "name": name, "frame": hex(&frame), "error": format!("malformed message: {error}") })
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    vectors.into()
}

fn symbol_json(symbol: &Symbol) -> Json {
    json!({ "sum": hex(&symbol.sum), "check": hex(&symbol.check), "count": symbol.count })
}

fn symbols() -> Json {
    let mut sketch = Sketch::new([5; 32]);
    (0..5).for_each(|n| sketch.insert(item(n)));
    let symbols = sketch.symbols(0..6);
    let bytes = encode_symbols(&symbols[2..], 2, 5);
    let head =
        |start: u64, size: u64, count: u64| [varint(start), varint(size), varint(count)].concat();
    let symbol = |count: u64| [vec![0; 13], varint(count)].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "symbols are cut short"),
        ("cut", bytes[..bytes.len() - 1].to_vec(), "symbols are cut short"),
        ("trailing", [&bytes[..], &[0]].concat(), "1 bytes after the last symbol"),
        ("start-varint-long", vec![0x80, 0, 0, 0], "not a valid number"),
        ("set-size-over-32-bits", head(0, 1 << 32, 0), "not a valid number"),
        ("more-than-asked-for", head(0, 0, 1001), "1001 symbols are too many"),
        ("count-huge", head(0, 0, u64::MAX), "18446744073709551615 symbols are too many"),
        ("start-beyond-the-last-index", head(1 << 20, 0, 1), "1 symbols are too many"),
        ("start-huge", head(u64::MAX, 0, 1), "1 symbols are too many"),
        ("count-without-symbols", head(0, 0, 1000), "symbols are cut short"),
        (
            "item-count-over-32-bits",
            [head(0, 0, 1), symbol(1 << 33)].concat(),
            "not a valid number",
        ),
        (
            "item-count-overflows",
            [head(0, u64::from(u32::MAX), 1), symbol(u64::MAX - 1)].concat(),
            "not a valid number",
        ),
    ];
    let refused: Vec<Json> = cases
        .into_iter()
        .map(|(name, bytes, error)| {
            let given = decode_symbols(&bytes, 1000)
                .map_or_else(|e| e.to_string(), |_| "accepted".to_owned());
            assert_eq!(given, error, "{name}");
            json!({ "name": name, "bytes": hex(&bytes), "error": error })
        })
        .collect();
    json!({
        "key": hex(&[5; 32]),
        "items": (0..5).map(|n| hex(&item(n).0)).collect::<Vec<_>>(),
        "start_index": 2,
        "set_size": 5,
        "symbols": symbols[2..].iter().map(symbol_json).collect::<Vec<_>>(),
        "bytes": hex(&bytes),
        "max_symbols": 1000,
        "refused": refused,
    })
}

pub(crate) fn messages() -> Json {
    let vectors: Vec<Json> = good()
        .iter()
        .map(|(name, message)| {
            let frame = message.encode();
            assert_eq!(Message::decode(&frame).as_ref(), Ok(message));
            json!({ "name": name, "frame": hex(&frame), "message": message_json(message) })
        })
        .collect();
    let other = [vec![1, 2], b"whatever a later version says".to_vec()].concat();
    let hello = Message::Hello {
        version: 2,
        domain: DomainId::default(),
        log: Log::Internal,
        live: false,
        invite: None,
    };
    assert_eq!(Message::decode(&other), Ok(hello.clone()));
    assert_eq!(small_log().len(), 7);
    json!({
        "format": "sync messages v1",
        "invite_message": {
            "meaning": "what the key of a ticket signs: BLAKE3-256(context, domain, newcomer)",
            "context": "quipu invitation v1", "domain": hex(&domain().0), "newcomer": node(3).to_string(),
            "message": hex(&invite_message(&domain(), &node(3))),
        },
        "good": vectors,
        "decode_only": [{
            "name": "hello-of-another-version",
            "meaning": "only the version is read, so that the answer can name the versions",
            "frame": hex(&other), "message": message_json(&hello),
        }],
        "refused": refused(),
        "symbols": symbols(),
    })
}
