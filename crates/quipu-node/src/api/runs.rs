//! What the log says of programs: receipts, who wants something run and who works on it (PEL-3 to PEL-9).
//! What runs them is elsewhere; here it asks what is known, and says what it has made.

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::domain::Decision;
use quipu_core::execution::{
    Announcement, Execution, FAILURE_BYTES_MAX, LABELS_MAX, Offer, ROSTER_MAX, RUN_INPUTS_MAX,
    RunRequest, Scope,
};
use quipu_core::id::{ArtifactId, DomainId, EventId, NodeKey, RunKey};
use quipu_core::node::Command;
use quipu_core::statement::{Claim, ENDS_MAX, EdgeKey, EdgeRole, End, Statement, TAG_BYTES_MAX};
use quipu_state::{Said, View};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::at::{event_of, state, with_view};
use super::data::walk_everywhere;
use super::read::{dag, find_node};
use super::{Api, ApiError, Sink};
use crate::service::Machine;

/// The type of the edges from what a run used to its receipt.
pub const USED: &str = "run.used";
/// The type of the edges from a receipt to what the run made.
pub const GENERATED: &str = "run.generated";

/// An artifact that a run made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Made {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// What kind of thing it is.
    #[serde(default)]
    pub type_tag: Option<String>,
}

/// A run, or a step of one, and what came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ran {
    /// Its key: 64 hexadecimal digits.
    pub run: String,
    /// The receipt.
    pub receipt: Made,
    /// Inputs that were made for it: answers to queries.
    #[serde(default)]
    pub answers: Vec<Made>,
    /// Its outputs.
    pub outputs: Vec<Made>,
    /// Keys of what it used.
    pub used: Vec<String>,
    /// The snapshot that its inputs were taken from, if any.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// What this machine did for it: nothing for the whole run, `step` for one step, `assembled` if it put the
    /// receipt together from steps of several machines.
    #[serde(default)]
    pub scope: Option<String>,
}

/// A run that somebody wants others to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wanted {
    /// What the run will be: 64 hexadecimal digits.
    pub run: String,
    /// The program.
    pub program: String,
    /// Its inputs: names and keys.
    pub inputs: BTreeMap<String, String>,
    /// Those of them that were made for it: answers to queries.
    #[serde(default)]
    pub answers: Vec<Made>,
    /// The snapshot that they were taken from.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// How many machines of the roster must run all of it; 0 and 1: its steps may be shared out.
    #[serde(default)]
    pub required: u64,
}

fn scope_of(text: Option<&str>) -> Result<Scope, ApiError> {
    let known = text.map_or(Some(Scope::Run), Scope::of_str);
    known
        .ok_or_else(|| ApiError::misuse("the scope of a receipt is `step`, `assembled` or nothing"))
}

fn artifact(text: &str) -> Result<ArtifactId, ApiError> {
    text.parse().map_err(|error| ApiError::misuse(format!("{error}")))
}

fn run_key(text: &str) -> Result<RunKey, ApiError> {
    text.parse().map_err(|error| ApiError::misuse(format!("{error}")))
}

impl Made {
    fn claim(&self) -> Result<Claim, ApiError> {
        if self.type_tag.as_ref().is_some_and(|tag| tag.is_empty() || tag.len() > TAG_BYTES_MAX) {
            return Err(ApiError::refused(format!("a type has 1 to {TAG_BYTES_MAX} bytes")));
        }
        let (size, type_tag) = (self.size, self.type_tag.clone());
        Ok(Claim { key: artifact(&self.key)?, size, type_tag })
    }
}

/// What is known of a run in this domain and in those that it follows.
#[derive(Debug, Default)]
struct Known {
    /// By receipt: its size, in which domains it is announced, and by whom here.
    receipts: BTreeMap<ArtifactId, Witnesses>,
    claims: Vec<Said>,
}

#[derive(Debug, Default)]
struct Witnesses {
    size: u64,
    domains: BTreeSet<DomainId>,
    /// Those that ran it.
    nodes: BTreeSet<NodeKey>,
    /// Those that put it together.
    assembled: BTreeSet<NodeKey>,
    snapshot: Option<EventId>,
}

impl Known {
    fn of(
        run: &RunKey,
        domains: &[DomainId],
        views: &[View<'_>],
        own: &DomainId,
    ) -> Result<Self, ApiError> {
        let mut known = Known::default();
        for (domain, view) in domains.iter().zip(views) {
            for said in view.work_on(run)? {
                match &said.what {
                    Execution::Announce(one) => known.announced(one, domain, own),
                    Execution::Claim { .. } if domain == own => known.claims.push(said),
                    _ => {}
                }
            }
        }
        Ok(known)
    }

    fn announced(&mut self, one: &Announcement, domain: &DomainId, own: &DomainId) {
        let witnesses = self.receipts.entry(one.receipt).or_default();
        witnesses.size = one.size;
        witnesses.domains.insert(*domain);
        if domain == own {
            let nodes = match one.scope {
                Scope::Run | Scope::Step => &mut witnesses.nodes,
                Scope::Assembled => &mut witnesses.assembled,
            };
            nodes.insert(one.node);
            witnesses.snapshot = witnesses.snapshot.or(one.snapshot);
        }
    }

    fn to_json(
        &self,
        machine: &Machine,
        run: &RunKey,
        roster: &[NodeKey],
    ) -> Result<Value, ApiError> {
        let own = machine.driver.node().domain();
        let mut receipts = Vec::with_capacity(self.receipts.len());
        for (key, witnesses) in &self.receipts {
            let on_roster = |node: &&NodeKey| roster.binary_search(node).is_ok();
            let is_own = witnesses.domains.contains(&own);
            let elsewhere = witnesses.domains.iter().find(|_| !is_own);
            receipts.push(json!({
                "receipt": key.to_string(),
                "size": witnesses.size,
                "nodes": texts(&witnesses.nodes),
                "of_roster": witnesses.nodes.iter().filter(on_roster).count(),
                "assembled": texts(&witnesses.assembled),
                "domain": elsewhere.map(ToString::to_string),
                "snapshot": witnesses.snapshot.map(|snapshot| snapshot.to_string()),
                "have": machine.has_artifact(key)?,
            }));
        }
        let claims: Vec<Value> = self.claims.iter().map(claim_json).collect();
        Ok(json!({
            "run": run.to_string(),
            "receipts": receipts,
            "diverges": self.receipts.len() > 1,
            "claims": claims,
            "roster": roster.len(),
        }))
    }
}

fn texts<T: ToString>(list: impl IntoIterator<Item = T>) -> Vec<String> {
    list.into_iter().map(|one| one.to_string()).collect()
}

impl Api {
    /// What is known of runs, or of steps.
    pub(super) fn known_runs(&self, runs: &[String], sink: Sink<'_>) -> Result<(), ApiError> {
        let runs = runs.iter().map(|run| run_key(run)).collect::<Result<Vec<_>, _>>()?;
        let rows = self.read(move |machine| {
            let own = machine.driver.node().domain();
            let roster = dag(machine)?.authority().roster().to_vec();
            let known: Vec<Known> = walk_everywhere(machine, None, |domains, views| {
                runs.iter().map(|run| Known::of(run, domains, views, &own)).collect()
            })?;
            let rows = known.iter().zip(&runs);
            rows.map(|(known, run)| known.to_json(machine, run, &roster))
                .collect::<Result<Vec<_>, _>>()
        })?;
        rows.into_iter().try_for_each(sink)?;
        Ok(())
    }

    /// Moves what the client has imported to its place, and holds it until the client is gone: a run makes
    /// much before it can say what it is.
    pub(super) fn hold(
        &mut self,
        import: String,
        key: &str,
        size: u64,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let key = artifact(key)?;
        self.handle.call(move |machine| machine.adopt_artifact(&import, &key, size))??;
        self.held.push(key);
        Ok(sink(json!({ "key": key.to_string(), "size": size }))?)
    }

    /// Says what a run made, whose bytes are here: all or nothing.
    pub(super) fn record_run(&self, ran: Ran, sink: Sink<'_>) -> Result<(), ApiError> {
        let run = run_key(&ran.run)?;
        let receipt = ran.receipt.claim()?;
        let claims = |list: &[Made]| list.iter().map(Made::claim).collect::<Result<Vec<_>, _>>();
        let (answers, outputs) = (claims(&ran.answers)?, claims(&ran.outputs)?);
        let used = ran.used.iter().map(|key| artifact(key)).collect::<Result<Vec<_>, _>>()?;
        let (snapshot, scope) = (ran.snapshot.clone(), scope_of(ran.scope.as_deref())?);
        let statements = self.read(move |machine| {
            let snapshot = match &snapshot {
                None => None,
                Some(text) => Some(event_of(machine, text)?),
            };
            let (key, size, node) = (receipt.key, receipt.size, machine.driver.node().key());
            let announcement = Announcement { run, receipt: key, size, node, snapshot, scope };
            let made = Generated { receipt: &receipt, answers: &answers, outputs: &outputs };
            news(machine, &made, &used, announcement)
        })?;
        if !statements.is_empty() {
            self.handle.command(Command::Say(statements))?;
        }
        Ok(sink(json!({ "run": ran.run, "receipt": ran.receipt.key }))?)
    }

    /// The receipts of this domain, in the order of their announcements.
    pub(super) fn receipts(&self, at: Option<String>, sink: Sink<'_>) -> Result<(), ApiError> {
        let rows = self.read(move |machine| {
            let said = with_view(machine, at.as_deref(), |view| Ok(view.announcements()?))?;
            let mut by_run: BTreeMap<RunKey, BTreeSet<ArtifactId>> = BTreeMap::new();
            for (_, one) in &said {
                by_run.entry(one.run).or_default().insert(one.receipt);
            }
            let mut rows = Vec::with_capacity(said.len());
            for (said, one) in said {
                let mut row = receipt_json(&said, &one);
                row["diverges"] = (by_run.get(&one.run).map_or(0, BTreeSet::len) > 1).into();
                row["have"] = machine.has_artifact(&one.receipt)?.into();
                rows.push(row);
            }
            Ok(rows)
        })?;
        rows.into_iter().try_for_each(sink)?;
        Ok(())
    }

    /// Asks for a run by whoever can.
    pub(super) fn request_run(&self, wanted: Wanted, sink: Sink<'_>) -> Result<(), ApiError> {
        if wanted.inputs.len() > RUN_INPUTS_MAX {
            let message = format!("a run of several machines has at most {RUN_INPUTS_MAX} inputs");
            return Err(ApiError::refused(message).hint("run it on one: quipu run PROGRAM"));
        }
        let inputs = wanted
            .inputs
            .iter()
            .map(|(name, key)| Ok((name.clone(), artifact(key)?)))
            .collect::<Result<BTreeMap<_, _>, ApiError>>()?;
        let snapshot = match wanted.snapshot {
            None => None,
            Some(text) => Some(self.read(move |machine| event_of(machine, &text))?),
        };
        let (run, program) = (run_key(&wanted.run)?, artifact(&wanted.program)?);
        let (node, required) = (self.node, wanted.required.max(1));
        let request = RunRequest { run, program, inputs, node, snapshot, required };
        let answers = wanted.answers.iter().map(Made::claim).collect::<Result<Vec<_>, _>>()?;
        let mut statements = self.read(move |machine| {
            let (mut out, mut seen) = (Vec::new(), BTreeSet::new());
            untold(machine, answers.iter(), &mut seen, &mut out)?;
            Ok(out)
        })?;
        statements.push(Statement::Execution(Execution::Request(request)));
        self.handle.command(Command::Say(statements))?;
        Ok(sink(json!({ "run": run.to_string() }))?)
    }

    /// The runs that somebody asked for and that are not done.
    pub(super) fn wanted_runs(&self, sink: Sink<'_>) -> Result<(), ApiError> {
        let rows = self.read(|machine| {
            let roster = dag(machine)?.authority().roster().to_vec();
            let view = state(machine)?.current();
            let mut rows: BTreeMap<RunKey, RunRequest> = BTreeMap::new();
            for request in view.requests()? {
                let of = rows.get(&request.run).map_or(0, |other| other.required);
                if of < request.required && is_wanted(&view, &request, &roster)? {
                    rows.insert(request.run, request);
                }
            }
            Ok(rows)
        })?;
        rows.values().map(request_json).try_for_each(sink)?;
        Ok(())
    }

    /// Says that this machine works on a step, or why it gave up.
    pub(super) fn claim_step(
        &self,
        step: &str,
        mut failed: Option<String>,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let step = run_key(step)?;
        if let Some(failed) = &mut failed {
            failed.truncate(failed.floor_char_boundary(FAILURE_BYTES_MAX));
        }
        let claim = Execution::Claim { step, node: self.node, failed };
        let event = self.say(Statement::Execution(claim))?;
        Ok(sink(json!({ "step": step.to_string(), "uuid": event.id.to_string() }))?)
    }

    /// Says what this machine can run.
    pub(super) fn offer(
        &self,
        memory: u64,
        mut labels: Vec<String>,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        labels.sort_unstable();
        labels.dedup();
        let fits = |label: &String| !label.is_empty() && label.len() <= TAG_BYTES_MAX;
        if labels.len() > LABELS_MAX || !labels.iter().all(fits) {
            let message = format!("at most {LABELS_MAX} labels of 1 to {TAG_BYTES_MAX} bytes");
            return Err(ApiError::refused(message));
        }
        let offer = Offer { node: self.node, memory, labels };
        let row = offer_json(&offer);
        self.say(Statement::Execution(Execution::Offer(offer)))?;
        Ok(sink(row)?)
    }

    /// What the machines offer that are members now.
    pub(super) fn offers(&self, sink: Sink<'_>) -> Result<(), ApiError> {
        let rows = self.read(|machine| {
            let offers = state(machine)?.current().offers()?;
            let authority = dag(machine)?.authority();
            let counts = |one: &&Offer| one.memory > 0 && authority.role(&one.node).is_some();
            Ok(offers.iter().filter(counts).map(offer_json).collect::<Vec<_>>())
        })?;
        rows.into_iter().try_for_each(sink)?;
        Ok(())
    }

    /// Fixes the machines whose receipts count when several are asked for.
    pub(super) fn set_roster(&self, nodes: Vec<String>, sink: Sink<'_>) -> Result<(), ApiError> {
        let mut nodes: Vec<NodeKey> = self.read(move |machine| {
            nodes.iter().map(|text| find_node(machine, text)).collect::<Result<_, _>>()
        })?;
        nodes.sort_unstable();
        nodes.dedup();
        if nodes.len() > ROSTER_MAX {
            return Err(ApiError::refused(format!("a roster has at most {ROSTER_MAX} machines")));
        }
        self.decide(Decision::Roster(nodes))?;
        self.roster(sink)
    }

    /// The machines whose receipts count when several are asked for.
    pub(super) fn roster(&self, sink: Sink<'_>) -> Result<(), ApiError> {
        let nodes = self.read(|machine| Ok(dag(machine)?.authority().roster().to_vec()))?;
        nodes.iter().map(|node| json!({ "node": node.to_string() })).try_for_each(sink)?;
        Ok(())
    }
}

/// Whether a run that was asked for is not done: nobody has a receipt, or too few machines of the roster have
/// the only one.
fn is_wanted(view: &View<'_>, request: &RunRequest, roster: &[NodeKey]) -> Result<bool, ApiError> {
    let mut receipts: BTreeMap<ArtifactId, BTreeSet<NodeKey>> = BTreeMap::new();
    for said in view.work_on(&request.run)? {
        if let Execution::Announce(one) = said.what {
            let witnesses = receipts.entry(one.receipt).or_default();
            if one.scope == Scope::Run && roster.binary_search(&one.node).is_ok() {
                witnesses.insert(one.node);
            }
        }
    }
    let mut all = receipts.values();
    Ok(match (all.next(), all.next()) {
        (None, _) => true,
        (Some(only), None) => request.required > 1 && (only.len() as u64) < request.required,
        // To run it once more settles nothing.
        (Some(_), Some(_)) => false,
    })
}

/// What came of a run.
struct Generated<'a> {
    receipt: &'a Claim,
    answers: &'a [Claim],
    outputs: &'a [Claim],
}

/// What the log does not say yet of a run that is done.
fn news(
    machine: &mut Machine,
    made: &Generated<'_>,
    used: &[ArtifactId],
    announcement: Announcement,
) -> Result<Vec<Statement>, ApiError> {
    // Where others made the outputs, they may be there only, and have said so.
    let elsewhere = announcement.scope == Scope::Assembled;
    let outputs = made.outputs.iter().filter(|_| !elsewhere);
    let all = made.answers.iter().chain(outputs).chain([made.receipt]);
    let (mut out, mut seen) = (Vec::new(), BTreeSet::new());
    untold(machine, all, &mut seen, &mut out)?;
    let view = state(machine)?.current();
    let receipt = announcement.receipt;
    let outputs: Vec<ArtifactId> = made.outputs.iter().map(|claim| claim.key).collect();
    let known: BTreeSet<EdgeKey> =
        view.edges_at(&End::Artifact(receipt))?.into_iter().map(|(edge, _)| edge.key).collect();
    // The receipt of the whole run has the edges, and names each step.
    let has_edges = announcement.scope != Scope::Step;
    for edge in edges(used, &receipt, USED, true).chain(edges(&outputs, &receipt, GENERATED, false))
    {
        if has_edges && !known.contains(&edge) {
            out.push(Statement::Edge(edge, EdgeRole::Both));
        }
    }
    let stands = view.work_on(&announcement.run)?.iter().any(|said| {
        matches!(&said.what, Execution::Announce(one)
            if one.receipt == receipt && one.node == announcement.node && one.scope <= announcement.scope)
    });
    if !stands {
        out.push(Statement::Execution(Execution::Announce(announcement)));
    }
    Ok(out)
}

/// Says of artifacts whose bytes are here what the log does not say yet.
fn untold<'a>(
    machine: &mut Machine,
    claims: impl Iterator<Item = &'a Claim>,
    seen: &mut BTreeSet<ArtifactId>,
    out: &mut Vec<Statement>,
) -> Result<(), ApiError> {
    for claim in claims {
        if machine.artifact_size(&claim.key)? != Some(claim.size) {
            return Err(ApiError::not_found(format!("the bytes of {} are not here", claim.key)));
        }
        let known = state(machine)?.current().artifact(&claim.key)?;
        let known = known.is_some_and(|one| one.counts().is_some_and(|it| it.size == claim.size));
        if !known && seen.insert(claim.key) {
            out.push(Statement::Put(claim.clone()));
        }
    }
    Ok(())
}

/// Edges between a receipt and what its run used or made.
fn edges<'a>(
    keys: &'a [ArtifactId],
    receipt: &'a ArtifactId,
    kind: &'a str,
    to_receipt: bool,
) -> impl Iterator<Item = EdgeKey> + 'a {
    let ends: BTreeSet<End> = keys.iter().copied().map(End::Artifact).collect();
    let ends: Vec<End> = ends.into_iter().collect();
    let chunks: Vec<Vec<End>> = ends.chunks(ENDS_MAX).map(<[End]>::to_vec).collect();
    chunks.into_iter().filter_map(move |ends| {
        let receipt = vec![End::Artifact(*receipt)];
        let (from, to) = if to_receipt { (ends, receipt) } else { (receipt, ends) };
        EdgeKey::new(from, to, kind)
    })
}

fn receipt_json(said: &Said, one: &Announcement) -> Value {
    json!({
        "receipt": one.receipt.to_string(),
        "run": one.run.to_string(),
        "size": one.size,
        "node": one.node.to_string(),
        "snapshot": one.snapshot.map(|snapshot| snapshot.to_string()),
        "logseq": said.logseq.to_string(),
        "uuid": said.id.to_string(),
        "scope": one.scope.as_str().unwrap_or("run"),
    })
}

fn claim_json(said: &Said) -> Value {
    let failed = match &said.what {
        Execution::Claim { failed, .. } => failed.as_deref(),
        _ => None,
    };
    json!({
        "node": said.what.node().to_string(),
        "ms": said.logseq.ms(),
        "uuid": said.id.to_string(),
        "failed": failed,
    })
}

fn request_json(one: &RunRequest) -> Value {
    let inputs: BTreeMap<&String, String> =
        one.inputs.iter().map(|(name, key)| (name, key.to_string())).collect();
    json!({
        "run": one.run.to_string(),
        "program": one.program.to_string(),
        "inputs": inputs,
        "node": one.node.to_string(),
        "snapshot": one.snapshot.map(|snapshot| snapshot.to_string()),
        "required": one.required,
    })
}

fn offer_json(one: &Offer) -> Value {
    json!({ "node": one.node.to_string(), "memory": one.memory, "labels": one.labels })
}
