//! Following other domains, and importing what they publish.

use std::net::SocketAddr;

use quipu_core::blind::{Commitment, Opening};
use quipu_core::event::Log;
use quipu_core::history::History;
use quipu_core::id::{ArtifactId, DomainId, EventId, NodeKey};
use quipu_core::node::{Command, Reply};
use quipu_core::statement::{Claim, End, Statement};
use quipu_state::Artifact;
use serde_json::{Value, json};

use super::super::at::state;
use super::super::data::{artifact_json, find_artifact};
use super::super::read::dag;
use super::super::{Api, ApiError, Sink};
use super::{find_domain, in_published, openings_of, pinned_in};
use crate::service::Machine;

impl Api {
    /// Keeps the published log of another domain from now on, and gets it.
    pub(in crate::api) fn follow(
        &self,
        domain: &str,
        node: &str,
        addrs: Vec<SocketAddr>,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let misuse = |error: &dyn std::fmt::Display| ApiError::misuse(error.to_string());
        let domain: DomainId = domain.parse().map_err(|error| misuse(&error))?;
        let node: NodeKey = node.parse().map_err(|error| misuse(&error))?;
        let (own, followed) = self.read(move |machine| {
            let own = machine.driver.node().domain();
            let followed = state(machine)?.current().follows()?.contains(&domain);
            Ok((own, followed))
        })?;
        if own == domain {
            return Err(ApiError::refused(format!("{domain} is this machine's own domain"))
                .hint("quipu publish KEY; other domains: quipu domains"));
        }
        let to = addrs.clone();
        self.read(move |machine| {
            machine.keep_published(domain)?;
            machine.note_publisher(domain, node, &to);
            Ok(())
        })?;
        if let Err(error) = self.handle.sync_log(Some(domain), node, addrs, None) {
            let empty = self.read(move |machine| forget_if_empty(machine, domain))?;
            let error = ApiError::from(error);
            return Err(if empty { error.hint("nothing is followed") } else { error });
        }
        if !followed {
            self.say(Statement::Follow(domain))?;
        }
        let row = self.read(move |machine| {
            check_snapshots(machine, &domain)?;
            domain_row(machine, &domain)
        })?;
        Ok(sink(row)?)
    }

    /// Keeps the published log of a domain, of which a bundle came.
    pub(in crate::api) fn keep(&self, domain: &str, sink: Sink<'_>) -> Result<(), ApiError> {
        let domain: DomainId =
            domain.parse().map_err(|error| ApiError::misuse(format!("{error}")))?;
        let followed = self.read(move |machine| {
            let followed = state(machine)?.current().follows()?.contains(&domain);
            machine.keep_published(domain)?;
            Ok(followed)
        })?;
        if !followed {
            self.say(Statement::Follow(domain))?;
        }
        Ok(sink(json!({ "domain": domain.to_string(), "new": !followed }))?)
    }

    /// The domains whose published logs are kept here.
    pub(in crate::api) fn domains(&self, sink: Sink<'_>) -> Result<(), ApiError> {
        let rows = self.read(|machine| {
            let own = machine.driver.node().domain();
            let mut rows = Vec::new();
            if !machine.keeps_published(&own) {
                rows.push(unpublished_row(machine)?);
            }
            for domain in machine.published_domains() {
                rows.push(domain_row(machine, &domain)?);
            }
            // This machine's own comes first.
            rows.sort_by_key(|row| row["own"] != true);
            Ok(rows)
        })?;
        rows.into_iter().try_for_each(sink)?;
        Ok(())
    }

    /// Takes an artifact that another domain published into this one.
    pub(in crate::api) fn import(
        &self,
        domain: &str,
        key: &str,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let (domain, key) = (domain.to_owned(), key.to_owned());
        let (domain, claim, snapshot, known) = self.read(move |machine| {
            let domain = find_domain(machine, &domain)?;
            if domain == machine.driver.node().domain() {
                return Err(
                    ApiError::refused("that is this machine's own domain").hint("quipu artifacts")
                );
            }
            let (claim, snapshot) =
                in_published(machine, &domain, |machine| published_claim(machine, &key))?;
            let home = state(machine)?.current().artifact(&claim.key)?;
            let known = home.is_some_and(|artifact| {
                let ours = artifact.candidates.iter().filter_map(|one| one.origin);
                ours.into_iter().any(|origin| origin.domain == domain)
            });
            Ok((domain, claim, snapshot, known))
        })?;
        let key = claim.key;
        let have = self.import_bytes(domain, key)?;
        let event = match known {
            true => None,
            false => Some(self.say(Statement::Import { claim, domain, snapshot })?),
        };
        let row = self.read(move |machine| {
            let artifact = state(machine)?.current().artifact(&key)?;
            let row = artifact.as_ref().map(|one| artifact_json(Log::Internal, one));
            let mut row = row.unwrap_or_else(|| json!({}));
            row["domain"] = domain.to_string().into();
            row["origin_snapshot"] = snapshot.to_string().into();
            row["have"] = have.into();
            row["new"] = event.is_some().into();
            if let Some(event) = &event {
                row["uuid"] = event.id.to_string().into();
            }
            Ok(row)
        })?;
        Ok(sink(row)?)
    }

    /// Gets the bytes of a published artifact and makes them this domain's, too. Answers whether they
    /// are here: an import without bytes is one all the same.
    pub(in crate::api) fn import_bytes(
        &self,
        domain: DomainId,
        key: ArtifactId,
    ) -> Result<bool, ApiError> {
        if !self.published_bytes(domain, key)? {
            self.fetch_published(domain, key);
        }
        let here = self.published_bytes(domain, key)?;
        if here {
            self.read(move |machine| Ok(machine.own_artifact(&key)?))?;
        }
        Ok(here)
    }

    /// Exchanges the published logs that are kept here with a machine of this domain, as far as it has them.
    pub(in crate::api) fn sync_published_with(&self, peer: NodeKey, addrs: Vec<SocketAddr>) {
        let kept = self.handle.call(|machine| machine.published_domains());
        for domain in kept.unwrap_or_default() {
            let synced = self.handle.sync_log(Some(domain), peer, addrs.clone(), None);
            if let Err(error) = synced {
                tracing::debug!(%domain, %peer, %error, "no published log from there");
            }
        }
    }

    /// Gets what is new in the logs of the domains that this machine follows, from whoever it first
    /// reaches of those who had them before. Answers rows of what moved, and whether anybody was reached.
    pub(in crate::api) fn sync_followed(&self, sink: Sink<'_>) -> Result<bool, ApiError> {
        let kept = self.handle.call(|machine| {
            let own = machine.driver.node().domain();
            let mut kept = machine.published_domains();
            kept.retain(|domain| *domain != own);
            kept.into_iter().map(|domain| (domain, machine.publishers(&domain))).collect::<Vec<_>>()
        })?;
        let mut reached = false;
        for (domain, publishers) in kept {
            for (peer, addrs) in publishers {
                let synced = self.handle.sync_log(Some(domain), peer, addrs, None);
                if let Ok(Reply::Synced { traffic, equal }) = synced {
                    let mut row = super::super::write::synced_json(&peer, &traffic, equal);
                    row["of"] = domain.to_string().into();
                    sink(row)?;
                    reached = true;
                    break;
                }
            }
        }
        Ok(reached)
    }

    fn published_bytes(&self, domain: DomainId, key: ArtifactId) -> Result<bool, ApiError> {
        self.handle.call(move |machine| {
            in_published(machine, &domain, |machine| Ok(machine.has_artifact(&key)?))
        })?
    }

    /// Asks whoever is linked for the published log; else those who are known to have it, one after the
    /// other.
    pub(in crate::api) fn fetch_published(&self, domain: DomainId, key: ArtifactId) {
        if let Ok(Reply::Fetched { .. }) =
            self.handle.command_published(domain, Command::Fetch { key })
        {
            return;
        }
        let publishers = self.handle.call(move |machine| {
            machine.want_published(domain, key);
            machine.publishers(&domain)
        });
        for (peer, addrs) in publishers.unwrap_or_default() {
            let _answer = self.handle.sync_log(Some(domain), peer, addrs, None);
            if self.published_bytes(domain, key).unwrap_or(false) {
                return;
            }
        }
    }

    /// What a commitment stands for: shown by its owner to whom it trusts.
    pub(in crate::api) fn commitment_open(
        &self,
        commitment: &str,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let wanted = parse_commitment(commitment)?;
        self.finish_publication()?;
        let found = self.read(move |machine| {
            let mut openings = openings_of(&state(machine)?.current())?;
            Ok(openings.remove(&wanted))
        })?;
        let (opening, snapshot) = found.ok_or_else(|| {
            ApiError::not_found(format!("this domain made no commitment {wanted}"))
                .hint("commitments stand in published edges: quipu --of DOMAIN edges")
        })?;
        Ok(sink(opening_json(&wanted, &opening, snapshot))?)
    }
}

/// Whether an opening fits a commitment: for those to whom it was shown.
///
/// # Errors
/// If it does not, or something is malformed.
pub fn check_opening(commitment: &str, end: &str, nonce: &str) -> Result<Value, ApiError> {
    let commitment = parse_commitment(commitment)?;
    let end: End = end
        .parse()
        .map_err(|_| ApiError::misuse(format!("{end:?} is no artifact key or node key")))?;
    let wrong = || ApiError::misuse(format!("{nonce:?} is not 64 hexadecimal digits"));
    let nonce = nonce.parse::<NodeKey>().map_err(|_| wrong())?.0;
    let fits = Opening { nonce, end }.commitment() == commitment;
    Ok(json!({ "commitment": commitment.to_string(), "end": end.to_string(), "ok": fits }))
}

fn parse_commitment(text: &str) -> Result<Commitment, ApiError> {
    Commitment::parse(text).ok_or_else(|| {
        ApiError::misuse(format!("{text:?} is no commitment"))
            .hint("blinded: and 64 hexadecimal digits")
    })
}

fn opening_json(commitment: &Commitment, opening: &Opening, snapshot: EventId) -> Value {
    json!({
        "commitment": commitment.to_string(),
        "end": opening.end.to_string(),
        "nonce": NodeKey(opening.nonce).to_string(),
        "snapshot": snapshot.to_string(),
    })
}

/// What the published log in focus claims of an artifact, and the snapshot that it is pinned to.
fn published_claim(machine: &mut Machine, text: &str) -> Result<(Claim, EventId), ApiError> {
    let domain = machine.driver.node().domain();
    let key = find_artifact(machine, text)?;
    // The same answer for what is internal there and for what does not exist.
    let missing = || {
        ApiError::not_found(format!("domain {domain} has published no artifact {key}"))
            .hint("quipu --of DOMAIN artifacts; quipu follow TICKET gets what is new")
    };
    let artifact = state(machine)?.current().artifact(&key)?;
    let claim = artifact.as_ref().and_then(Artifact::put_claim).cloned().ok_or_else(missing)?;
    let snapshot = pinned_in(machine, &key)?.ok_or_else(missing)?;
    check_snapshot(machine, &snapshot)?;
    Ok((claim, snapshot))
}

/// Replays a published snapshot, in focus, and compares the state root.
fn check_snapshot(machine: &mut Machine, snapshot: &EventId) -> Result<(), ApiError> {
    let held = machine.driver.held();
    let missing = || ApiError::not_found(format!("no snapshot {snapshot}"));
    let ordinal = held.find(Log::Published, snapshot)?.ok_or_else(missing)?;
    let event = held.event(Log::Published, ordinal)?;
    let Some(Statement::Snapshot { root, .. }) = Statement::of_event(&event) else {
        return Err(missing());
    };
    if machine.driver.state_at(snapshot)?.root() == root {
        return Ok(());
    }
    let author = event.header.author;
    Err(ApiError::refused(format!(
        "published snapshot {snapshot} by {author} names a state root that its log does not give"
    ))
    .hint("tell the domain: its publisher's machine is at fault, or lies"))
}

/// Replays all published snapshots of a domain.
fn check_snapshots(machine: &mut Machine, domain: &DomainId) -> Result<(), ApiError> {
    in_published(machine, domain, |machine| {
        let snapshots = state(machine)?.snapshots().to_vec();
        snapshots.iter().try_for_each(|snapshot| check_snapshot(machine, &snapshot.id))
    })
}

fn forget_if_empty(machine: &mut Machine, domain: DomainId) -> Result<bool, ApiError> {
    let held = machine
        .focused(&domain, |machine| machine.driver.held().count(Log::Published))
        .unwrap_or_default();
    if held == 0 {
        machine.drop_published(&domain);
    }
    Ok(held == 0)
}

fn domain_row(machine: &mut Machine, domain: &DomainId) -> Result<Value, ApiError> {
    let own = *domain == machine.driver.node().domain();
    in_published(machine, domain, |machine| {
        let digest = machine.driver.node_mut().digest();
        let waiting = machine.driver.held().store().is_none();
        if waiting {
            return Ok(json!({
                "domain": domain.to_string(), "name": null, "own": own, "events": 0,
                "digest": digest.to_string(), "snapshots": 0, "artifacts": 0,
            }));
        }
        let artifacts = state(machine)?.current().artifacts()?;
        let snapshots = state(machine)?.snapshots().len();
        let dag = dag(machine)?;
        Ok(json!({
            "domain": domain.to_string(),
            "name": dag.parameters().name,
            "own": own,
            "events": dag.event_count(),
            "digest": digest.to_string(),
            "snapshots": snapshots,
            "artifacts": artifacts.values().filter(|one| one.is_put()).count(),
            "access": super::access_json(dag.authority().access()),
            "publishers": dag.members().iter().map(|m| m.node.to_string()).collect::<Vec<_>>(),
        }))
    })
}

/// This machine's own domain, when nothing of it was ever published.
fn unpublished_row(machine: &Machine) -> Result<Value, ApiError> {
    let node = machine.driver.node();
    Ok(json!({
        "domain": node.domain().to_string(),
        "name": dag(machine)?.parameters().name,
        "own": true,
        "events": 0,
        "digest": quipu_core::dag::digest_of(&[]).to_string(),
        "snapshots": 0,
        "artifacts": 0,
    }))
}
