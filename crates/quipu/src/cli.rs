//! The arguments, as typed. Their doc comments are the help texts.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use quipu_node::ArtifactPolicy;

use crate::meshlog::Shown;

/// A federated, deterministic, append-only store.
///
/// Every machine holds a DAG of signed, hash-linked events. Machines write offline, merge later, and
/// end up identical to the byte.
#[derive(Debug, Parser)]
#[command(name = "quipu", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  quipu demo                                see it all work, in a temporary directory
  quipu init --domain field-team            start a domain here
  quipu emit app.note '{\"text\":\"hello\"}'     append an event
  quipu log                                 all events, in the order that all machines agree on
  quipu serve                               let other machines in; prints a ticket
  quipu join TICKET other-dir               become a member, from another directory or machine

Exit codes: 0 done, 1 a check found a problem, 2 wrong usage, 3 refused input, 4 not found,
5 peer unreachable or access refused, 6 storage, 70 a bug.";

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Directory of the machine. Default: the nearest parent that holds `.quipu`, else the user's
    /// data directory.
    #[arg(long, global = true, env = "QUIPU_DIR", hide_env_values = true, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Print JSON: one object, or one per line for lists.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say less on stderr.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Say more on stderr; twice for still more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// For commands that read: answer as a machine that stopped at this snapshot or event.
    #[arg(long, global = true, value_name = "SNAPSHOT|EVENT")]
    pub(crate) at: Option<String>,
    /// For commands that read: answer from the published log of this domain, instead of the internal log
    /// of this machine's own.
    #[arg(long, global = true, value_name = "DOMAIN")]
    pub(crate) of: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a domain: a node key, the root event, an empty store.
    #[command(
        after_help = "Example:\n  quipu init --domain field-team\n  quipu init notes --domain notes"
    )]
    Init {
        /// Where; default: --dir, else here.
        target: Option<PathBuf>,
        /// What people call the domain.
        #[arg(long, value_name = "NAME")]
        domain: Option<String>,
        /// The most parents an event may name (2 to 128).
        #[arg(long, value_name = "N", default_value_t = 128)]
        parents_max: usize,
        /// Bytes of salt in payload blocks (0 to 32).
        #[arg(long, value_name = "N", default_value_t = 8)]
        salt_bytes: usize,
    },
    /// Show this node: its key, its domain, where it listens.
    Id,
    /// Make a ticket that lets one new machine in.
    #[command(after_help = "Example:\n  quipu invite --role reader --expires 2h")]
    Invite {
        /// What the new machine may do.
        #[arg(long, default_value = "writer")]
        role: RoleArg,
        /// How long the ticket is valid: a number and s, m, h or d.
        #[arg(long, default_value = "7d", value_parser = duration_ms)]
        expires: u64,
        /// How many machines may use it.
        #[arg(long, default_value_t = 1, value_name = "N")]
        uses: u64,
    },
    /// Become a member with a ticket, and fetch everything.
    #[command(
        after_help = "Examples:\n  quipu join quipu1... field-laptop\n  quipu join quipu1... field-laptop --reticulum"
    )]
    Join {
        /// What `quipu serve` or `quipu invite` printed on the other machine.
        ticket: String,
        /// Where; default: --dir, else here.
        target: Option<PathBuf>,
        /// Which artifacts to fetch: all, none, or below:SIZE such as below:10M. Remembered.
        #[arg(long, value_name = "WHICH")]
        artifacts: Option<ArtifactPolicy>,
        /// Take only the state of the latest snapshot now: the machine can answer at once. The
        /// history follows with `quipu serve` or `quipu sync`.
        #[arg(long)]
        snapshot_first: bool,
        #[command(flatten)]
        air: AirArgs,
    },
    /// Change who is a member.
    #[command(subcommand)]
    Member(Member),
    /// List the members.
    Members,
    /// Append an event, or many. They are durable before this prints their ids.
    #[command(after_help = EMIT_EXAMPLES)]
    Emit {
        /// What it says, as a dotted name.
        #[arg(required_unless_present = "batch")]
        kind: Option<String>,
        /// JSON, @FILE, or - for standard input.
        #[arg(conflicts_with = "batch", allow_negative_numbers = true)]
        payload: Option<String>,
        /// A file (or -) with a line {"kind":..,"payload":..} for each event.
        #[arg(long, value_name = "FILE", conflicts_with = "kind")]
        batch: Option<PathBuf>,
    },
    /// Show one event, with all that is needed to check it elsewhere.
    Show {
        /// Its id, or the first 8 characters or more.
        id: String,
    },
    /// List events in replay order, the same on every machine.
    #[command(after_help = "Example:\n  quipu log --kind app.note --limit 20 --reverse")]
    Log {
        /// Only of this kind.
        #[arg(long)]
        kind: Option<String>,
        /// Only by this author: its key, or the first 8 digits or more.
        #[arg(long, value_name = "KEY")]
        author: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// Latest first.
        #[arg(long)]
        reverse: bool,
    },
    /// Where this node stands: events, leaves, digest, peers.
    Status,
    /// The ends of all feeds.
    Frontier,
    /// Run the daemon: sync with peers, answer on a control socket. Prints one JSON line when ready.
    #[command(
        after_help = "Examples:\n  quipu serve --listen 0.0.0.0:7400   # also for other machines\n  quipu serve --reticulum ~/.reticulum --airtime-percent 10"
    )]
    Serve {
        /// Where to listen for peers (UDP). Default: loopback, the port of the last time.
        #[arg(long, value_name = "ADDR:PORT")]
        listen: Vec<SocketAddr>,
        /// Where to put the control socket. Default: in the machine's directory. Clients that were written for
        /// `meshlogd serve` may connect there, too.
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
        /// Where else to serve clients of meshlogd, and only those: a Unix socket. May be given several times.
        #[arg(long, value_name = "PATH")]
        meshlog_unix: Vec<PathBuf>,
        /// The same over TCP. Whoever can connect can write records, so keep to loopback.
        #[arg(long, value_name = "HOST:PORT")]
        meshlog_tcp: Vec<String>,
        /// What clients of meshlogd see as the view.
        #[arg(long, value_name = "WHAT", default_value = "records")]
        meshlog_view: Shown,
        /// Which artifacts to fetch: all, none, or below:SIZE such as below:10M. Remembered.
        #[arg(long, value_name = "WHICH")]
        artifacts: Option<ArtifactPolicy>,
        #[command(flatten)]
        air: AirArgs,
        /// No links over IP networks.
        #[arg(long, requires = "reticulum", conflicts_with = "listen")]
        no_quic: bool,
        /// Also run programs that other machines of the domain ask for.
        #[arg(long)]
        work: bool,
        /// Memory that steps of such programs may take together, in MiB.
        #[arg(long, value_name = "MIB", default_value_t = 1024, requires = "work")]
        work_memory: u64,
        /// Something that this machine has for such steps, by the name that programs ask for it.
        #[arg(long = "work-label", value_name = "LABEL", requires = "work")]
        work_labels: Vec<String>,
    },
    /// Publish artifacts, for other domains to see and to import. That cannot be undone.
    #[command(
        after_help = "Example:\n  quipu publish bafkr4i... --with-lineage\n  quipu publish --snapshot monday"
    )]
    Publish {
        /// Keys of artifacts, or the first 8 characters or more.
        #[arg(required_unless_present = "snapshot", value_name = "KEY")]
        keys: Vec<String>,
        /// Also all artifacts that are visible at this snapshot.
        #[arg(long, value_name = "SNAPSHOT")]
        snapshot: Option<String>,
        /// Also where they come from: the edges that lead to them. What stays internal appears as a
        /// commitment that only this domain can open.
        #[arg(long)]
        with_lineage: bool,
    },
    /// List what this domain published; with --of what another one did.
    Published,
    /// What is published stays published.
    #[command(hide = true)]
    Unpublish {
        /// Keys of artifacts.
        keys: Vec<String>,
    },
    /// Decide who writes to this domain's published log, and who reads it.
    #[command(subcommand)]
    Publisher(PublisherCommand),
    /// Keep another domain's published log from now on.
    #[command(after_help = "Example:\n  quipu follow TICKET   # the follow ticket of quipu serve")]
    Follow {
        /// A ticket of that domain. An invitation in it is not used.
        ticket: String,
    },
    /// List the domains whose published logs are kept here.
    Domains,
    /// Take an artifact that another domain published into this one.
    Import {
        /// The domain: its id or the first 8 characters or more, or its name.
        domain: String,
        /// The artifact's key, or the first 8 characters or more.
        key: String,
    },
    /// Make programs of sources, and look at them.
    #[command(subcommand)]
    Program(ProgramCommand),
    /// Run a program, or answer with the receipt that is known.
    #[command(after_help = RUN_EXAMPLES)]
    Run {
        /// The program; or a receipt whose run is to be made again.
        program: String,
        /// An input of the program.
        #[arg(long = "input", value_name = "NAME=KEY", value_parser = named_key)]
        inputs: Vec<(String, String)>,
        /// The snapshot that the program's queries are about. Default: the present.
        #[arg(long, value_name = "SNAPSHOT")]
        snapshot: Option<String>,
        /// How many machines of the roster must agree before the result counts.
        #[arg(long, value_name = "K", default_value_t = 1)]
        require_receipts: u64,
        /// Run all steps though their results are known.
        #[arg(long)]
        force: bool,
        /// Ask other machines to run it (`quipu serve --work`), each step where its inputs are, and
        /// wait for the receipt.
        #[arg(long, conflicts_with_all = ["force", "threads"])]
        elsewhere: bool,
        /// Tell of each step: where it runs, since when, how many bytes it gave. With --json a line for
        /// each event, and the result as the last line.
        #[arg(long)]
        watch: bool,
        /// How long to wait for them: a number and s, m, h or d.
        #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration_ms)]
        wait: u64,
        /// Run a receipt's program though the inputs are not those of the receipt.
        #[arg(long)]
        recompute: bool,
        /// Steps that run at a time. Default: as many as there are processors.
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        threads: usize,
    },
    /// List the receipts, and those that contradict each other.
    Receipts {
        /// Also receipts of single steps, of runs that several machines shared.
        #[arg(long)]
        steps: bool,
    },
    /// Show a receipt, or check it by running its program again.
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Run again what the receipts are about. Exit code 1 if one is not true.
    #[command(after_help = "Example:\n  quipu audit --snapshot monday --sample 10")]
    Audit {
        /// Those that stand at this snapshot. Default: all.
        #[arg(long, value_name = "SNAPSHOT")]
        snapshot: Option<String>,
        /// Only so many, evenly spread.
        #[arg(long, value_name = "N")]
        sample: Option<usize>,
    },
    /// Show where an artifact came from, across domains: runs with their steps, edges, imports.
    #[command(
        after_help = "Examples:\n  quipu lineage KEY --format dot | dot -Tsvg > lineage.svg\n  \
        quipu lineage KEY --format in-toto > attestation.json"
    )]
    Lineage {
        /// Its key, or the start of it.
        key: String,
        /// What became of it, instead.
        #[arg(long)]
        down: bool,
        /// How.
        #[arg(long, value_name = "FORMAT", default_value = "table")]
        format: LineageFormat,
    },
    /// The machines whose receipts count when several are asked for.
    Roster {
        #[command(subcommand)]
        command: Option<RosterCommand>,
    },
    /// Commitments to what a publication left internal.
    #[command(subcommand)]
    Commitment(CommitmentCommand),
    /// Exchange with a peer once, then stop. Default: with all known peers.
    Sync {
        /// A ticket, or the key of a known node.
        peer: Option<String>,
    },
    /// Carry events and artifacts by file, where there is no network.
    #[command(subcommand)]
    Bundle(Bundle),
    /// Check every hash, signature and index entry.
    Verify {
        /// Write all indexes anew from the events, and say what could not be saved.
        #[arg(long)]
        rebuild: bool,
    },
    /// Write events out for other programs.
    #[command(after_help = "Example:\n  quipu export --format car backup.car")]
    Export {
        /// The format.
        #[arg(long)]
        format: ExportFormat,
        /// Where; default: standard output.
        file: Option<PathBuf>,
    },
    /// Read events in.
    #[command(after_help = "Example:\n  quipu load --format git ~/src/project")]
    Load {
        /// The format.
        #[arg(long, default_value = "ndjson")]
        format: LoadFormat,
        /// The file (- for standard input), or the git repository.
        file: PathBuf,
    },
    /// Print the flow chart of the state machine, from its transition table.
    Flowchart {
        /// The format.
        #[arg(long, default_value = "mermaid")]
        format: ChartFormat,
    },
    /// Three machines write together, apart, and merge: real processes, real sockets.
    Demo {
        /// Keep the directory.
        #[arg(long)]
        keep: bool,
    },
    /// Clocks, forks, gaps, peers: what is wrong, and what to do.
    Doctor,
    /// Erase the payload of an event on every machine. The event itself stays.
    Erase {
        /// The event: its id, or the first 8 characters or more.
        id: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Put files into the domain as artifacts, and print their keys.
    #[command(
        after_help = "Examples:\n  quipu put photo.jpg --type image/jpeg\n  tar c data | quipu put - --type application/x-tar"
    )]
    Put {
        /// The files; - for standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// What kind of thing they are.
        #[arg(long = "type", value_name = "TAG")]
        type_tag: Option<String>,
    },
    /// Write an artifact's bytes out; from a peer, if they are not here.
    #[command(after_help = "Example:\n  quipu get bafkr4ic... -o photo.jpg")]
    Get {
        /// Its key, or the first 8 characters or more.
        key: String,
        /// Where; default: standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Collect the bytes of artifacts that nothing holds. Events stay.
    Gc {
        /// Only say what would go.
        #[arg(long)]
        dry_run: bool,
    },
    /// List the artifacts of the domain.
    Artifacts {
        /// Those that a tombstone hides, too.
        #[arg(long)]
        hidden: bool,
    },
    /// Change the trace graph.
    #[command(subcommand)]
    Edge(EdgeCommand),
    /// List the edges of the trace graph.
    Edges {
        /// Only of this type.
        #[arg(long = "type", value_name = "T")]
        kind: Option<String>,
    },
    /// Walk the trace graph from an artifact or a node.
    #[command(
        after_help = "Examples:\n  quipu trace bafkr4ic... --up --depth 3\n  quipu trace bafkr4ic... --format dot | dot -Tsvg > trace.svg"
    )]
    Trace {
        /// Where to start: a key, or the first 8 characters or more.
        key: String,
        /// Only to what it came from.
        #[arg(long, conflicts_with = "down")]
        up: bool,
        /// Only to what came from it.
        #[arg(long)]
        down: bool,
        /// At most so many edges away.
        #[arg(long, value_name = "N")]
        depth: Option<u32>,
        /// Only edges of this type; may be given several times.
        #[arg(long = "type", value_name = "T")]
        types: Vec<String>,
        /// How to show it.
        #[arg(long, default_value = "table")]
        format: TraceFormat,
    },
    /// Hide an artifact or an edge from now on. History stays.
    Tombstone {
        /// An artifact key, or the event of an edge; the first 8 characters or more will do.
        what: String,
    },
    /// List claims that disagree; exit code 1 if one is undecided.
    #[command(args_conflicts_with_subcommands = true)]
    Conflicts {
        #[command(subcommand)]
        command: Option<ConflictCommand>,
    },
    /// Keep an artifact's bytes from being collected.
    Pin {
        /// The artifact: its key, or the first 8 characters or more.
        key: String,
    },
    /// Let go of an artifact's bytes again.
    Unpin {
        /// The artifact: its key, or the first 8 characters or more.
        key: String,
    },
    /// Make, compare or let go of snapshots.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// List the snapshots.
    Snapshots,
    /// Print everything visible, in replay order: the same bytes on every machine.
    Current,
    /// Fold the log up to a snapshot, and check the snapshot's root.
    #[command(after_help = "Example:\n  quipu replay --snapshot monday --explain > monday.ndjson")]
    Replay {
        /// The snapshot: its id, federated id or name.
        #[arg(long, value_name = "S")]
        snapshot: String,
        /// Say on stderr what was scanned, skipped and merged, and how long it took.
        #[arg(long)]
        explain: bool,
        /// How many shards scan side by side. Never changes the result.
        #[arg(long, value_name = "N", env = "QUIPU_SHARDS", hide_env_values = true)]
        shards: Option<usize>,
    },
    /// For each snapshot, what it applied.
    Provenance {
        /// Only this snapshot.
        #[arg(long, value_name = "S")]
        snapshot: Option<String>,
    },
    /// For each author, the last position and snapshot that are applied here.
    Federation,
    /// Write to a record: what people fill in, field by field, and may change offline.
    #[command(subcommand)]
    Record(RecordCommand),
    /// List the records, the same on every machine.
    #[command(after_help = RECORDS_EXAMPLES)]
    Records {
        /// Only of this form.
        #[arg(long, value_name = "FORM", conflicts_with = "reducer")]
        form: Option<String>,
        /// How to show them. Default: table; json with --json.
        #[arg(long, value_name = "FORMAT")]
        format: Option<RecordFormatArg>,
        /// For geojson: the field that holds a point. Default: whichever looks like one.
        #[arg(long, value_name = "FIELD", conflicts_with_all = ["lat", "lon"])]
        point: Option<String>,
        /// For geojson: the field that holds the latitude.
        #[arg(long, value_name = "FIELD", requires = "lon")]
        lat: Option<String>,
        /// For geojson: the field that holds the longitude.
        #[arg(long, value_name = "FIELD", requires = "lat")]
        lon: Option<String>,
        /// Show tables that this file declares instead: see docs/formats/meshlog.md.
        #[arg(long, value_name = "FILE.toml")]
        reducer: Option<PathBuf>,
    },
    /// Meshes: links over Reticulum; who this machine is to meshlogd, and whose events count.
    #[command(subcommand)]
    Mesh(MeshCommand),
    /// Whole domains of simulated machines in one process: faulty links, disks, clocks and peers.
    #[command(after_help = SIM_EXAMPLES)]
    Sim {
        /// The scenario; default: everything drawn from the seed. `list` lists them.
        #[arg(long, default_value = "random", value_name = "NAME")]
        scenario: String,
        /// Several domains that follow each other, else everything drawn from the seed: `random-domains`.
        #[arg(long, conflicts_with = "scenario")]
        domains: bool,
        /// The first seed.
        #[arg(long, default_value_t = 1, value_name = "N")]
        seed: u64,
        /// How many seeds.
        #[arg(long, default_value_t = 1, value_name = "N")]
        seeds: u64,
        /// Run every seed twice and compare all effects.
        #[arg(long)]
        twice: bool,
        /// Break this on purpose, to see the checkers find it.
        #[arg(long, value_name = "WHAT")]
        sabotage: Option<String>,
    },
    /// Write the command line reference.
    #[command(hide = true)]
    Reference,
}

const RECORDS_EXAMPLES: &str = "\
Examples:
  quipu records --form site
  quipu records --format csv > sites.csv
  quipu records --format geojson --lat north --lon east > sites.geojson
  quipu records --reducer stations.toml
  quipu records --at monday";

#[derive(Debug, Subcommand)]
pub(crate) enum RecordCommand {
    /// Create a record, or change its form.
    #[command(after_help = "Example:\n  quipu record create R-1 site_assessment")]
    Create {
        /// Its id: any text.
        id: String,
        /// What kind of record it is.
        form: String,
    },
    /// Set a field. Of several values the last one counts, by clock.
    #[command(
        after_help = "Examples:\n  quipu record set R-1 people 12\n  quipu record set R-1 house-number 12 --text"
    )]
    Set {
        /// The record.
        id: String,
        /// The field.
        field: String,
        /// JSON if it can be read as JSON, else text.
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Take the value as text in any case.
        #[arg(long)]
        text: bool,
    },
    /// Add a note.
    Note {
        /// The record.
        id: String,
        /// The note.
        #[arg(allow_hyphen_values = true)]
        text: String,
    },
    /// Put a file as an artifact, and attach it to a field.
    #[command(after_help = "Example:\n  quipu record attach R-1 photo bridge.jpg")]
    Attach {
        /// The record.
        id: String,
        /// The field.
        field: String,
        /// The file.
        file: PathBuf,
        /// What it is. Default: by the file's name.
        #[arg(long, value_name = "TYPE")]
        mime: Option<String>,
    },
    /// Show a record.
    Show {
        /// The record.
        id: String,
    },
}

/// How to be on the air.
#[derive(Debug, Args)]
pub(crate) struct AirArgs {
    /// Also link to machines over Reticulum: through a running `rnsd`, or with the interfaces of this
    /// configuration directory. Default: the directory that Reticulum uses.
    #[arg(long, value_name = "CONFIGDIR", num_args = 0..=1)]
    pub(crate) reticulum: Option<Option<PathBuf>>,
    /// The part of each hour that each interface of Reticulum may send, in percent. Default: no limit but
    /// those that Reticulum keeps.
    #[arg(long, value_name = "PERCENT", requires = "reticulum", value_parser = percent)]
    pub(crate) airtime_percent: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MeshCommand {
    /// Interfaces with the air that they used, what waits, who was heard, and how well. Asks the daemon.
    #[command(after_help = "Example:\n  quipu serve --reticulum &\n  quipu mesh status")]
    Status,
    /// Show this machine's Reticulum identity, under whose name its records go to a mesh; make one if there is none.
    #[command(after_help = "Example:\n  quipu mesh identity --signed")]
    Identity {
        /// Sign what goes to meshes. Decided once, when the identity is made.
        #[arg(long)]
        signed: bool,
    },
    /// Decide whose events of meshes count, besides those of authors who are trusted. Takes an admin.
    Policy {
        /// What is done about authors of whom nothing is known.
        policy: MeshPolicyArg,
    },
    /// Trust an author: its events count if this identity signed them. Takes an admin.
    Trust {
        /// The author, as records name it.
        author: String,
        /// The public keys of its identity: 128 hexadecimal digits.
        #[arg(long, value_name = "PUBLIC_KEY")]
        key: String,
    },
    /// Do not trust an author: its events do not count any more. Takes an admin.
    Distrust {
        /// The author.
        author: String,
    },
    /// Show the policy, and who is trusted.
    Roster,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MeshPolicyArg {
    /// They count.
    Open,
    /// They count, and who signs first is trusted from then on.
    FirstUse,
    /// They do not.
    Roster,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordFormatArg {
    /// For people.
    Table,
    /// A line for each record.
    Json,
    /// A column for each field.
    Csv,
    /// For maps.
    Geojson,
}

const SIM_EXAMPLES: &str = "\
Examples:
  quipu sim --scenario list
  quipu sim --seeds 100
  quipu sim --domains --seeds 100
  quipu sim --scenario many-machines
  quipu sim --scenario crashes --seed 7 --twice";

const EMIT_EXAMPLES: &str = "\
Examples:
  quipu emit app.note '{\"text\":\"hello\"}'
  quipu emit photo.meta @photo.json
  quipu emit --batch events.ndjson";

#[derive(Debug, Subcommand)]
pub(crate) enum Member {
    /// Make a machine a member, or change its role.
    Add {
        /// Its key.
        key: String,
        /// What it may do.
        #[arg(long)]
        role: RoleArg,
    },
    /// End a machine's membership. What it writes from now on, or hid until now, counts nowhere.
    Remove {
        /// Its key, or the first 8 digits or more.
        key: String,
    },
    /// Replace this machine's own key by a new one. What it wrote stays; the old key writes nothing any
    /// more. Not while the daemon runs; not for the founder, whose key is in the root event.
    Rotate,
    /// Let events of a removed member count again, up to one of them. It is no member for that.
    Readmit {
        /// Its key, or the first 8 digits or more.
        key: String,
        /// The last event that counts again: its id, or the first 8 characters or more.
        #[arg(long, value_name = "EVENT")]
        up_to: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EdgeCommand {
    /// Add an edge. Ends are artifact keys or node keys.
    #[command(
        after_help = "Example:\n  quipu edge add --from bafkr4ic... --to bafkr4id... --type derived"
    )]
    Add {
        /// Where it comes from.
        #[arg(long, num_args = 1.., required = true, value_name = "KEY")]
        from: Vec<String>,
        /// Where it leads.
        #[arg(long, num_args = 1.., required = true, value_name = "KEY")]
        to: Vec<String>,
        /// Its type.
        #[arg(long = "type", value_name = "T")]
        kind: String,
        /// Which ends carry its meaning.
        #[arg(long, default_value = "both")]
        role: EdgeRoleArg,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum EdgeRoleArg {
    From,
    To,
    Both,
}

impl EdgeRoleArg {
    pub(crate) fn name(self) -> &'static str {
        match self {
            EdgeRoleArg::From => "from",
            EdgeRoleArg::To => "to",
            EdgeRoleArg::Both => "both",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConflictCommand {
    /// Decide for one of the claims, for everybody.
    Resolve {
        /// The conflict: the artifact's key, or the first 8 characters or more.
        id: String,
        /// The claim that counts: its event, its type or its size.
        #[arg(long, value_name = "X")]
        keep: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Name everything up to now, with one hash over the state.
    Create {
        /// What to call it.
        #[arg(long, value_name = "N")]
        name: Option<String>,
    },
    /// Let go of a snapshot: it no longer keeps artifacts from being collected.
    Drop {
        /// Its id, federated id or name.
        snapshot: String,
    },
    /// Show a snapshot, and compute its root anew.
    Show {
        /// Its id, federated id or name.
        snapshot: String,
    },
    /// List where two snapshots differ.
    Diff {
        /// One snapshot.
        before: String,
        /// The other.
        after: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TraceFormat {
    /// For people.
    Table,
    /// One object.
    Json,
    /// For Graphviz.
    Dot,
    /// For Mermaid.
    Mermaid,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bundle {
    /// Write a file with what another machine lacks: events, and the artifacts that they tell of.
    Export {
        /// The bundle.
        file: PathBuf,
        /// What `quipu frontier --json` printed on the other machine. Default: it has nothing.
        #[arg(long = "for", value_name = "TIPS.json")]
        tips: Option<PathBuf>,
        /// Which of the artifacts that these events tell of: all, none, or below:SIZE such as below:10M.
        #[arg(long, value_name = "WHICH", default_value = "all")]
        artifacts: ArtifactPolicy,
        /// Also artifacts that earlier events tell of.
        #[arg(long)]
        all_artifacts: bool,
    },
    /// Read a bundle in.
    Import {
        /// The bundle.
        file: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RoleArg {
    Admin,
    Writer,
    Reader,
}

impl RoleArg {
    pub(crate) fn name(self) -> &'static str {
        match self {
            RoleArg::Admin => "admin",
            RoleArg::Writer => "writer",
            RoleArg::Reader => "reader",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// One event a line, with proofs.
    Ndjson,
    /// CARv1 with all blocks, for IPLD tools.
    Car,
    /// The DAG for Graphviz.
    Dot,
    /// The DAG for Mermaid.
    Mermaid,
    /// The records, a column for each field.
    Csv,
    /// A data file of meshlogd: what other nodes of a mesh can get from here.
    Meshlog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LineageFormat {
    /// Tables.
    Table,
    /// Nodes and edges.
    Json,
    /// For Graphviz.
    Dot,
    /// W3C PROV.
    ProvJson,
    /// An in-toto statement with SLSA provenance, signed by this machine (DSSE).
    InToto,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LoadFormat {
    /// What `export --format ndjson` wrote.
    Ndjson,
    /// What `export --format car` wrote.
    Car,
    /// A repository's history: one event for each commit.
    Git,
    /// A data file of meshlogd: its events enter word for word.
    Meshlog,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ChartFormat {
    Mermaid,
    Dot,
}

/// Percent, in thousandths.
fn percent(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is no percentage above 0 and up to 100, such as 10 or 0.1");
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return Err(wrong());
    }
    let thousandths = format!("{whole}{part:0<3}").parse().map_err(|_| wrong())?;
    if (1..=100_000).contains(&thousandths) { Ok(thousandths) } else { Err(wrong()) }
}

fn duration_ms(text: &str) -> Result<u64, String> {
    let unit = match text.chars().last() {
        Some('s') => 1_000,
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000,
        _ => return Err("a number and s, m, h or d, such as 7d".to_owned()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| "a number first".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "too long".to_owned())
}

const RUN_EXAMPLES: &str = "\
Examples:
  quipu program build count.toml
  quipu run PROGRAM --input text=KEY
  quipu run RECEIPT                     make a recorded run again
  quipu run PROGRAM --input text=KEY --require-receipts 2";

fn named_key(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, key)) if !name.is_empty() && !key.is_empty() => {
            Ok((name.to_owned(), key.to_owned()))
        }
        _ => Err("a name, =, and an artifact's key".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProgramCommand {
    /// Check a source, put its modules and the program as artifacts, and print the program's key.
    #[command(after_help = "Example:\n  quipu program build count.toml")]
    Build {
        /// JSON or TOML. Modules are named by `file:PATH`, from where the source is, or by key.
        file: PathBuf,
        /// Only check it.
        #[arg(long)]
        check: bool,
    },
    /// Show a program.
    Show {
        /// Its key, or the start of it.
        key: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptCommand {
    /// Show what a receipt says.
    Show {
        /// Its key, or the start of it.
        key: String,
    },
    /// Run its program again, from the receipt alone, and compare. Exit code 1 if it is not true.
    Verify {
        /// Its key, or the start of it.
        key: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RosterCommand {
    /// Fix the roster: these machines and no others. Takes an admin.
    Set {
        /// Their keys, or the first 8 digits or more.
        #[arg(required = true)]
        nodes: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PublisherCommand {
    /// Let a machine publish.
    Add {
        /// Its key.
        key: String,
        /// `writer` publishes; `admin` also decides who else does.
        #[arg(long, default_value = "writer")]
        role: RoleArg,
    },
    /// End that. What it published stays published.
    Remove {
        /// Its key, or the first 8 digits or more.
        key: String,
    },
    /// Say who may read: everybody, or only some machines and domains besides this domain's own.
    #[command(group = clap::ArgGroup::new("who").required(true).multiple(true))]
    Access {
        /// Everybody who knows the domain.
        #[arg(long, group = "who", conflicts_with_all = ["nodes", "domains"])]
        open: bool,
        /// These machines.
        #[arg(long, group = "who", value_name = "KEY", num_args = 1..)]
        nodes: Vec<String>,
        /// These domains: the machines that publish for them, which pass it on to their own. This machine
        /// must follow them to know which those are.
        #[arg(long, group = "who", value_name = "DOMAIN", num_args = 1..)]
        domains: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CommitmentCommand {
    /// Show what one of this domain's commitments stands for, to pass on to somebody you trust.
    Open {
        /// `blinded:` and 64 digits.
        commitment: String,
    },
    /// Check what somebody showed you. Exit code 1 if it does not fit.
    Check {
        /// `blinded:` and 64 digits.
        commitment: String,
        /// What it is said to stand for: an artifact key or a node key.
        #[arg(long, value_name = "KEY")]
        end: String,
        /// The random number that was shown with it, 64 digits.
        #[arg(long, value_name = "DIGITS")]
        nonce: String,
    },
}
