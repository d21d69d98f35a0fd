//! Requests that only read.

use std::collections::BTreeMap;
use std::time::Duration;

use quipu_core::codec::v1;
use quipu_core::dag::{Dag, digest_of};
use quipu_core::event::{Event, Log, LogSeq};
use quipu_core::history::{History, Ordinal};
use quipu_core::id::{EventId, LogDigest, NodeKey};
use quipu_store::{RealDisk, Space};
use serde_json::{Value, json};

use super::at::cut_of;
use super::{Api, ApiError, ExitCode, Sink};
use crate::service::Machine;
use crate::view;

/// Events read in one visit to the machine's loop.
const CHUNK_EVENTS: usize = 512;
/// Places read at once when the whole log is looked through.
const SCAN_EVENTS: u64 = 4096;
/// The fewest characters of an id that may stand for it.
const PREFIX_CHARS_MIN: usize = 8;

/// With less room than this `doctor` complains.
const DISK_FREE_MIN: u64 = 1 << 30;
/// So it does with less than this part of the disk.
const DISK_FREE_PERCENT: u64 = 5;
/// Temporary files live for moments: older ones were left by something that was interrupted.
const LEFTOVER_AGE: Duration = Duration::from_secs(60);

/// What `log` shows.
#[derive(Debug, Clone)]
pub(super) struct LogQuery {
    pub(super) kind: Option<String>,
    pub(super) author: Option<String>,
    pub(super) limit: Option<u64>,
    pub(super) reverse: bool,
    pub(super) proof: bool,
    pub(super) at: Option<String>,
}

impl Api {
    pub(super) fn id(&self, sink: Sink<'_>) -> Result<(), ApiError> {
        let value = self.handle.call(|machine| {
            let node = machine.driver.node();
            json!({
                "node": node.key().to_string(),
                "domain": node.domain().to_string(),
                "name": node.dag().map(|dag| dag.parameters().name.clone()),
                "role": node.dag().and_then(|dag| dag.authority().role(&node.key())).map(|r| r.name()),
                "addrs": machine.listen(),
            })
        })?;
        Ok(sink(value)?)
    }

    pub(super) fn members(&self, at: Option<String>, sink: Sink<'_>) -> Result<(), ApiError> {
        if at.is_some() {
            let rows = self.read(move |machine| match cut_of(machine, at.as_deref())? {
                Some((_, cut)) => super::at::members_at(machine, &cut),
                None => Ok(Vec::new()),
            })?;
            rows.into_iter().try_for_each(sink)?;
            return Ok(());
        }
        let members = self.read(|machine| Ok(dag(machine)?.members()))?;
        for member in members {
            sink(json!({
                "node": member.node.to_string(),
                "role": member.role.name(),
                "since": member.since.to_string(),
                "since_ms": member.since.ms(),
            }))?;
        }
        Ok(())
    }

    pub(super) fn status(&self, at: Option<String>, sink: Sink<'_>) -> Result<(), ApiError> {
        let value = self.read(move |machine| match cut_of(machine, at.as_deref())? {
            Some((id, cut)) => super::at::status_at(machine, &id, &cut),
            None => match early_status(machine)? {
                Some(early) => Ok(early),
                None => status(machine),
            },
        })?;
        Ok(sink(value)?)
    }

    pub(super) fn frontier(&self, at: Option<String>, sink: Sink<'_>) -> Result<(), ApiError> {
        let ends = self.read(move |machine| match cut_of(machine, at.as_deref())? {
            Some((_, cut)) => super::at::ends_of(machine, &cut),
            None => Ok(dag(machine)?.ends().iter().map(|e| (e.author, e.seq, e.id)).collect()),
        })?;
        let tip = |(author, seq, id): &(NodeKey, u64, EventId)| json!({ "author": author.to_string(), "seq": seq, "id": id.to_string() });
        Ok(sink(json!({ "tips": ends.iter().map(tip).collect::<Vec<_>>() }))?)
    }

    pub(super) fn show(&self, id: &str, sink: Sink<'_>) -> Result<(), ApiError> {
        let id = id.to_owned();
        let value = self.read(move |machine| {
            let ordinal = find_event(machine, &id)?;
            let held = machine.driver.held();
            let event = held.event(machine.driver.log(), ordinal)?;
            let domain = machine.driver.node().domain();
            let mut object =
                view::event(held, &domain, &event, Some(&mut view::Proofs::default()))?;
            let quarantined = dag(machine)?.is_quarantined(&event.id);
            if quarantined {
                object["quarantined"] = true.into();
            }
            Ok(object)
        })?;
        Ok(sink(value)?)
    }

    pub(super) fn log(&self, query: LogQuery, sink: Sink<'_>) -> Result<(), ApiError> {
        let wanted = query.clone();
        let ordinals = self.read(move |machine| replay_order(machine, &wanted))?;
        let mut proofs = query.proof.then(view::Proofs::default);
        for chunk in ordinals.chunks(CHUNK_EVENTS) {
            let chunk = chunk.to_vec();
            let objects;
            (objects, proofs) = self.read_once(move |machine| {
                let held = machine.driver.held();
                let domain = machine.driver.node().domain();
                let mut objects = Vec::with_capacity(chunk.len());
                for event in read_events(machine, &chunk)? {
                    objects.push(view::event(held, &domain, &event, proofs.as_mut())?);
                }
                Ok((objects, proofs))
            })?;
            for object in objects {
                sink(object)?;
            }
        }
        Ok(())
    }

    pub(super) fn verify(&self, sink: Sink<'_>) -> Result<(), ApiError> {
        let (events, published, mut problems, artifacts) = self.read(|machine| {
            let (events, mut problems) = verified(machine)?;
            let mut published = 0;
            for domain in machine.published_domains() {
                let found = machine.focused(&domain, |machine| match machine.driver.node().dag() {
                    Some(_) => verified(machine),
                    None => Ok((0, Vec::new())),
                });
                let (events, more) = found.transpose()?.unwrap_or_default();
                published += events;
                problems.extend(more);
            }
            for (domain, error) in machine.broken_published() {
                let object = domain.to_string();
                problems
                    .push(json!({ "what": "published log", "object": object, "detail": error }));
            }
            Ok((events, published, problems, machine.artifact_store()?.clone()))
        })?;
        // Here, not on the loop: that may take long.
        let count = artifacts.count().map_err(|error| super::artifact_error(&error))?;
        let damaged = artifacts.verify(&mut |_| ());
        for problem in damaged.map_err(|error| super::artifact_error(&error))? {
            let bad: u64 = problem.bytes.iter().map(|range| range.end - range.start).sum();
            let detail = format!("{bad} of its {} bytes are not what was put", problem.size);
            let object = problem.key.to_string();
            problems.push(json!({ "what": "artifact", "object": object, "detail": detail }));
        }
        Ok(sink(json!({
            "events": events, "published_events": published,
            "artifacts": count, "problems": problems,
        }))?)
    }

    pub(super) fn doctor(&self, sink: Sink<'_>) -> Result<(), ApiError> {
        Ok(sink(self.read(|machine| doctor(machine))?)?)
    }

    pub(super) fn mesh_status(&self, sink: Sink<'_>) -> Result<(), ApiError> {
        let report = self.read(|machine| Ok(machine.air_report()))?;
        let missing = || {
            ApiError::new(ExitCode::NotFound, "this machine has no links over the air")
                .hint("quipu serve --reticulum")
        };
        Ok(sink(report.ok_or_else(missing)?)?)
    }

    /// Asks a question on the machine's loop. It is asked once more if the state's files turn out to
    /// be damaged, so it must not matter how often it is asked.
    pub(super) fn read<R: Send + 'static>(
        &self,
        question: impl Fn(&mut Machine) -> Result<R, ApiError> + Send + 'static,
    ) -> Result<R, ApiError> {
        let question = move |machine: &mut Machine| match question(machine) {
            Err(_) if machine.driver.clear_if_damaged()? => question(machine),
            answer => answer,
        };
        self.read_once(question)
    }

    /// Asks a question on the machine's loop, once: of the log in focus. Whoever reads goes through here,
    /// so that nothing internal is shown for something published.
    pub(super) fn read_once<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Machine) -> Result<R, ApiError> + Send + 'static,
    ) -> Result<R, ApiError> {
        let Some(domain) = self.focus else { return self.handle.call(question)? };
        let gone = || ApiError::not_found(format!("the published log of {domain} is gone"));
        self.handle.call(move |machine| machine.focused(&domain, question))?.ok_or_else(gone)?
    }
}

/// Checks the log of a machine and what it adds up to. Answers how many events it looked at, and what is
/// wrong.
fn verified(machine: &mut Machine) -> Result<(u64, Vec<Value>), ApiError> {
    let store = machine.driver.held().store().ok_or_else(nothing_held)?;
    // A store whose only commit was cut is whole, but holds nothing: that is not "clean".
    dag(machine)?;
    let report = store.verify(&mut |_, _| ());
    let mut problems: Vec<Value> = report
        .problems
        .iter()
        .map(|p| json!({ "what": p.what, "object": p.object, "detail": p.detail }))
        .collect();
    if let Err(error) = machine.driver.state().check() {
        let (detail, object) = (error.to_string(), machine.driver.log().name());
        problems.push(json!({ "what": "state", "object": object, "detail": detail }));
    }
    if machine.driver.log() == Log::Published {
        let domain = machine.driver.node().domain();
        problems.iter_mut().for_each(|problem| problem["domain"] = domain.to_string().into());
    }
    Ok((report.events, problems))
}

pub(crate) fn nothing_held() -> ApiError {
    ApiError::not_found("this machine holds nothing of its domain yet")
        .hint("quipu sync, or quipu join TICKET")
}

pub(super) fn dag(machine: &Machine) -> Result<&Dag, ApiError> {
    machine.driver.node().dag().ok_or_else(nothing_held)
}

/// Where a machine stands that has only a snapshot's state.
fn early_status(machine: &mut Machine) -> Result<Option<Value>, ApiError> {
    if machine.driver.node().dag().is_some() {
        return Ok(None);
    }
    let (domain, node) = (machine.driver.node().domain(), machine.driver.node().key());
    let Some(early) = machine.early()? else { return Ok(None) };
    Ok(Some(json!({
        "domain": domain.to_string(),
        "node": node.to_string(),
        "events": 0,
        "authors": 0,
        "leaves": [],
        "digest": digest_of(&[]).to_string(),
        "published_digest": digest_of(&[]).to_string(),
        "waiting": 0,
        "quarantined": 0,
        "equivocations": [],
        "peers": [],
        "snapshot": early.snapshot.to_string(),
        "snapshot_author": early.author.to_string(),
        "entries": early.events.len(),
    })))
}

/// The digest of this domain's published log; that of an empty one if nothing was ever published.
fn published_digest(machine: &mut Machine) -> LogDigest {
    if machine.driver.log() == Log::Published {
        return machine.driver.node_mut().digest();
    }
    let own = machine.driver.node().domain();
    let digest = machine.focused(&own, |machine| machine.driver.node_mut().digest());
    digest.unwrap_or_else(|| digest_of(&[]))
}

fn status(machine: &mut Machine) -> Result<Value, ApiError> {
    let digest = machine.driver.node_mut().digest();
    let published_digest = published_digest(machine);
    let node = machine.driver.node();
    let dag = dag(machine)?;
    let stats = machine.driver.held().store().map(|store| store.stats()).unwrap_or_default();
    let equivocations: Vec<Value> = dag
        .equivocations()
        .iter()
        .map(|fork| {
            let ids: Vec<String> = fork.ids.iter().map(EventId::to_string).collect();
            json!({ "author": fork.author.to_string(), "seq": fork.seq, "ids": ids })
        })
        .collect();
    let peers: Vec<Value> = node
        .peers()
        .iter()
        .map(|(peer, state, traffic)| {
            json!({
                "node": peer.to_string(),
                "state": format!("{state:?}").to_lowercase(),
                "sent_events": traffic.sent_events,
                "received_events": traffic.received_events,
                "bytes_sent": traffic.bytes_sent,
                "bytes_received": traffic.bytes_received,
                "artifact_bytes_sent": traffic.artifact_bytes_sent,
                "artifact_bytes_received": traffic.artifact_bytes_received,
                "groups_again": traffic.groups_again,
            })
        })
        .collect();
    Ok(json!({
        "domain": node.domain().to_string(),
        "name": dag.parameters().name,
        "node": node.key().to_string(),
        "role": dag.authority().role(&node.key()).map(|role| role.name()),
        "events": dag.event_count(),
        "authors": dag.author_count(),
        "leaves": dag.leaves().iter().map(EventId::to_string).collect::<Vec<_>>(),
        "digest": digest.to_string(),
        "published_digest": published_digest.to_string(),
        "waiting": node.waiting(),
        "quarantined": dag.quarantined().len(),
        "equivocations": equivocations,
        "peers": peers,
        "blocks": stats.blocks,
        "disk_bytes": stats.disk_bytes,
    }))
}

/// How far in the future a clock may be before `doctor` names its author.
const CLOCK_AHEAD_MS: u64 = 10 * 60 * 1000;

fn doctor(machine: &Machine) -> Result<Value, ApiError> {
    use crate::driver::Clock;
    let dag = dag(machine)?;
    let now = machine.driver.clock().now_ms();
    let mut findings = Vec::new();
    let mut find = |what: &str, object: String, detail: String, hint: &str| {
        findings.push(json!({ "what": what, "object": object, "detail": detail, "hint": hint }));
    };
    for end in dag.ends() {
        let ahead = end.logseq.ms().saturating_sub(now);
        if ahead > CLOCK_AHEAD_MS {
            let detail = format!("its last event is {} s ahead of this machine", ahead / 1000);
            find("clock", end.author.to_string(), detail, "set that machine's clock");
        }
    }
    for fork in dag.equivocations() {
        let detail = format!("{} events at place {} of its feed", fork.ids.len(), fork.seq);
        let hint = "a restored backup, a cloned disk or a stolen key: quipu member remove KEY";
        find("fork", fork.author.to_string(), detail, hint);
    }
    if !dag.quarantined().is_empty() {
        let detail = "events by removed members that nobody had seen in time".to_owned();
        find("quarantine", dag.quarantined().len().to_string(), detail, "nothing to do");
    }
    let waiting = machine.driver.node().waiting();
    if waiting > 0 {
        let detail = "events whose links have not arrived".to_owned();
        find("gap", waiting.to_string(), detail, "quipu sync");
    }
    if dag.authority().role(&machine.driver.node().key()).is_none() {
        let detail = "this machine is no longer a member".to_owned();
        find("membership", machine.driver.node().key().to_string(), detail, "ask an admin");
    }
    for notice in machine.notices() {
        use quipu_core::node::Notice;
        match notice {
            Notice::PeerRefused { peer, text, .. } => {
                find(
                    "peer",
                    peer.to_string(),
                    text.clone(),
                    "see the daemon's log: quipu -v serve",
                );
            }
            Notice::EventRefused { id, rule, .. } => {
                find("event", id.to_string(), rule.to_string(), "its author's program is at fault");
            }
            _ => {}
        }
    }
    let stats = machine.driver.held().store().map(|store| store.stats()).unwrap_or_default();
    let disk = machine.driver.held().disk();
    let space = disk.space().map_err(|error| disk_error(disk, &error))?;
    if is_low(&space) {
        let detail =
            format!("{} MB free of {} MB", space.free / 1_000_000, space.total / 1_000_000);
        find("disk", disk.root().display().to_string(), detail, "make room, or move the machine");
    }
    for path in disk.leftovers(LEFTOVER_AGE).map_err(|error| disk_error(disk, &error))? {
        let detail = "a temporary file of a write that did not finish".to_owned();
        find("leftover", path.display().to_string(), detail, "remove it");
    }
    Ok(json!({
        "findings": findings,
        "disk": {
            "store_bytes": stats.disk_bytes,
            "free_bytes": space.free,
            "total_bytes": space.total,
        },
    }))
}

fn disk_error(disk: &RealDisk, error: &std::io::Error) -> ApiError {
    ApiError::new(ExitCode::Storage, format!("{}: {error}", disk.root().display()))
}

/// Whether a disk may soon be full.
fn is_low(space: &Space) -> bool {
    space.free < DISK_FREE_MIN || space.free < space.total / 100 * DISK_FREE_PERCENT
}

/// The ordinals of the events that a query wants, in replay order.
fn replay_order(machine: &mut Machine, query: &LogQuery) -> Result<Vec<Ordinal>, ApiError> {
    let author = match &query.author {
        Some(text) => Some(find_node(machine, text)?),
        None => None,
    };
    let cut = cut_of(machine, query.at.as_deref())?;
    let dag = dag(machine)?;
    let held = machine.driver.held();
    let mut order: Vec<(LogSeq, EventId, Ordinal)> = Vec::new();
    let count = held.count(machine.driver.log());
    let mut next = 0;
    while next < count {
        let end = count.min(next + SCAN_EVENTS);
        for (place, ordinal) in
            held.places(machine.driver.log(), next..end)?.into_iter().zip(next..)
        {
            let head = &place.head;
            let wanted = query.kind.as_ref().is_none_or(|kind| **kind == *head.kind)
                && author.is_none_or(|author| author == head.author)
                && cut.as_ref().is_none_or(|(_, cut)| cut.contains(ordinal));
            if wanted && !dag.is_quarantined(&place.id) {
                order.push((head.logseq, place.id, ordinal));
            }
        }
        next = end;
    }
    order.sort_unstable();
    if query.reverse {
        order.reverse();
    }
    let limit = query.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    Ok(order.into_iter().take(limit).map(|(.., ordinal)| ordinal).collect())
}

/// Reads events, in runs where ordinals are consecutive.
pub(super) fn read_events(machine: &Machine, ordinals: &[Ordinal]) -> Result<Vec<Event>, ApiError> {
    let held = machine.driver.held();
    let mut events: BTreeMap<Ordinal, Event> = BTreeMap::new();
    let mut sorted = ordinals.to_vec();
    sorted.sort_unstable();
    let mut at = 0;
    while at < sorted.len() {
        let first = sorted[at];
        let run = sorted[at..].iter().zip(first..).take_while(|(a, b)| **a == *b).count();
        let mut next = first;
        while next < first + run as u64 {
            let read = held.events(machine.driver.log(), next..first + run as u64)?;
            for event in read {
                events.insert(next, event);
                next += 1;
            }
        }
        at += run;
    }
    Ok(ordinals.iter().filter_map(|ordinal| events.remove(ordinal)).collect())
}

/// Whether a text may stand for an id that begins like that.
pub(super) fn is_start_of_id(text: &str) -> bool {
    text.len() >= PREFIX_CHARS_MIN && text.starts_with('b')
}

/// The event with that id, or the only one whose id begins like that.
pub(super) fn find_event(machine: &Machine, text: &str) -> Result<Ordinal, ApiError> {
    let held = machine.driver.held();
    let missing =
        || ApiError::not_found(format!("no event {text} here")).hint("quipu sync, or quipu log");
    if let Ok(id) = text.parse::<EventId>() {
        return held.find(machine.driver.log(), &id)?.ok_or_else(missing);
    }
    if !is_start_of_id(text) {
        return Err(ApiError::misuse(format!(
            "{text:?} is no event id, nor the first {PREFIX_CHARS_MIN} characters or more of one"
        )));
    }
    let mut found = Vec::new();
    let count = held.count(machine.driver.log());
    let mut next = 0;
    while next < count && found.len() < 2 {
        let end = count.min(next + SCAN_EVENTS);
        for (place, ordinal) in
            held.places(machine.driver.log(), next..end)?.into_iter().zip(next..)
        {
            if place.id.to_string().starts_with(text) {
                found.push(ordinal);
            }
        }
        next = end;
    }
    match found[..] {
        [] => Err(missing()),
        [only] => Ok(only),
        _ => Err(ApiError::misuse(format!("{text} is the start of several event ids"))
            .hint("give more characters")),
    }
}

/// The node with that key, or the only known one whose key begins like that.
pub(super) fn find_node(machine: &Machine, text: &str) -> Result<NodeKey, ApiError> {
    if let Ok(key) = text.parse::<NodeKey>() {
        return Ok(key);
    }
    if text.len() < PREFIX_CHARS_MIN || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(ApiError::misuse(format!(
            "{text:?} is no node key, nor the first {PREFIX_CHARS_MIN} digits or more of one"
        )));
    }
    let mut known = known_nodes(machine);
    known.retain(|key| key.to_string().starts_with(text));
    match known[..] {
        [] => Err(ApiError::not_found(format!("no node {text} known here")).hint("quipu members")),
        [only] => Ok(only),
        _ => Err(ApiError::new(ExitCode::Usage, format!("{text} is the start of several keys"))
            .hint("give more digits")),
    }
}

/// The nodes that this machine has heard of, sorted: without a log, only from its address book.
pub(super) fn known_nodes(machine: &Machine) -> Vec<NodeKey> {
    let mut known: Vec<NodeKey> = Vec::new();
    if let Some(dag) = machine.driver.node().dag() {
        known.extend(dag.authors());
        known.extend(dag.members().iter().map(|member| member.node));
    }
    known.extend(machine.book().peers.keys().filter_map(|key| key.parse::<NodeKey>().ok()));
    known.sort_unstable();
    known.dedup();
    known
}

/// Whether bytes are a payload value: used before anything is sent to the loop.
pub(super) fn value_of_json(text: &str) -> Result<Vec<u8>, ApiError> {
    let value = quipu_core::value::from_json(text)
        .map_err(|error| ApiError::refused(format!("payload: {error}")))?;
    let mut bytes = Vec::new();
    quipu_core::value::encode(&value, &mut bytes);
    let block = v1::payload_block(&[0; 32], &bytes);
    if block.len() > quipu_core::limits::PAYLOAD_BYTES_MAX {
        let max = quipu_core::limits::PAYLOAD_BYTES_MAX;
        let message = format!("payload of {} bytes, at most {max} fit into an event", block.len());
        return Err(ApiError::refused(message).hint("larger things are artifacts: quipu put FILE"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_low_below_a_gigabyte_or_a_twentieth() {
        const GIB: u64 = 1 << 30;
        let low = |free, total| is_low(&Space { free, total });
        assert!(low(0, 0) && low(GIB - 1, 2 * GIB) && low(49 * GIB, 1000 * GIB));
        assert!(!low(GIB, 2 * GIB) && !low(GIB, 20 * GIB) && !low(50 * GIB, 1000 * GIB));
        assert!(!low(u64::MAX, u64::MAX));
    }
}
