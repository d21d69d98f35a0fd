//! What a file of the store says, as JSON. Shared by the tests, which compare it, and by the
//! generator, which writes it. Events are named by their ids: an id is the hash of all that an event
//! says.

use quipu_core::event::{Event, Log};
use quipu_core::history::Outline;
use quipu_core::id::{DomainId, EventId, NodeKey, Subject};
use serde_json::{Value as Json, json};

use crate::json::hex;
use crate::plain::{Active, Block, Place, Plain, read_proofs};

fn id_json(id: &[u8; 32]) -> Json {
    EventId(*id).to_string().into()
}

fn node_json(key: &[u8; 32]) -> Json {
    NodeKey(*key).to_string().into()
}

/// Clocks are text: not every JSON reader has 64 bits.
fn clock_json(clock: u64) -> Json {
    clock.to_string().into()
}

fn place_json(place: &Place) -> Json {
    json!({
        "log": place.log.name(), "number": place.number, "first": place.first,
        "domain": place.domain.to_string(),
    })
}

fn positions(events: &[Event], wanted: impl Fn(&Event) -> bool) -> Json {
    let found = events.iter().enumerate().filter(|(_, event)| wanted(event));
    found.map(|(position, _)| position).collect()
}

/// Ids in order, and what of the events is there beside what their ids cover.
fn events_json(events: &[Event]) -> Json {
    json!({
        "ids": events.iter().map(|event| event.id.to_string()).collect::<Json>(),
        "payloads_absent": positions(events, |event| event.payload.is_none()),
        "signed": positions(events, |event| event.signature.is_some()),
    })
}

fn join(mut a: Json, b: Json) -> Json {
    let (Some(into), Json::Object(more)) = (a.as_object_mut(), b) else { panic!("two objects") };
    into.extend(more);
    a
}

pub(crate) fn active_json(active: &Active) -> Json {
    let frames = active.frames.iter();
    join(
        json!({
            "place": place_json(&active.place), "made": active.made, "end": active.end,
            "frames": frames.map(|frame| json!([frame.at, frame.events])).collect::<Json>(),
            "commits": active.commits(),
        }),
        events_json(&active.events),
    )
}

/// What a block says with a payload file.
pub(crate) fn block_json(block: &Block) -> Json {
    let external = |(id, prev): &([u8; 32], bool)| json!({ "id": id_json(id), "as_prev": prev });
    let feed = |(author, feed): (&[u8; 32], &Vec<(u64, u64)>)| {
        let (seqs, positions): (Vec<u64>, Vec<u64>) = feed.iter().copied().unzip();
        json!({ "author": node_json(author), "seqs": seqs, "positions": positions })
    };
    let end = |end: &crate::plain::End| {
        json!({
            "position": end.position, "author": node_json(&block.authors[end.author]),
            "seq": end.seq, "logseq": clock_json(end.clock),
        })
    };
    let leaf = |(position, clock): &(u64, u64)| json!({ "position": position, "logseq": clock_json(*clock) });
    join(
        json!({
            "version": block.version, "place": place_json(&block.place),
            "authors": block.authors.iter().map(node_json).collect::<Json>(),
            "externals": block.externals.iter().map(external).collect::<Json>(),
            "kinds": block.kinds.iter().map(|(kind, n)| json!([kind, n])).collect::<Json>(),
            "pages": pages_json(block),
            "clocks": [clock_json(block.clocks.0), clock_json(block.clocks.1)],
            "feeds": block.authors.iter().zip(&block.feeds).map(feed).collect::<Json>(),
            "feed_ends": block.ends.iter().map(end).collect::<Json>(),
            "leaves": block.leaves.iter().map(leaf).collect::<Json>(),
            "structural": block.structural,
            "filter": block.filter.as_ref().map(|bits| hex(bits)),
        }),
        events_json(&block.events),
    )
}

fn pages_json(block: &Block) -> Json {
    let page = |page: &crate::plain::Page| match page.zone {
        Some((least, greatest, kinds)) => json!({
            "events": page.events, "clocks": [clock_json(least), clock_json(greatest)],
            "kinds": block.kinds_of(kinds),
        }),
        None => json!({ "events": page.events }),
    };
    block.pages.iter().map(page).collect()
}

/// Where the parts of a block file begin and end.
pub(crate) fn sections_json(block: &Block) -> Json {
    let section = |(name, range): &(String, std::ops::Range<usize>)| json!({ "name": name, "from": range.start, "to": range.end });
    block.sections.iter().map(section).collect()
}

/// What the filter of a block answers, and whether an event of the block writes that fold key.
pub(crate) fn subject_json(block: &Block, subject: &Subject) -> Json {
    let written = block.events.iter().any(|event| event.header.payload.subject == Some(*subject));
    json!({
        "subject": hex(&subject.0), "may_hold": block.may_hold(subject), "written": written,
    })
}

pub(crate) fn proofs_json(proofs: &[(EventId, Vec<Event>)]) -> Json {
    let proof = |(end, events): &(EventId, Vec<Event>)| {
        join(json!({ "end": end.to_string() }), events_json(events))
    };
    proofs.iter().map(proof).collect()
}

/// What a store answers about a log.
pub(crate) fn log_json(log: Log, events: &[Event], outline: &Outline) -> Json {
    let end = |end: &quipu_core::history::FeedEnd| {
        json!({
            "ordinal": end.ordinal, "uuid": end.id.to_string(), "author": end.author.to_string(),
            "seq": end.seq, "logseq": end.logseq.to_string(),
        })
    };
    json!({
        "log": log.name(), "count": events.len(),
        "first": events.first().map(|event| event.id.to_string()),
        "last": events.last().map(|event| event.id.to_string()),
        "payloads_absent": positions(events, |event| event.payload.is_none()),
        "feed_ends": outline.feed_ends.iter().map(end).collect::<Json>(),
        "leaves": outline.leaves.iter().map(|(id, _)| id.to_string()).collect::<Json>(),
        "structural": outline.structural,
    })
}

/// What the files of a store say, read without the store, of each path. Payload files are read with
/// their blocks.
pub(crate) fn files_json(
    files: &[(String, Vec<u8>)],
    domain: &DomainId,
) -> Plain<Vec<(String, Json)>> {
    let mut out = Vec::new();
    for (path, bytes) in files {
        let (stem, kind) = path.split_once('.').unwrap_or((path, "proofs"));
        let payload = || files.iter().find(|(other, _)| *other == format!("{stem}.payload"));
        let (place, json) = match kind {
            "active" => Active::read(bytes).map(|a| (Some(a.place), active_json(&a))),
            "block" => {
                let (_, payload) = payload().ok_or("the payload file is missing")?;
                Block::read(bytes, payload).map(|b| (Some(b.place), block_json(&b)))
            }
            "proofs" => read_proofs(bytes, domain).map(|proofs| (None, proofs_json(&proofs))),
            _ => continue,
        }?;
        let says = place.is_none_or(|place| {
            let own = format!("{}/{:06}", place.log.name(), place.number);
            own == stem && place.domain == *domain
        });
        if !says {
            return Err(format!("{path} is of another place"));
        }
        out.push((path.clone(), json));
    }
    Ok(out)
}
