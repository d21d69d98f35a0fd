//! One function for each command.

mod artifacts;
mod carry;
mod data;
mod export;
mod found;
mod git;
mod load;
mod mesh;
mod programs;
mod published;
mod records;
mod sim;
mod simple;
mod snapshots;
mod trace;
mod watch;

use quipu_core::lifecycle::Stage;
use quipu_core::machine::{dot, mermaid};
use quipu_core::sync::session::SessionState;
use quipu_node::api::{ApiError, ExitCode, RecordQuery, Request, TraceQuery};

use quipu_run::{Capacity, Wish};

use crate::cli::{
    ChartFormat, Cli, Command, ConflictCommand, EdgeCommand, ReceiptCommand, RosterCommand,
};
use crate::network::{AirOptions, LinkOptions};
use crate::{daemon, demo, output, start};

/// Runs a command.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, ApiError> {
    let global = &cli.global;
    if global.at.is_some() && !reads(&cli.command) {
        return Err(ApiError::misuse("--at is for commands that read").hint("quipu log --at EVENT"));
    }
    if global.of.is_some() && !reads_any_log(&cli.command) {
        return Err(
            ApiError::misuse("--of is for commands that read").hint("quipu --of DOMAIN artifacts")
        );
    }
    let at = global.at.clone();
    match cli.command {
        Command::Init { target, domain, parents_max, salt_bytes } => {
            found::init(global, target, domain, parents_max, salt_bytes)
        }
        Command::Join { ticket, target, artifacts, snapshot_first, air } => {
            let how = found::JoinOptions { artifacts, snapshot_first, air: AirOptions::of(air) };
            found::join(global, &ticket, target, &how)
        }
        Command::Flowchart { format } => flowchart(format, global.json),
        Command::Demo { keep } => demo::run(keep, global.quiet),
        Command::Sim { scenario, domains, seed, seeds, twice, sabotage } => {
            let scenario = if domains { sim::SEVERAL_DOMAINS.to_owned() } else { scenario };
            sim::run(global, &scenario, seed, seeds, twice, sabotage.as_deref())
        }
        Command::Reference => simple::reference(),
        Command::Serve {
            listen,
            socket,
            meshlog_unix,
            meshlog_tcp,
            meshlog_view,
            artifacts,
            air,
            no_quic,
            work,
            work_memory,
            work_labels,
        } => {
            let home = start::find_home(global)?;
            let links = LinkOptions { listen, quic: !no_quic, air: AirOptions::of(air) };
            if let Some(policy) = artifacts {
                home.set_artifact_policy(policy)?;
            }
            let memory = work_memory.saturating_mul(1 << 20);
            let work = work.then(|| Capacity::new(memory, work_labels));
            let meshlog =
                daemon::Meshlog { unix: meshlog_unix, tcp: meshlog_tcp, shown: meshlog_view };
            daemon::serve(&home, &links, socket, &meshlog, work, global.quiet)
        }
        Command::Put { files, type_tag } => artifacts::put(global, &files, type_tag.as_deref()),
        Command::Get { key, output } => artifacts::get(global, key, output),
        Command::Gc { dry_run } => simple::one(global, Request::Gc { dry_run }),
        Command::Invite { role, expires, uses } => found::invite(global, role, expires, uses),
        Command::Verify { rebuild } => simple::verify(global, rebuild),
        Command::Bundle(bundle) => carry::bundle(global, bundle),
        Command::Export { format, file } => export::export(global, format, file),
        Command::Load { format, file } => load::load(global, format, &file),
        Command::Emit { kind, payload, batch } => simple::emit(global, kind, payload, batch),
        Command::Sync { peer } => simple::sync(global, peer),
        Command::Log { kind, author, limit, reverse } => {
            let request = Request::Log { kind, author, limit, reverse, proof: global.json, at };
            simple::log(global, request)
        }
        Command::Publish { keys, snapshot, with_lineage } => {
            published::publish(global, keys, snapshot, with_lineage)
        }
        Command::Published => published::published(global),
        Command::Unpublish { keys } => Err(published::cannot_unpublish(&keys)),
        Command::Publisher(command) => published::publisher(global, command),
        Command::Follow { ticket } => published::follow(global, &ticket),
        Command::Domains => published::domains(global),
        Command::Import { domain, key } => published::import(global, domain, key),
        Command::Program(command) => programs::program(global, command),
        Command::Run {
            program,
            inputs,
            snapshot,
            require_receipts,
            force,
            elsewhere,
            watch,
            wait,
            recompute,
            threads,
        } => {
            let inputs = inputs.into_iter().collect();
            let required = require_receipts;
            let wish = Wish { program, inputs, snapshot, required, force, recompute, threads };
            let elsewhere = elsewhere.then(|| std::time::Duration::from_millis(wait));
            programs::run(global, &wish, elsewhere, watch)
        }
        Command::Receipts { steps } => programs::receipts(global, steps),
        Command::Receipt(ReceiptCommand::Show { key }) => programs::show(global, &key),
        Command::Receipt(ReceiptCommand::Verify { key }) => programs::verify(global, &key),
        Command::Audit { snapshot, sample } => programs::audit(global, snapshot, sample),
        Command::Lineage { key, down, format } => programs::lineage(global, &key, down, format),
        Command::Roster { command: None } => simple::list(global, Request::Roster, &["node"]),
        Command::Roster { command: Some(RosterCommand::Set { nodes }) } => {
            simple::list(global, Request::RosterSet { nodes }, &["node"])
        }
        Command::Commitment(command) => published::commitment(global, command),
        Command::Id => simple::one(global, Request::Id),
        Command::Status => simple::one(global, Request::Status { at }),
        Command::Show { id } => simple::show(global, id),
        Command::Frontier => simple::frontier(global),
        Command::Doctor => simple::doctor(global),
        Command::Members => simple::members(global),
        Command::Member(member) => simple::member(global, member),
        Command::Erase { id, reason } => simple::one(global, Request::Erase { id, reason }),
        Command::Artifacts { hidden } => data::artifacts(global, hidden),
        Command::Edge(EdgeCommand::Add { from, to, kind, role }) => {
            let role = role.name().to_owned();
            simple::one(global, Request::EdgeAdd { from, to, kind, role })
        }
        Command::Edges { kind } => data::edges(global, kind),
        Command::Trace { key, up, down, depth, types, format } => {
            let direction = match (up, down) {
                (true, _) => Some("up".to_owned()),
                (_, true) => Some("down".to_owned()),
                _ => None,
            };
            trace::trace(global, TraceQuery { key, direction, depth, types, at }, format)
        }
        Command::Tombstone { what } => simple::one(global, Request::Tombstone { what }),
        Command::Conflicts { command: None } => data::conflicts(global),
        Command::Conflicts { command: Some(ConflictCommand::Resolve { id, keep }) } => {
            simple::one(global, Request::ConflictResolve { id, keep })
        }
        Command::Pin { key } => simple::one(global, Request::Pin { key, held: true }),
        Command::Unpin { key } => simple::one(global, Request::Pin { key, held: false }),
        Command::Snapshot(command) => snapshots::snapshot(global, command),
        Command::Snapshots => snapshots::list(global),
        Command::Current => snapshots::current(global),
        Command::Replay { snapshot, explain, shards } => {
            snapshots::replay(global, snapshot, explain, shards)
        }
        Command::Provenance { snapshot } => snapshots::provenance(global, snapshot),
        Command::Federation => snapshots::federation(global),
        Command::Mesh(command) => records::mesh(global, command),
        Command::Record(command) => records::record(global, command),
        Command::Records { form, format, point, lat, lon, reducer } => {
            let query = RecordQuery { form, point, lat, lon, at, ..RecordQuery::default() };
            records::records(global, query, format, reducer.as_deref())
        }
    }
}

/// Whether a command can answer as of a snapshot.
fn reads(command: &Command) -> bool {
    matches!(
        command,
        Command::Members
            | Command::Log { .. }
            | Command::Status
            | Command::Frontier
            | Command::Export { .. }
            | Command::Artifacts { .. }
            | Command::Edges { .. }
            | Command::Trace { .. }
            | Command::Conflicts { command: None }
            | Command::Snapshots
            | Command::Current
            | Command::Federation
            | Command::Receipts { .. }
            | Command::Records { .. }
            | Command::Record(crate::cli::RecordCommand::Show { .. })
    )
}

/// Whether a command can answer from a published log.
fn reads_any_log(command: &Command) -> bool {
    let also = matches!(
        command,
        Command::Show { .. }
            | Command::Get { .. }
            | Command::Bundle(crate::cli::Bundle::Export { .. })
            | Command::Published
            | Command::Snapshot(crate::cli::SnapshotCommand::Show { .. })
            | Command::Snapshot(crate::cli::SnapshotCommand::Diff { .. })
            | Command::Replay { .. }
            | Command::Provenance { .. }
    );
    let of_records = matches!(command, Command::Records { .. } | Command::Record(_));
    also || reads(command) && !of_records
}

fn flowchart(format: ChartFormat, json: bool) -> Result<ExitCode, ApiError> {
    let charts = match format {
        ChartFormat::Mermaid => [mermaid::<Stage>(), mermaid::<SessionState>()],
        ChartFormat::Dot => [dot::<Stage>(), dot::<SessionState>()],
    };
    if json {
        let [life, session] = charts;
        let format = match format {
            ChartFormat::Mermaid => "mermaid",
            ChartFormat::Dot => "dot",
        };
        let charts = [("life of an event", life), ("peer session", session)];
        let charts = charts.map(|(name, text)| serde_json::json!({ "name": name, "text": text }));
        output::json(&serde_json::json!({ "format": format, "charts": charts }))?;
    } else {
        output::line(charts.join("\n").trim_end())?;
    }
    Ok(ExitCode::Done)
}
