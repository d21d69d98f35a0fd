//! Publishing, following, importing.

use std::net::SocketAddr;

use quipu_core::id::{DomainId, NodeKey};
use quipu_node::api::{ApiError, ExitCode, Request, check_opening};

use super::found::parse_ticket;
use super::simple;
use crate::cli::{CommitmentCommand, Global, PublisherCommand};
use crate::client::Client;
use crate::daemon::ticket;
use crate::output::{self, plain};
use crate::start;

pub(crate) fn publish(
    global: &Global,
    keys: Vec<String>,
    snapshot: Option<String>,
    with_lineage: bool,
) -> Result<ExitCode, ApiError> {
    let request = Request::Publish { keys, snapshot, with_lineage };
    simple::list(global, request, &["key", "snapshot", "type_tag", "new"])
}

pub(crate) fn published(global: &Global) -> Result<ExitCode, ApiError> {
    simple::list(global, Request::Published, &["key", "size", "type_tag", "snapshot", "have"])
}

pub(crate) fn cannot_unpublish(keys: &[String]) -> ApiError {
    let keys = keys.join(", ");
    ApiError::refused(format!("what is published stays published: {keys}"))
        .hint("quipu tombstone KEY hides it from this domain's current state only")
}

pub(crate) fn publisher(global: &Global, command: PublisherCommand) -> Result<ExitCode, ApiError> {
    let request = match command {
        PublisherCommand::Add { key, role } => {
            Request::PublisherAdd { node: key, role: role.name().to_owned() }
        }
        PublisherCommand::Remove { key } => Request::PublisherRemove { node: key },
        PublisherCommand::Access { open, nodes, domains } => {
            Request::PublisherAccess { open, nodes, domains }
        }
    };
    simple::one(global, request)
}

pub(crate) fn follow(global: &Global, ticket: &str) -> Result<ExitCode, ApiError> {
    let ticket = parse_ticket(ticket)?;
    let request = Request::Follow {
        domain: DomainId(ticket.domain).to_string(),
        node: NodeKey(ticket.node).to_string(),
        addrs: ticket.addrs,
    };
    one_with_network(global, request)
}

pub(crate) fn domains(global: &Global) -> Result<ExitCode, ApiError> {
    let home = start::find_home(global)?;
    let mut client = Client::open(&home)?;
    let addrs: Vec<SocketAddr> =
        serde_json::from_value(client.one(Request::Id)?["addrs"].clone()).unwrap_or_default();
    let columns = ["domain", "name", "own", "events", "artifacts"];
    let mut table = output::table(&columns);
    client.ask(Request::Domains, &mut |mut row| {
        // Whoever this machine shows the log to gets it from here.
        let domain = plain(&row["domain"]).parse::<DomainId>().ok();
        if let (Some(domain), false) = (domain, addrs.is_empty()) {
            let ticket = ticket(&home, domain, addrs.clone(), None).map(|t| t.to_string());
            row["ticket"] = ticket.map_err(std::io::Error::other)?.into();
        }
        if global.json {
            return output::json(&row);
        }
        table.add_row(columns.map(|column| plain(&row[column])));
        Ok(())
    })?;
    if !global.json {
        output::line(&table.to_string())?;
    }
    Ok(ExitCode::Done)
}

pub(crate) fn import(global: &Global, domain: String, key: String) -> Result<ExitCode, ApiError> {
    one_with_network(global, Request::Import { domain, key })
}

fn one_with_network(global: &Global, request: Request) -> Result<ExitCode, ApiError> {
    let home = start::find_home(global)?;
    let object = Client::open_with(&home, true)?.one(request)?;
    if global.json {
        output::json(&object)?
    } else {
        output::fields(&object)?
    }
    Ok(ExitCode::Done)
}

pub(crate) fn commitment(
    global: &Global,
    command: CommitmentCommand,
) -> Result<ExitCode, ApiError> {
    match command {
        CommitmentCommand::Open { commitment } => {
            simple::one(global, Request::CommitmentOpen { commitment })
        }
        CommitmentCommand::Check { commitment, end, nonce } => {
            let object = check_opening(&commitment, &end, &nonce)?;
            let fits = object["ok"] == true;
            if global.json {
                output::json(&object)?
            } else {
                output::fields(&object)?
            }
            Ok(if fits { ExitCode::Done } else { ExitCode::Problem })
        }
    }
}
