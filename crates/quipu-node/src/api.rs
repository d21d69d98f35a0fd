//! The requests that a machine answers, for the command line and for programs on its socket.
//!
//! One request gives a row of JSON objects, then an end. Long rows are read in pieces, so that the
//! machine goes on with its work in between.

mod artifacts;
mod at;
mod carry;
mod current;
mod data;
mod error;
mod mesh;
mod mesh_files;
mod published;
mod read;
mod records;
mod runs;
mod snapshots;
mod write;

use std::net::SocketAddr;

use quipu_core::id::{ArtifactId, DomainId, NodeKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use carry::Importer;
pub use error::{ApiError, ExitCode, artifact_error};
pub use published::check_opening;
pub(crate) use read::nothing_held;
pub use records::{RecordFormat, RecordQuery, text_of};
pub use runs::{GENERATED, Made, Ran, USED, Wanted};
pub use write::check_event;

use crate::service::Handle;

/// A request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", rename_all = "snake_case")]
pub enum Request {
    /// This node.
    Id,
    /// A ticket's invitation; answers with the seed of its key.
    Invite {
        /// Role of whoever uses it.
        role: String,
        /// How long it is valid.
        expires_ms: u64,
        /// How many machines may use it.
        uses_max: u64,
    },
    /// Makes a machine a member.
    MemberAdd {
        /// Its key.
        node: String,
        /// Its role.
        role: String,
    },
    /// Ends a machine's membership.
    MemberRemove {
        /// Its key, or the start of it.
        node: String,
    },
    /// Hands this machine's membership over to another key.
    MemberReplace {
        /// That key.
        node: String,
    },
    /// Lets events of a removed member count again.
    MemberReadmit {
        /// The member's key, or the start of it.
        node: String,
        /// The last of its events that counts again, or the start of its id.
        upto: String,
    },
    /// The members.
    Members {
        /// As of this snapshot or event.
        #[serde(default)]
        at: Option<String>,
    },
    /// Appends events.
    Emit {
        /// The events.
        events: Vec<NewEvent>,
    },
    /// One event.
    Show {
        /// Its id, or the start of it.
        id: String,
    },
    /// Events in replay order.
    Log {
        /// Only of this kind.
        #[serde(default)]
        kind: Option<String>,
        /// Only by this author, or the start of its key.
        #[serde(default)]
        author: Option<String>,
        /// At most so many.
        #[serde(default)]
        limit: Option<u64>,
        /// Latest first.
        #[serde(default)]
        reverse: bool,
        /// With proofs.
        #[serde(default)]
        proof: bool,
        /// As of this snapshot or event.
        #[serde(default)]
        at: Option<String>,
    },
    /// Where this node stands.
    Status {
        /// As of this snapshot or event.
        #[serde(default)]
        at: Option<String>,
    },
    /// Feed tips.
    Frontier {
        /// As of this snapshot or event.
        #[serde(default)]
        at: Option<String>,
    },
    /// Tells the domain of an artifact that the client has imported into the machine's directory.
    Put {
        /// The name of the import.
        import: String,
        /// Its key.
        key: String,
        /// Its size in bytes.
        size: u64,
        /// What kind of thing it is.
        #[serde(default)]
        type_tag: Option<String>,
    },
    /// What is known of an artifact, and whether its bytes are here.
    Locate {
        /// Its key, or the start of it.
        key: String,
    },
    /// Gets an artifact's bytes from peers, if they are not here.
    Fetch {
        /// Its key, or the start of it.
        key: String,
    },
    /// Removes the bytes of artifacts that nothing holds.
    Gc {
        /// Only say what would go.
        #[serde(default)]
        dry_run: bool,
    },
    /// The artifacts that the log tells of.
    Artifacts {
        /// As of this snapshot or event.
        #[serde(default)]
        at: Option<String>,
        /// Those that a tombstone hides, too.
        #[serde(default)]
        hidden: bool,
    },
    /// Adds an edge to the trace graph.
    EdgeAdd {
        /// Artifact keys or node keys, or the start of them.
        from: Vec<String>,
        /// The same.
        to: Vec<String>,
        /// Its type.
        #[serde(rename = "type")]
        kind: String,
        /// `from`, `to` or `both`.
        role: String,
    },
    /// The edges.
    Edges {
        /// As of this snapshot or event.
        #[serde(default)]
        at: Option<String>,
        /// Only of this type.
        #[serde(default, rename = "type")]
        kind: Option<String>,
    },
    /// Walks the trace graph.
    Trace(TraceQuery),
    /// Shadows an artifact or an edge.
    Tombstone {
        /// An artifact key, or the id of an edge's event, or the start of it.
        what: String,
    },
    /// Claims that disagree.
    Conflicts {
        /// As of this snapshot or event.
        #[serde(default)]
        at: Option<String>,
    },
    /// Decides a conflict.
    ConflictResolve {
        /// The artifact.
        id: String,
        /// The candidate: its event, its type or its size.
        keep: String,
    },
    /// Keeps an artifact's bytes from being collected, or lets go of them.
    Pin {
        /// The artifact.
        key: String,
        /// Whether it is held from now on.
        held: bool,
    },
    /// Appends a snapshot.
    SnapshotCreate {
        /// What people call it.
        #[serde(default)]
        name: Option<String>,
    },
    /// Lets go of a snapshot.
    SnapshotDrop {
        /// Its id, federated id or name.
        id: String,
    },
    /// The snapshots.
    Snapshots {
        /// As of this snapshot or event.
        #[serde(default)]
        at: Option<String>,
    },
    /// One snapshot, with its root computed anew.
    SnapshotShow {
        /// Its id, federated id or name.
        id: String,
    },
    /// Where the states at two snapshots differ.
    SnapshotDiff {
        /// One.
        before: String,
        /// The other.
        after: String,
    },
    /// The fold.
    Current {
        /// As of this snapshot or event.
        #[serde(default)]
        at: Option<String>,
    },
    /// The fold of a snapshot's cut, from the log; at the end a report about it.
    Replay {
        /// Its id, federated id or name.
        snapshot: String,
        /// How many shards scan side by side.
        #[serde(default)]
        shards: Option<usize>,
    },
    /// What each snapshot applied.
    Provenance {
        /// Only this one.
        #[serde(default)]
        snapshot: Option<String>,
    },
    /// What is applied of each author.
    Federation {
        /// As of this snapshot or event.
        #[serde(default)]
        at: Option<String>,
    },
    /// A request about the published log of a domain.
    In {
        /// The domain: its id or the start of it, or its name.
        domain: String,
        /// The request: one that only reads.
        request: Box<Request>,
    },
    /// Publishes artifacts.
    Publish {
        /// Their keys, or the start of them.
        keys: Vec<String>,
        /// Also all that are visible at this snapshot.
        #[serde(default)]
        snapshot: Option<String>,
        /// With the edges that lead to them.
        #[serde(default)]
        with_lineage: bool,
    },
    /// What this domain published.
    Published,
    /// Lets a machine write to the published log.
    PublisherAdd {
        /// Its key.
        node: String,
        /// `writer`, or `admin` for one that decides about the published log.
        role: String,
    },
    /// Ends that.
    PublisherRemove {
        /// Its key, or the start of it.
        node: String,
    },
    /// Says who may read the published log.
    PublisherAccess {
        /// Everybody.
        #[serde(default)]
        open: bool,
        /// If not: these machines.
        #[serde(default)]
        nodes: Vec<String>,
        /// And these domains: ids, or names of domains that are followed.
        #[serde(default)]
        domains: Vec<String>,
    },
    /// Keeps the published log of another domain.
    Follow {
        /// The domain.
        domain: String,
        /// A machine that has it.
        node: String,
        /// Where that machine is.
        addrs: Vec<SocketAddr>,
    },
    /// The domains whose published logs are kept here.
    Domains,
    /// Takes a published artifact into this domain.
    Import {
        /// The domain that published it.
        domain: String,
        /// Its key, or the start of it.
        key: String,
    },
    /// What a commitment of this domain stands for.
    CommitmentOpen {
        /// The commitment.
        commitment: String,
    },
    /// What is known of runs, or of steps: their receipts and who works on them.
    KnownRuns {
        /// Their keys, 64 hexadecimal digits each.
        runs: Vec<String>,
    },
    /// Moves what the client has imported into the machine's directory to its place, and holds it as long as the
    /// client stays connected.
    Hold {
        /// The name of the import.
        import: String,
        /// Its key.
        key: String,
        /// Its size in bytes.
        size: u64,
    },
    /// Announces a run and what it made, whose bytes are here.
    RecordRun(Ran),
    /// The receipts that were announced.
    Receipts {
        /// As of this snapshot or event.
        #[serde(default)]
        at: Option<String>,
    },
    /// Asks for a program to be run, by whoever can.
    RequestRun(Wanted),
    /// The runs that were asked for and are not done.
    WantedRuns,
    /// Says that this machine works on a step, or on a run as a whole.
    ClaimStep {
        /// Its key.
        step: String,
        /// Why it came to nothing here, and would again.
        #[serde(default)]
        failed: Option<String>,
    },
    /// Says what this machine can run.
    Offer {
        /// Bytes of memory that a step may take; 0 withdraws the offer.
        memory: u64,
        /// What it has besides.
        #[serde(default)]
        labels: Vec<String>,
    },
    /// What machines offer.
    Offers,
    /// The machines whose receipts count when several are asked for.
    Roster,
    /// Fixes them.
    RosterSet {
        /// Their keys, or the start of them.
        nodes: Vec<String>,
    },
    /// The records.
    Records(RecordQuery),
    /// One record.
    RecordShow {
        /// Its `record_id`.
        id: String,
        /// As of this snapshot or event.
        #[serde(default)]
        at: Option<String>,
    },
    /// Takes events of a mesh into this domain, word for word.
    MeshImport {
        /// Each as a line of a data file of meshlogd.
        lines: Vec<String>,
    },
    /// Everything of meshes, as pieces of `text` of a data file of meshlogd; then how much it is.
    MeshExport {
        /// As of this snapshot or event.
        #[serde(default)]
        at: Option<String>,
    },
    /// This machine's identity in meshes.
    MeshIdentity {
        /// Makes one if there is none, in the machine's directory and in the log.
        #[serde(default)]
        make: bool,
        /// Whether what goes to meshes is signed.
        #[serde(default)]
        signed: bool,
    },
    /// Whose events of meshes count: the policy, and what is known of authors.
    MeshTrusted,
    /// Decides what is done about authors of whom nothing is known.
    MeshPolicy {
        /// `open`, `first-use` or `roster`.
        policy: String,
    },
    /// Trusts an author in meshes, or not any more.
    MeshTrust {
        /// The author.
        author: String,
        /// The public keys of the identity that has to sign, 128 hexadecimal digits; none for one that is not trusted.
        #[serde(default)]
        public_key: Option<String>,
    },
    /// Exchanges with a peer, or with all known ones.
    Sync {
        /// A key with addresses; none for all known.
        #[serde(default)]
        peer: Option<String>,
        /// Where the peer is.
        #[serde(default)]
        addrs: Vec<SocketAddr>,
    },
    /// Checks everything.
    Verify,
    /// What is wrong and what to do.
    Doctor,
    /// Interfaces, airtime and peers of links over the air.
    MeshStatus,
    /// Erases a payload everywhere.
    Erase {
        /// The event, or the start of its id.
        id: String,
        /// Why.
        reason: String,
    },
    /// Packed events that another machine lacks.
    BundleExport {
        /// Feed tips of the other machine; nothing for everything.
        #[serde(default)]
        tips: Vec<Tip>,
        /// All artifacts that are visible, not just those that the events tell of.
        #[serde(default)]
        all_artifacts: bool,
    },
    /// Takes an artifact that came in a bundle and that the client has imported into the machine's
    /// directory, if the log tells of it.
    Adopt {
        /// The name of the import.
        import: String,
        /// Its key.
        key: String,
        /// Its size in bytes.
        size: u64,
    },
    /// Keeps the published log of a domain, of which a bundle came.
    Keep {
        /// The domain.
        domain: String,
    },
    /// Packed events from a bundle; a piece of it.
    ImportPack {
        /// A packed batch, in base64.
        packed: String,
    },
    /// The end of an import.
    ImportEnd,
    /// Ends the daemon.
    Shutdown,
}

/// What to walk of the trace graph.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TraceQuery {
    /// Where to start: an artifact key or a node key, or the start of it.
    pub key: String,
    /// `up`, `down` or `both`; nothing is `both`.
    #[serde(default)]
    pub direction: Option<String>,
    /// At most so many edges away; nothing is any number.
    #[serde(default)]
    pub depth: Option<u32>,
    /// Only edges of these types.
    #[serde(default)]
    pub types: Vec<String>,
    /// As of this snapshot or event.
    #[serde(default)]
    pub at: Option<String>,
}

/// An event to append.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewEvent {
    /// What it says.
    pub kind: String,
    /// Its payload, as JSON text: parsed once, strictly.
    #[serde(default)]
    pub payload: Option<Box<serde_json::value::RawValue>>,
}

/// A feed tip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// The author.
    pub author: String,
    /// Place in the feed.
    pub seq: u64,
    /// The event.
    pub id: String,
}

/// Where answers go. An error ends the request: the client is gone.
pub type Sink<'a> = &'a mut dyn FnMut(Value) -> std::io::Result<()>;

/// Answers requests of one client.
#[derive(Debug)]
pub struct Api {
    handle: Handle,
    node: NodeKey,
    importer: Importer,
    /// The domain whose published log is asked about; else this domain's internal log.
    focus: Option<DomainId>,
    /// Artifacts that are held for this client.
    held: Vec<ArtifactId>,
}

impl Drop for Api {
    fn drop(&mut self) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            // If the machine has stopped it holds nothing any more.
            let _ = self.handle.call(move |machine| {
                held.iter().for_each(|key| machine.let_go_of_artifact(key));
            });
        }
    }
}

impl Api {
    /// For one client of a machine.
    ///
    /// # Errors
    /// If the machine has stopped.
    pub fn new(handle: Handle) -> Result<Self, ApiError> {
        let node = handle.call(|machine| machine.driver.node().key())?;
        Ok(Self { handle, node, importer: Importer::default(), focus: None, held: Vec::new() })
    }

    /// Answers a request.
    ///
    /// # Errors
    /// Why there is no (complete) answer.
    pub fn answer(&mut self, request: Request, sink: Sink<'_>) -> Result<(), ApiError> {
        match request {
            Request::Id => self.id(sink),
            Request::Invite { role, expires_ms, uses_max } => {
                self.invite(&role, expires_ms, uses_max, sink)
            }
            Request::MemberAdd { node, role } => self.member_add(&node, &role, sink),
            Request::MemberRemove { node } => self.member_remove(&node, sink),
            Request::MemberReplace { node } => self.member_replace(&node, sink),
            Request::MemberReadmit { node, upto } => self.member_readmit(&node, &upto, sink),
            Request::Members { at } => self.members(at, sink),
            Request::Emit { events } => self.emit(events, sink),
            Request::Show { id } => self.show(&id, sink),
            Request::Log { kind, author, limit, reverse, proof, at } => {
                let wanted = read::LogQuery { kind, author, limit, reverse, proof, at };
                self.log(wanted, sink)
            }
            Request::Status { at } => self.status(at, sink),
            Request::Frontier { at } => self.frontier(at, sink),
            Request::Put { import, key, size, type_tag } => {
                self.put(&import, &key, size, type_tag, sink)
            }
            Request::Locate { key } => self.locate(&key, sink),
            Request::Fetch { key } => self.fetch(&key, sink),
            Request::Gc { dry_run } => self.gc(dry_run, sink),
            Request::Artifacts { at, hidden } => self.artifacts(at, hidden, sink),
            Request::EdgeAdd { from, to, kind, role } => {
                self.edge_add(from, to, &kind, &role, sink)
            }
            Request::Edges { at, kind } => self.edges(at, kind, sink),
            Request::Trace(query) => self.trace(query, sink),
            Request::Tombstone { what } => self.tombstone(&what, sink),
            Request::Conflicts { at } => self.conflicts(at, sink),
            Request::ConflictResolve { id, keep } => self.resolve(&id, &keep, sink),
            Request::Pin { key, held } => self.pin(&key, held, sink),
            Request::SnapshotCreate { name } => self.snapshot_create(name, sink),
            Request::SnapshotDrop { id } => self.snapshot_drop(&id, sink),
            Request::Snapshots { at } => self.snapshots(at, sink),
            Request::SnapshotShow { id } => self.snapshot_show(&id, sink),
            Request::SnapshotDiff { before, after } => self.snapshot_diff(&before, &after, sink),
            Request::Current { at } => self.current(at, sink),
            Request::Replay { snapshot, shards } => self.replay(&snapshot, shards, sink),
            Request::Provenance { snapshot } => self.provenance(snapshot, sink),
            Request::Federation { at } => self.federation(at, sink),
            Request::In { domain, request } => self.of_published(&domain, *request, sink),
            Request::Publish { keys, snapshot, with_lineage } => {
                self.publish(keys, snapshot, with_lineage, sink)
            }
            Request::Published => self.published(sink),
            Request::PublisherAdd { node, role } => self.publisher_add(&node, &role, sink),
            Request::PublisherRemove { node } => self.publisher_remove(&node, sink),
            Request::PublisherAccess { open, nodes, domains } => {
                self.publisher_access(open, nodes, domains, sink)
            }
            Request::Follow { domain, node, addrs } => self.follow(&domain, &node, addrs, sink),
            Request::Domains => self.domains(sink),
            Request::Import { domain, key } => self.import(&domain, &key, sink),
            Request::CommitmentOpen { commitment } => self.commitment_open(&commitment, sink),
            Request::KnownRuns { runs } => self.known_runs(&runs, sink),
            Request::Hold { import, key, size } => self.hold(import, &key, size, sink),
            Request::RecordRun(ran) => self.record_run(ran, sink),
            Request::Receipts { at } => self.receipts(at, sink),
            Request::RequestRun(wanted) => self.request_run(wanted, sink),
            Request::WantedRuns => self.wanted_runs(sink),
            Request::ClaimStep { step, failed } => self.claim_step(&step, failed, sink),
            Request::Offer { memory, labels } => self.offer(memory, labels, sink),
            Request::Offers => self.offers(sink),
            Request::Roster => self.roster(sink),
            Request::RosterSet { nodes } => self.set_roster(nodes, sink),
            Request::Records(query) => self.records(&query, sink),
            Request::RecordShow { id, at } => self.record_show(&id, at, sink),
            Request::MeshImport { lines } => self.mesh_import(&lines, sink),
            Request::MeshExport { at } => self.mesh_export(at.as_deref(), sink),
            Request::MeshIdentity { make, signed } => self.mesh_identity(make, signed, sink),
            Request::MeshTrusted => self.mesh_trusted(sink),
            Request::MeshPolicy { policy } => self.mesh_policy(&policy, sink),
            Request::MeshTrust { author, public_key } => {
                self.mesh_trust(author, public_key.as_deref(), sink)
            }
            Request::Sync { peer, addrs } => self.sync(peer, addrs, sink),
            Request::Verify => self.verify(sink),
            Request::Doctor => self.doctor(sink),
            Request::MeshStatus => self.mesh_status(sink),
            Request::Erase { id, reason } => self.erase(&id, reason, sink),
            Request::BundleExport { tips, all_artifacts } => {
                self.bundle_export(&tips, all_artifacts, sink)
            }
            Request::Adopt { import, key, size } => self.adopt(&import, &key, size, sink),
            Request::Keep { domain } => self.keep(&domain, sink),
            Request::ImportPack { packed } => self.import_pack(&packed, sink),
            Request::ImportEnd => self.import_end(sink),
            Request::Shutdown => Err(ApiError::misuse("no daemon runs here")),
        }
    }
}
