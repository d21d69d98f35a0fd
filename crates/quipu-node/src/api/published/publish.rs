//! Publishing: what is internal becomes public, for ever.

use std::collections::{BTreeMap, BTreeSet};

use quipu_artifact::ArtifactStore;
use quipu_core::blind::Commitment;
use quipu_core::blind::receipt::BLINDED_RECEIPT_TYPE;
use quipu_core::domain::Role;
use quipu_core::event::Log;
use quipu_core::execution::{Announcement, Execution, Scope};
use quipu_core::history::History;
use quipu_core::id::{ArtifactId, DomainId, EventId};
use quipu_core::node::{Command, CommandError, Reply};
use quipu_core::statement::{Claim, EdgeKey, EdgeRole, End, Statement};
use quipu_state::{Artifact, Edge, Origin};
use serde_json::{Value, json};

use super::super::at::{state, with_view};
use super::super::data::find_artifact;
use super::super::read::dag;
use super::super::{Api, ApiError, ExitCode, Sink};
use super::intent::intent;
use super::{check_publishable, federated, in_published, openings_of, pinned_in};
use crate::publication::{self, Imports, Lineage, Public, Shown};
use crate::service::{Machine, ServiceError};
use crate::shelf::Owner;

/// The largest receipt or program that is looked into, in bytes: what is read whole, on the daemon's loop.
const RECEIPT_BYTES_MAX: u64 = 64 << 20;
/// How often a snapshot is tried while other events keep arriving.
const SNAPSHOT_TRIES: u32 = 100;

/// An artifact that is to be published.
#[derive(Debug, Clone)]
struct Item {
    claim: Claim,
    origin: Option<Origin>,
    /// The published log has it already.
    there: bool,
    /// The snapshot that the internal log names for it.
    recorded: Option<EventId>,
}

impl Api {
    /// Publishes artifacts: their bytes, what is claimed of them, and on request where they come from.
    pub(in crate::api) fn publish(
        &self,
        keys: Vec<String>,
        snapshot: Option<String>,
        with_lineage: bool,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        self.finish_publication()?;
        let items = self.read(move |machine| items_of(machine, &keys, snapshot.as_deref()))?;
        if items.is_empty() {
            return Err(ApiError::not_found("nothing is visible there that could be published"));
        }
        let domain = self.open_own_published()?;
        self.check_publisher(domain, Role::Writer)?;
        let mut items = self.read(move |machine| compared(machine, domain, items.clone()))?;
        let mut lineage = Lineage::default();
        if with_lineage {
            let of = items.clone();
            let open = self.read(move |machine| open_receipts(machine, domain, &of))?;
            items.extend(open);
            let wanted: Vec<ArtifactId> = items.iter().map(|item| item.claim.key).collect();
            lineage = self.read(move |machine| lineage_of(machine, domain, &wanted))?;
            items.extend(self.stand_ins(&lineage)?);
        }
        let made = self.publish_items(domain, &items, &lineage)?;
        for item in items {
            let Some(snapshot) = item.recorded.or(made) else { continue };
            sink(json!({
                "key": item.claim.key.to_string(),
                "snapshot": snapshot.to_string(),
                "federated_id": federated(domain, snapshot),
                "size": item.claim.size,
                "type_tag": item.claim.type_tag,
                "state": "published",
                "new": !item.there,
            }))?;
        }
        Ok(())
    }

    /// Keeps what stands for receipts, and says so in the internal log: what is published is held there, too.
    fn stand_ins(&self, lineage: &Lineage) -> Result<Vec<Item>, ApiError> {
        let (mut items, mut statements) = (Vec::new(), Vec::new());
        for (receipt, blinded) in &lineage.receipts {
            let bytes = blinded.encode();
            let (key, size) = (ArtifactId::of(&bytes), bytes.len() as u64);
            self.handle.call(move |machine| {
                let store = machine.artifact_store()?.clone();
                let imported = store.import(&bytes[..], &mut |_| ())?;
                machine.adopt_artifact(&imported.name, &key, size)
            })??;
            let claim = Claim { key, size, type_tag: Some(BLINDED_RECEIPT_TYPE.to_owned()) };
            statements.push(Statement::Put(claim.clone()));
            let (from, to) = (vec![End::Artifact(*receipt)], vec![End::Artifact(key)]);
            let edge = EdgeKey::new(from, to, publication::BLINDED);
            statements.extend(edge.map(|edge| Statement::Edge(edge, EdgeRole::Both)));
            items.push(Item { claim, origin: None, there: false, recorded: None });
        }
        if !statements.is_empty() {
            self.handle.command(Command::Say(statements))?;
        }
        for item in &items {
            let key = item.claim.key;
            self.handle.call(move |machine| machine.let_go_of_artifact(&key))?;
        }
        Ok(items)
    }

    /// Writes what is new to the published log, and remembers it in the internal one. Answers the snapshot.
    fn publish_items(
        &self,
        domain: DomainId,
        items: &[Item],
        lineage: &Lineage,
    ) -> Result<Option<EventId>, ApiError> {
        let statements = self.public_statements(domain, items, lineage)?;
        let unrecorded = items.iter().filter(|item| item.recorded.is_none());
        let keys: Vec<ArtifactId> = unrecorded.map(|item| item.claim.key).collect();
        if statements.is_empty() && keys.is_empty() {
            return Ok(None);
        }
        self.note_intent(intent(&keys, lineage))?;
        if !statements.is_empty() {
            self.write_published(domain, Command::Say(statements))?;
        }
        let made = self.public_snapshot(domain)?;
        self.handle.command(Command::Say(publication::records(&keys, lineage, made)))?;
        self.drop_intent()?;
        Ok(Some(made))
    }

    /// What the published log is told. The bytes are the published log's before it tells of them; those of
    /// what it knows already are given to it again, in case that is lost.
    fn public_statements(
        &self,
        domain: DomainId,
        items: &[Item],
        lineage: &Lineage,
    ) -> Result<Vec<Statement>, ApiError> {
        let keys: Vec<ArtifactId> = items.iter().map(|item| item.claim.key).collect();
        let named = lineage.imports.clone();
        let mut imports = self.read(move |machine| {
            let owner = Owner { domain, visibility: Log::Published };
            for key in &keys {
                if !machine.has_artifact(key)? {
                    continue;
                }
                machine.shelf()?.give(key, owner).map_err(|error| {
                    ApiError::new(ExitCode::Storage, format!("artifact {key}: {error}"))
                })?;
            }
            named_imports(machine, domain, &named)
        })?;
        let news: Vec<&Item> = items.iter().filter(|item| !item.there).collect();
        for item in &news {
            if let Some(origin) = item.origin {
                imports.insert(item.claim.key, (item.claim.clone(), origin));
            }
        }
        let puts: Vec<Claim> = news.iter().map(|item| item.claim.clone()).collect();
        let keys: BTreeSet<ArtifactId> = puts.iter().map(|claim| claim.key).collect();
        let mut statements = publication::statements(puts, imports, lineage);
        statements.extend(self.read(move |machine| announcements(machine, &keys))?);
        Ok(statements)
    }

    /// A snapshot of the published log.
    pub(super) fn public_snapshot(&self, domain: DomainId) -> Result<EventId, ApiError> {
        for _ in 0..SNAPSHOT_TRIES {
            self.handle.command_published(domain, Command::Merge)?;
            match self.handle.snapshot(Some(domain), None) {
                Ok(Reply::Emitted(events)) => {
                    let bug = || ApiError::new(ExitCode::Bug, "a snapshot gave no event");
                    return Ok(events.first().ok_or_else(bug)?.id);
                }
                Err(ServiceError::Command(CommandError::MovedOn)) => {}
                Ok(other) => {
                    return Err(ApiError::new(ExitCode::Bug, format!("unexpected {other:?}")));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(ApiError::refused("publications keep arriving faster than a snapshot can be taken")
            .hint("run the same command again"))
    }

    /// What is published: by this domain, or by the one in focus.
    pub(in crate::api) fn published(&self, sink: Sink<'_>) -> Result<(), ApiError> {
        if self.focus.is_some() {
            let rows = self.read(|machine| published_rows(machine, &BTreeSet::new()))?;
            rows.into_iter().try_for_each(sink)?;
            return Ok(());
        }
        let rows = self.read(|machine| {
            let own = machine.driver.node().domain();
            if !machine.keeps_published(&own) {
                return Ok(Vec::new());
            }
            let hidden = hidden_here(machine)?;
            in_published(machine, &own, |machine| published_rows(machine, &hidden))
        })?;
        rows.into_iter().try_for_each(sink)?;
        Ok(())
    }
}

/// What is to be published, as this domain sees it.
fn items_of(
    machine: &mut Machine,
    keys: &[String],
    snapshot: Option<&str>,
) -> Result<Vec<Item>, ApiError> {
    let mut wanted = BTreeMap::new();
    for text in keys {
        let key = find_artifact(machine, text)?;
        let Some(artifact) = state(machine)?.current().artifact(&key)? else {
            return Err(ApiError::not_found(format!("no artifact {key} in this domain"))
                .hint("quipu artifacts; one of another domain: quipu import DOMAIN KEY"));
        };
        wanted.insert(key, artifact);
    }
    if snapshot.is_some() {
        let all = with_view(machine, snapshot, |view| Ok(view.artifacts()?))?;
        wanted.extend(all.into_iter().filter(|(_, artifact)| artifact.is_visible()));
    }
    let mut items = Vec::with_capacity(wanted.len());
    for (key, artifact) in wanted {
        items.push(item_of(machine, &key, &artifact)?);
    }
    Ok(items)
}

fn item_of(machine: &mut Machine, key: &ArtifactId, artifact: &Artifact) -> Result<Item, ApiError> {
    // What stands stands: it may be hidden by now.
    if artifact.published.is_none() {
        check_publishable(artifact)?;
        if !machine.has_artifact(key)? {
            return Err(ApiError::not_found(format!("the bytes of artifact {key} are not here"))
                .hint(format!("quipu get {key}")));
        }
    }
    let counts = artifact.counts().cloned();
    let claim = counts.unwrap_or(Claim { key: *key, size: 0, type_tag: None });
    Ok(Item { claim, origin: artifact.origin(), there: false, recorded: artifact.published })
}

/// Finds out what the published log has already. What it says of an artifact is sealed.
fn compared(
    machine: &mut Machine,
    domain: DomainId,
    mut items: Vec<Item>,
) -> Result<Vec<Item>, ApiError> {
    in_published(machine, &domain, |machine| {
        for item in &mut items {
            let known = state(machine)?.current().artifact(&item.claim.key)?;
            let Some(sealed) = known.as_ref().and_then(Artifact::put_claim) else { continue };
            let hidden = item.claim.size == 0 && item.recorded.is_some();
            if !hidden && *sealed != item.claim {
                return Err(sealed_error(sealed, &item.claim));
            }
            item.claim = sealed.clone();
            item.there = true;
        }
        Ok(items)
    })
}

fn sealed_error(sealed: &Claim, other: &Claim) -> ApiError {
    let tag = |claim: &Claim| claim.type_tag.clone().unwrap_or_else(|| "no type".to_owned());
    ApiError::refused(format!(
        "artifact {} is published as {} of {} bytes, and that cannot be altered to {} of {} bytes",
        sealed.key,
        tag(sealed),
        sealed.size,
        tag(other),
        other.size
    ))
    .hint("quipu published")
}

/// The edges that lead to the keys, and what may be named in public once these are published.
fn above(
    machine: &mut Machine,
    domain: DomainId,
    keys: &[ArtifactId],
) -> Result<(Vec<Edge>, Public), ApiError> {
    let (members, told) = in_published(machine, &domain, |machine| {
        let members = dag(machine)?.members();
        Ok((members, publication::told_in(&state(machine)?.current())?))
    })?;
    let nodes = members.into_iter().map(|member| member.node).collect();
    let view = state(machine)?.current();
    let edges = publication::edges_above(&view, keys)?;
    let public = Public::of(&view, keys, &told, nodes)?;
    Ok((edges, public))
}

/// The receipts in the lineage of what is to be published that are published with it: nothing in them is
/// internal.
fn open_receipts(
    machine: &mut Machine,
    domain: DomainId,
    items: &[Item],
) -> Result<Vec<Item>, ApiError> {
    let keys: Vec<ArtifactId> = items.iter().map(|item| item.claim.key).collect();
    let (edges, public) = above(machine, domain, &keys)?;
    let store = machine.artifact_store()?.clone();
    let receipts = publication::as_they_are(&edges, &public, &mut |key| read_small(&store, key));
    let mut more = Vec::new();
    for key in receipts {
        let Some(artifact) = state(machine)?.current().artifact(&key)? else { continue };
        more.push(item_of(machine, &key, &artifact)?);
    }
    compared(machine, domain, more)
}

/// What is announced of the receipts among the keys. Whoever publishes a receipt vouches for no run of its own.
fn announcements(
    machine: &mut Machine,
    keys: &BTreeSet<ArtifactId>,
) -> Result<Vec<Statement>, ApiError> {
    let node = machine.driver.node().key();
    let said = state(machine)?.current().announcements()?;
    let mut known = BTreeMap::new();
    for (_, one) in said.into_iter().filter(|(_, one)| keys.contains(&one.receipt)) {
        known.insert((one.run, one.receipt), one.size);
    }
    let announce = |((run, receipt), size)| {
        let scope = Scope::Assembled;
        let one = Announcement { run, receipt, size, node, snapshot: None, scope };
        Statement::Execution(Execution::Announce(one))
    };
    Ok(known.into_iter().map(announce).collect())
}

/// The bytes of a receipt or a program, if they are here and good.
fn read_small(store: &ArtifactStore, key: &ArtifactId) -> Option<Vec<u8>> {
    let size = store.size(key).ok().flatten()?;
    let mut bytes = Vec::new();
    (size <= RECEIPT_BYTES_MAX)
        .then(|| store.copy_to(key, &mut bytes, &mut |_| ()).ok())
        .flatten()?;
    Some(bytes)
}

fn lineage_of(
    machine: &mut Machine,
    domain: DomainId,
    keys: &[ArtifactId],
) -> Result<Lineage, ApiError> {
    let (mut edges, public) = above(machine, domain, keys)?;
    let view = state(machine)?.current();
    let (openings, receipts) = (openings_of(&view)?, publication::receipts_behind(&view)?);
    let shown = in_published(machine, &domain, |machine| {
        let open = |one: &Commitment| openings.get(one).map(|one| one.0.end);
        Ok(Shown::of(&state(machine)?.current(), open, &receipts)?)
    })?;
    publication::leave_out_shown(&mut edges, &shown, &public);
    let store = machine.artifact_store()?.clone();
    let mut failed = None;
    let mut read = |key: &ArtifactId| read_small(&store, key);
    let mut lineage = publication::blind(&edges, &public, &mut read, &mut || {
        let mut nonce = [0; 32];
        if let Err(error) = getrandom::fill(&mut nonce) {
            failed = Some(error);
        }
        nonce
    });
    if let Some(error) = failed {
        return Err(ApiError::new(ExitCode::Storage, format!("no randomness: {error}")));
    }
    in_published(machine, &domain, |machine| {
        let view = state(machine)?.current();
        Ok(lineage.leave_out_known(&view)?)
    })?;
    Ok(lineage)
}

/// The artifacts of other domains that lineage names and the published log does not know yet.
fn named_imports(
    machine: &mut Machine,
    domain: DomainId,
    named: &BTreeSet<ArtifactId>,
) -> Result<Imports, ApiError> {
    let mut imports = publication::imports_of(&state(machine)?.current(), named)?;
    in_published(machine, &domain, |machine| {
        let view = state(machine)?.current();
        Ok(publication::leave_out_known_imports(&mut imports, &view)?)
    })?;
    Ok(imports)
}

/// Published artifacts that this domain's CURRENT hides.
fn hidden_here(machine: &mut Machine) -> Result<BTreeSet<ArtifactId>, ApiError> {
    let all = state(machine)?.current().artifacts()?;
    let hidden = all.into_values().filter(|one| one.published.is_some() && !one.is_visible());
    Ok(hidden.map(|one| one.key).collect())
}

fn published_rows(
    machine: &mut Machine,
    hidden: &BTreeSet<ArtifactId>,
) -> Result<Vec<Value>, ApiError> {
    if machine.driver.held().count(Log::Published) == 0 {
        return Ok(Vec::new());
    }
    let domain = machine.driver.node().domain();
    let all = state(machine)?.current().artifacts()?;
    let mut put: Vec<Artifact> = all.into_values().filter(Artifact::is_put).collect();
    put.sort_by_key(|artifact| (artifact.since(), artifact.key));
    let mut rows = Vec::with_capacity(put.len());
    for artifact in put {
        let Some(claim) = artifact.put_claim() else { continue };
        let snapshot = pinned_in(machine, &artifact.key)?;
        let origin = artifact.origin();
        rows.push(json!({
            "key": artifact.key.to_string(),
            "size": claim.size,
            "type_tag": claim.type_tag,
            "state": "published",
            "snapshot": snapshot.map(|snapshot| snapshot.to_string()),
            "federated_id": snapshot.map(|snapshot| federated(domain, snapshot)),
            "have": machine.has_artifact(&artifact.key)?,
            "hidden": hidden.contains(&artifact.key),
            "origin_domain": origin.map(|origin| origin.domain.to_string()),
            "origin_snapshot": origin.map(|origin| origin.snapshot.to_string()),
        }));
    }
    Ok(rows)
}
