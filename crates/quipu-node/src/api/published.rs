//! What is published, by this domain and by others (DOM-1..DOM-9).

mod domains;
mod intent;
mod publish;

pub use domains::check_opening;

use std::collections::BTreeMap;

use quipu_core::blind::{Commitment, Opening};
use quipu_core::domain::{ACCESS_ENTRIES_MAX, Access, Decision, Role};
use quipu_core::id::{ArtifactId, DomainId, EventId, NodeKey, SnapshotId};
use quipu_core::node::{Command, Emitted, Reply};
use quipu_core::statement::Statement;
use quipu_state::{Artifact, View, kind_of};
use serde_json::{Value, json};

use super::at::state;
use super::read::{dag, find_node};
use super::{Api, ApiError, ExitCode, Request, Sink};
use crate::service::Machine;

/// The fewest characters of a domain's id that may stand for it.
const PREFIX_CHARS_MIN: usize = 8;

/// The domain that a text names: its id or the start of it, or its name, among those whose published
/// logs are kept here.
pub(super) fn find_domain(machine: &mut Machine, text: &str) -> Result<DomainId, ApiError> {
    let missing = || {
        ApiError::not_found(format!("no published log of a domain {text} is kept here"))
            .hint("quipu domains, or quipu follow TICKET")
    };
    let kept = machine.published_domains();
    if let Ok(id) = text.parse::<DomainId>() {
        return kept.contains(&id).then_some(id).ok_or_else(missing);
    }
    let mut found = Vec::new();
    for domain in kept {
        let starts = text.len() >= PREFIX_CHARS_MIN && domain.to_string().starts_with(text);
        let name = machine.focused(&domain, |machine| {
            machine.driver.node().dag().map(|dag| dag.parameters().name.clone())
        });
        if starts || name.flatten().as_deref() == Some(text) {
            found.push(domain);
        }
    }
    match found[..] {
        [] => Err(missing()),
        [only] => Ok(only),
        _ => Err(ApiError::misuse(format!("{text} names several domains"))
            .hint("give the domain's id: quipu domains")),
    }
}

/// Asks a question of a published log.
pub(super) fn in_published<R>(
    machine: &mut Machine,
    domain: &DomainId,
    question: impl FnOnce(&mut Machine) -> Result<R, ApiError>,
) -> Result<R, ApiError> {
    machine.focused(domain, question).unwrap_or_else(|| {
        Err(ApiError::not_found(format!("no published log of domain {domain} is kept here"))
            .hint("quipu domains, or quipu follow TICKET"))
    })
}

/// The published snapshot that an artifact is pinned to: the first that has it. In focus.
pub(super) fn pinned_in(
    machine: &mut Machine,
    key: &ArtifactId,
) -> Result<Option<EventId>, ApiError> {
    let snapshots = state(machine)?.snapshots().to_vec();
    for snapshot in snapshots {
        let known = machine.driver.state_at(&snapshot.id)?.artifact(key)?;
        if known.is_some_and(|artifact| artifact.is_put()) {
            return Ok(Some(snapshot.id));
        }
    }
    Ok(None)
}

/// What this domain's commitments stand for, and the snapshots of their publications.
fn openings_of(view: &View<'_>) -> Result<BTreeMap<Commitment, (Opening, EventId)>, ApiError> {
    let mut records = Vec::new();
    view.visit(&mut |entry| {
        if kind_of(entry) == Some(quipu_core::kind::PUBLICATION_RECORD) {
            records.push(*entry);
        }
    })?;
    let mut out = BTreeMap::new();
    for entry in &records {
        if let Some(Statement::Publication { openings, snapshot, .. }) = view.statement(entry)? {
            out.extend(openings.into_iter().map(|one| (one.commitment(), (one, snapshot))));
        }
    }
    Ok(out)
}

/// Names a published snapshot as other domains do.
fn federated(domain: DomainId, local: EventId) -> String {
    SnapshotId { domain, local }.to_string()
}

impl Request {
    /// Whether it makes sense for any log: it reads, or brings in what others wrote.
    fn is_about_any_log(&self) -> bool {
        matches!(
            self,
            Request::Show { .. }
                | Request::Members { .. }
                | Request::Log { .. }
                | Request::Status { .. }
                | Request::Frontier { .. }
                | Request::Locate { .. }
                | Request::BundleExport { .. }
                | Request::ImportPack { .. }
                | Request::ImportEnd
                | Request::Adopt { .. }
                | Request::Fetch { .. }
                | Request::Published
                | Request::Artifacts { .. }
                | Request::Receipts { .. }
                | Request::Edges { .. }
                | Request::Trace(_)
                | Request::Conflicts { .. }
                | Request::Snapshots { .. }
                | Request::SnapshotShow { .. }
                | Request::SnapshotDiff { .. }
                | Request::Current { .. }
                | Request::Replay { .. }
                | Request::Provenance { .. }
                | Request::Federation { .. }
        )
    }
}

impl Api {
    /// Answers a request about the published log of a domain instead of this domain's internal one.
    pub(super) fn of_published(
        &mut self,
        domain: &str,
        request: Request,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        if !request.is_about_any_log() {
            return Err(ApiError::misuse("only reading commands take a domain"));
        }
        let text = domain.to_owned();
        let domain = self.read(move |machine| find_domain(machine, &text))?;
        self.focus = Some(domain);
        let answer = self.answer(request, sink);
        self.focus = None;
        answer
    }

    /// Makes sure that this domain's published log is kept here, and that members keep it, too.
    fn open_own_published(&self) -> Result<DomainId, ApiError> {
        let (domain, known) = self.read(|machine| {
            let domain = machine.driver.node().domain();
            let known = state(machine)?.current().follows()?.contains(&domain);
            machine.keep_published(domain)?;
            Ok((domain, known))
        })?;
        if !known {
            self.say(Statement::Follow(domain))?;
        }
        Ok(domain)
    }

    /// Appends to this domain's published log.
    pub(super) fn write_published(
        &self,
        domain: DomainId,
        command: Command,
    ) -> Result<Vec<Emitted>, ApiError> {
        match self.handle.command_published(domain, command)? {
            Reply::Emitted(events) => Ok(events),
            other => Err(ApiError::new(ExitCode::Bug, format!("unexpected reply {other:?}"))),
        }
    }

    /// Fails unless this machine may write to the published log.
    fn check_publisher(&self, domain: DomainId, needed: Role) -> Result<(), ApiError> {
        let own = self.node;
        self.read(move |machine| {
            let role = in_published(machine, &domain, |machine| {
                let dag = dag(machine).map_err(|_| {
                    ApiError::new(
                        ExitCode::Peer,
                        "this machine has no published log of its domain yet",
                    )
                    .hint("quipu sync: it comes from the founder's machine")
                })?;
                Ok(dag.authority().role(&own))
            })?;
            if role >= Some(needed) {
                return Ok(());
            }
            let message = format!("this machine ({own}) may not write to the published log");
            Err(ApiError::refused(message)
                .hint(format!("on the founder's machine: quipu publisher add {own}")))
        })
    }

    fn decide_published(&self, decision: Decision) -> Result<Emitted, ApiError> {
        let domain = self.open_own_published()?;
        self.check_publisher(domain, Role::Admin)?;
        let events = self.write_published(domain, Command::Decide(decision))?;
        let bug = || ApiError::new(ExitCode::Bug, "a decision gave no event");
        events.into_iter().next().ok_or_else(bug)
    }

    /// Lets a machine write to the published log.
    pub(super) fn publisher_add(
        &self,
        node: &str,
        role: &str,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let role = super::write::role_of(role)?;
        if role == Role::Reader {
            return Err(ApiError::misuse("a publisher is a writer or an admin")
                .hint("who may read: quipu publisher access"));
        }
        let text = node.to_owned();
        let node: NodeKey = self.read(move |machine| find_node(machine, &text))?;
        let event = self.decide_published(Decision::Add { node, role, invite: None })?;
        Ok(sink(super::write::member_json(&node, Some(role), &event))?)
    }

    /// Ends that.
    pub(super) fn publisher_remove(&self, node: &str, sink: Sink<'_>) -> Result<(), ApiError> {
        let text = node.to_owned();
        let node: NodeKey = self.read(move |machine| find_node(machine, &text))?;
        let event = self.decide_published(Decision::Remove { node })?;
        Ok(sink(super::write::member_json(&node, None, &event))?)
    }

    /// Says who may read the published log.
    pub(super) fn publisher_access(
        &self,
        open: bool,
        nodes: Vec<String>,
        domains: Vec<String>,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let entries = nodes.len() + domains.len();
        if entries > ACCESS_ENTRIES_MAX {
            return Err(ApiError::refused(format!(
                "{entries} machines and domains, at most {ACCESS_ENTRIES_MAX} fit"
            )));
        }
        let access = match open {
            true => Access::Open,
            false => self.read(move |machine| {
                let nodes = nodes.iter().map(|text| find_node(machine, text));
                let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
                let domains = domains.iter().map(|text| match text.parse::<DomainId>() {
                    Ok(id) => Ok(id),
                    Err(_) => find_domain(machine, text),
                });
                Ok(Access::only(nodes, domains.collect::<Result<Vec<_>, _>>()?))
            })?,
        };
        let event = self.decide_published(Decision::Access(access.clone()))?;
        let mut row = access_json(&access);
        row["uuid"] = event.id.to_string().into();
        Ok(sink(row)?)
    }
}

fn access_json(access: &Access) -> Value {
    match access {
        Access::Open => json!({ "open": true, "nodes": [], "domains": [] }),
        Access::Only { nodes, domains } => {
            let nodes: Vec<String> = nodes.iter().map(NodeKey::to_string).collect();
            let domains: Vec<String> = domains.iter().map(DomainId::to_string).collect();
            json!({ "open": false, "nodes": nodes, "domains": domains })
        }
    }
}

/// What makes an artifact unfit to be published.
fn check_publishable(artifact: &Artifact) -> Result<(), ApiError> {
    let key = artifact.key;
    if !artifact.is_visible() {
        return Err(ApiError::refused(format!("artifact {key} is hidden by a tombstone"))
            .hint("quipu put FILE brings it back"));
    }
    if artifact.is_undecided() {
        return Err(ApiError::refused(format!("claims about artifact {key} disagree"))
            .hint(format!("quipu conflicts resolve {key} --keep CANDIDATE")));
    }
    Ok(())
}
