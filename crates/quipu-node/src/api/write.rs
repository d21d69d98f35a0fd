//! Requests that append events.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use quipu_core::codec::v1;
use quipu_core::domain::{Decision, Invitation, Role};
use quipu_core::history::History;
use quipu_core::id::{EventId, NodeKey};
use quipu_core::kind;
use quipu_core::node::{Command, CommandError, Emitted, Reply};
use quipu_meshlog::native::goes_to_mesh;
use serde_json::{Value, json};

use super::read::{dag, find_event, find_node, value_of_json};
use super::{Api, ApiError, ExitCode, NewEvent, Sink};
use crate::driver::Clock;

pub(super) fn role_of(text: &str) -> Result<Role, ApiError> {
    Role::from_name(text).ok_or_else(|| {
        ApiError::misuse(format!("{text:?} is no role")).hint("admin, writer or reader")
    })
}

/// Checks what can be checked of a new event without a machine, and gives its payload value as
/// canonical DAG-CBOR.
///
/// # Errors
/// What is wrong with it.
pub fn check_event(event: &NewEvent) -> Result<Vec<u8>, ApiError> {
    if !v1::is_dotted_name(&event.kind) {
        return Err(ApiError::refused(format!("{:?} is no kind", event.kind))
            .hint("words of a-z, 0-9, _ and -, joined by dots, such as app.note"));
    }
    if event.kind.len() > quipu_core::limits::KIND_BYTES_MAX {
        let max = quipu_core::limits::KIND_BYTES_MAX;
        return Err(ApiError::refused(format!("a kind has at most {max} bytes")));
    }
    if kind::is_reserved(&event.kind) {
        return Err(CommandError::ReservedKind(event.kind.clone()).into());
    }
    value_of_json(event.payload.as_ref().map_or("null", |payload| payload.get()))
}

fn emitted_json(event: &Emitted) -> Value {
    json!({
        "uuid": event.id.to_string(),
        "seq": event.seq,
        "logseq": event.logseq.to_string(),
        "parents": event.parents.iter().map(EventId::to_string).collect::<Vec<_>>(),
    })
}

impl Api {
    pub(super) fn emit(&self, events: Vec<NewEvent>, sink: Sink<'_>) -> Result<(), ApiError> {
        let mut drafts: Vec<(Arc<str>, Bytes)> = Vec::with_capacity(events.len());
        for event in events {
            let bytes = check_event(&event)?;
            let kind = drafts.last().map(|(kind, _)| kind).filter(|kind| ***kind == *event.kind);
            let kind = kind.cloned().unwrap_or_else(|| Arc::from(event.kind.as_str()));
            drafts.push((kind, bytes.into()));
        }
        let of_mesh = drafts.iter().any(|(kind, _)| goes_to_mesh(kind));
        for event in self.write(Command::Emit(drafts))? {
            sink(emitted_json(&event))?;
        }
        if of_mesh {
            self.sign_records();
        }
        Ok(())
    }

    /// Signs what was written for meshes, if this machine does so. The records are written all the same.
    pub(super) fn sign_records(&self) {
        if let Err(error) = self.handle.sign_records() {
            tracing::warn!(%error, "records are not signed for meshes: they are with the next ones");
        }
    }

    fn write(&self, command: Command) -> Result<Vec<Emitted>, ApiError> {
        match self.handle.command(command)? {
            Reply::Emitted(events) => Ok(events),
            other => Err(ApiError::new(ExitCode::Bug, format!("unexpected reply {other:?}"))),
        }
    }

    pub(super) fn decide(&self, decision: Decision) -> Result<Emitted, ApiError> {
        let events = self.write(Command::Decide(decision))?;
        let bug = || ApiError::new(ExitCode::Bug, "a decision gave no event");
        events.into_iter().next().ok_or_else(bug)
    }

    pub(super) fn invite(
        &self,
        role: &str,
        expires_ms: u64,
        uses_max: u64,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let role = role_of(role)?;
        let mut seed = [0; 32];
        fill_random(&mut seed)?;
        let key = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
        let now = self.read(|machine| Ok(machine.driver.clock().now_ms()))?;
        let expires_ms = now.saturating_add(expires_ms);
        let key = NodeKey(key.to_bytes());
        let invitation = Invitation { key, role, expires_ms, uses_max: uses_max.max(1) };
        let event = self.decide(Decision::Invite(invitation))?;
        Ok(sink(json!({
            "uuid": event.id.to_string(),
            "seed": data_encoding::HEXLOWER.encode(&seed),
            "expires_ms": expires_ms,
        }))?)
    }

    pub(super) fn member_add(
        &self,
        node: &str,
        role: &str,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let role = role_of(role)?;
        let text = node.to_owned();
        let node: NodeKey = self.read(move |machine| find_node(machine, &text))?;
        let event = self.decide(Decision::Add { node, role, invite: None })?;
        Ok(sink(member_json(&node, Some(role), &event))?)
    }

    pub(super) fn member_remove(&self, node: &str, sink: Sink<'_>) -> Result<(), ApiError> {
        let text = node.to_owned();
        let node = self.read(move |machine| find_node(machine, &text))?;
        let event = self.decide(Decision::Remove { node })?;
        Ok(sink(member_json(&node, None, &event))?)
    }

    /// Hands this machine's membership over, and its part in the published log.
    pub(super) fn member_replace(&self, node: &str, sink: Sink<'_>) -> Result<(), ApiError> {
        let node: NodeKey = node.parse().map_err(|error| ApiError::misuse(format!("{error}")))?;
        let own = self.node;
        let (domain, role, published) = self.read(move |machine| {
            let domain = machine.driver.node().domain();
            let role = dag(machine)?.authority().role(&own);
            let published = machine.focused(&domain, |machine| {
                machine.driver.node().dag().and_then(|dag| dag.authority().role(&own))
            });
            Ok((domain, role, published.flatten()))
        })?;
        let role = role.unwrap_or(Role::Reader);
        // The published log first: once it is no member, this machine can do nothing.
        if let Some(role) = published {
            let decision = Decision::Replace { node, role };
            self.write_published(domain, Command::Decide(decision))?;
        }
        let event = self.decide(Decision::Replace { node, role })?;
        Ok(sink(member_json(&node, Some(role), &event))?)
    }

    /// Lets the events of a removed member count again, up to one of them.
    pub(super) fn member_readmit(
        &self,
        node: &str,
        upto: &str,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let (node, upto) = (node.to_owned(), upto.to_owned());
        let (node, upto) = self.read(move |machine| {
            let node = find_node(machine, &node)?;
            if let Ok(id) = upto.parse::<EventId>() {
                // It may be held elsewhere.
                return Ok((node, id));
            }
            let ordinal = find_event(machine, &upto)?;
            Ok((node, machine.driver.held().id(machine.driver.log(), ordinal)?))
        })?;
        let event = self.decide(Decision::Readmit { node, upto })?;
        Ok(sink(json!({
            "node": node.to_string(), "upto": upto.to_string(), "uuid": event.id.to_string(),
        }))?)
    }

    pub(super) fn erase(&self, id: &str, reason: String, sink: Sink<'_>) -> Result<(), ApiError> {
        let text = id.to_owned();
        let own = self.node;
        let target = self.read(move |machine| {
            let ordinal = find_event(machine, &text)?;
            let place = machine.driver.held().place(machine.driver.log(), ordinal)?;
            let admin = dag(machine)?.authority().role(&own) == Some(Role::Admin);
            let allowed = admin || place.head.author == own;
            if !allowed || !kind::is_erasable(&place.head.kind) {
                return Err(CommandError::CannotErase(place.id).into());
            }
            Ok(place.id)
        })?;
        let event = self.decide(Decision::Erase { target, reason })?;
        Ok(sink(json!({ "uuid": event.id.to_string(), "target": target.to_string() }))?)
    }

    pub(super) fn sync(
        &self,
        peer: Option<String>,
        addrs: Vec<SocketAddr>,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let peers = match peer {
            Some(text) => vec![(self.read(move |machine| find_node(machine, &text))?, addrs)],
            None => {
                let followed = self.sync_followed(sink)?;
                let peers = self.read(|machine| {
                    let mut peers = machine.book().reachable();
                    for peer in machine.air_peers() {
                        if peers.iter().all(|(known, _)| *known != peer) {
                            peers.push((peer, Vec::new()));
                        }
                    }
                    Ok(peers)
                })?;
                if peers.is_empty() && followed {
                    return Ok(());
                }
                peers
            }
        };
        if peers.is_empty() {
            return Err(ApiError::new(ExitCode::Peer, "no peer is known here")
                .hint("quipu sync TICKET, with a ticket of the other machine"));
        }
        let single = peers.len() == 1;
        let mut failed = None;
        let mut reached = 0;
        for (peer, addrs) in peers {
            match self.handle.sync(peer, addrs.clone(), None) {
                Ok(Reply::Synced { traffic, equal }) => {
                    reached += 1;
                    self.sync_published_with(peer, addrs);
                    sink(synced_json(&peer, &traffic, equal))?;
                }
                Ok(other) => {
                    return Err(ApiError::new(ExitCode::Bug, format!("unexpected {other:?}")));
                }
                Err(error) if single => return Err(error.into()),
                Err(error) => {
                    sink(json!({ "node": peer.to_string(), "unreachable": error.to_string() }))?;
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) if reached == 0 => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// What a sync moved, as JSON.
pub(super) fn synced_json(
    peer: &NodeKey,
    traffic: &quipu_core::sync::session::Traffic,
    equal: bool,
) -> Value {
    json!({
        "node": peer.to_string(),
        "sent_events": traffic.sent_events,
        "received_events": traffic.received_events,
        "bytes_sent": traffic.bytes_sent,
        "bytes_received": traffic.bytes_received,
        "round_trips": traffic.round_trips,
        "equal": equal,
    })
}

pub(super) fn member_json(node: &NodeKey, role: Option<Role>, event: &Emitted) -> Value {
    json!({
        "node": node.to_string(),
        "role": role.map(Role::name),
        "since": event.logseq.to_string(),
        "uuid": event.id.to_string(),
    })
}

pub(super) fn fill_random(bytes: &mut [u8]) -> Result<(), ApiError> {
    getrandom::fill(bytes)
        .map_err(|error| ApiError::new(ExitCode::Storage, format!("no randomness: {error}")))
}
