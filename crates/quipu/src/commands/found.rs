//! Founding a domain, inviting to it, joining it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};
use quipu_core::domain::Parameters;
use quipu_core::id::{DomainId, NodeKey};
use quipu_core::node::Reply;
use quipu_core::sync::message::{InviteProof, invite_message};
use quipu_net::Ticket;
use quipu_node::ArtifactPolicy;
use quipu_node::Clock;
use quipu_node::api::{ApiError, ExitCode, Request};
use quipu_node::home::Home;
use quipu_node::service::{Air, Handle, Mailbox, Peers, Service, ServiceError, SystemClock};
use quipu_store::StoreOptions;
use serde_json::json;

use crate::cli::{Global, RoleArg};
use crate::client::Client;
use crate::daemon::{seed_of, ticket};
use crate::network::{self, AirOptions, Carriers, Quic};
use crate::start::RealDriver;
use crate::{output, start};

pub(crate) fn init(
    global: &Global,
    target: Option<PathBuf>,
    domain: Option<String>,
    parents_max: usize,
    salt_bytes: usize,
) -> Result<ExitCode, ApiError> {
    let dir = start::new_dir(global, target)?;
    let name = domain.unwrap_or_else(|| default_name(&dir));
    let parameters = Parameters { name: name.clone(), parents_max, salt_bytes };
    let key = SigningKey::from_bytes(&start::random_bytes()?);
    let home = Home::create(&dir, &key)?;
    let key = home.key()?;
    let now = SystemClock.now_ms();
    let disk = start::disk(&home)?;
    let entropy = start::random_bytes()?;
    let options = StoreOptions::default();
    let domain = RealDriver::found(disk, &parameters, &key, entropy, now, options)
        .map_err(ApiError::from)
        .map_err(|error| match error.code {
            ExitCode::Storage if error.message.starts_with("not a root") => {
                ApiError::misuse(error.message)
                    .hint("--parents-max 2..128, --salt-bytes 0..32, a name of at most 128 bytes")
            }
            _ => error,
        })?;
    home.set_domain(domain)?;
    let node = NodeKey(key.verifying_key().to_bytes()).to_string();
    let object = json!({ "domain": domain.to_string(), "node": node, "name": name });
    if global.json {
        output::json(&object)?;
    } else {
        output::fields(&object)?;
        output::note(global.quiet, "next: quipu emit app.note '{\"text\":\"hello\"}', quipu serve");
    }
    Ok(ExitCode::Done)
}

fn default_name(dir: &Path) -> String {
    let full = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    full.file_name().map_or_else(|| "quipu".to_owned(), |name| name.to_string_lossy().into_owned())
}

pub(crate) fn invite(
    global: &Global,
    role: RoleArg,
    expires_ms: u64,
    uses_max: u64,
) -> Result<ExitCode, ApiError> {
    let home = start::find_home(global)?;
    let mut client = Client::open(&home)?;
    let id = client.one(Request::Id)?;
    let role = role.name().to_owned();
    let item = client.one(Request::Invite { role, expires_ms, uses_max })?;
    let seed = seed_of(&item).ok_or_else(|| ApiError::new(ExitCode::Bug, "no seed"))?;
    let mut addrs: Vec<_> = id["addrs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|addr| addr.as_str()?.parse().ok())
        .collect();
    if addrs.is_empty() {
        // No daemon now: the ticket names the place where it listened last.
        addrs.extend(home.port().map(|port| std::net::SocketAddr::from(([127, 0, 0, 1], port))));
        output::note(global.quiet, "note: this machine does not listen now; start quipu serve");
    }
    let ticket = ticket(&home, home.domain()?, addrs, Some(seed))?;
    if global.json {
        output::json(&json!({ "ticket": ticket.to_string(), "expires_ms": item["expires_ms"] }))?;
    } else {
        output::line(&ticket.to_string())?;
    }
    Ok(ExitCode::Done)
}

/// Replaces this machine's own key. An interrupted attempt goes on where it was.
pub(crate) fn rotate(global: &Global) -> Result<ExitCode, ApiError> {
    let home = start::find_home(global)?;
    if std::os::unix::net::UnixStream::connect(home.socket()).is_ok() {
        return Err(ApiError::refused("a daemon runs with this machine's key")
            .hint("stop it, then: quipu member rotate"));
    }
    let next = home.next_key(&SigningKey::from_bytes(&start::random_bytes()?))?;
    let node = NodeKey(next.verifying_key().to_bytes()).to_string();
    let mut client = Client::open_with(&home, true)?;
    let mut known = false;
    client.ask(Request::Members { at: None }, &mut |member| {
        known |= member["node"] == *node;
        Ok(())
    })?;
    if !known {
        client.one(Request::MemberReplace { node: node.clone() })?;
    }
    // With the old key, which others still know: to them the new one is a stranger.
    let mut told = 0u64;
    let synced = client.ask(Request::Sync { peer: None, addrs: Vec::new() }, &mut |row| {
        told += u64::from(row["unreachable"].is_null());
        Ok(())
    });
    drop(client);
    home.take_next_key()?;
    if told == 0 && synced.is_err() {
        let note = "note: nobody was reached. Others turn the new key away until they know of it: \
                    quipu bundle export FILE";
        output::note(global.quiet, note);
    }
    let object = json!({ "node": node, "told": told });
    if global.json {
        output::json(&object)?
    } else {
        output::fields(&object)?
    }
    Ok(ExitCode::Done)
}

/// Reads a ticket.
pub(crate) fn parse_ticket(text: &str) -> Result<Ticket, ApiError> {
    text.parse::<Ticket>().map_err(|error| {
        ApiError::refused(error.to_string()).hint("copy it again, whole: quipu invite")
    })
}

/// How to join.
#[derive(Debug)]
pub(crate) struct JoinOptions {
    pub(crate) artifacts: Option<ArtifactPolicy>,
    pub(crate) snapshot_first: bool,
    /// Also over the air, where the ticket's addresses do not answer.
    pub(crate) air: Option<AirOptions>,
}

pub(crate) fn join(
    global: &Global,
    ticket: &str,
    target: Option<PathBuf>,
    how: &JoinOptions,
) -> Result<ExitCode, ApiError> {
    let ticket = parse_ticket(ticket)?;
    let dir = start::new_dir(global, target)?;
    let domain = DomainId(ticket.domain);
    if start::is_home(&dir) {
        return Err(already_there(&dir, domain)?);
    }
    let dir_existed = dir.exists();
    let fresh = !dir.join(quipu_node::home::HOME_DIR).exists();
    let home = Home::create(&dir, &SigningKey::from_bytes(&start::random_bytes()?))?;
    if let Some(policy) = how.artifacts {
        home.set_artifact_policy(policy)?;
    }
    match join_into(global, &home, &ticket, domain, how) {
        Ok(()) => Ok(ExitCode::Done),
        Err(error) => {
            let stored = home.dir().join("internal").exists();
            if fresh && !stored {
                home.discard();
                if !dir_existed {
                    drop(std::fs::remove_dir(&dir));
                }
            }
            Err(error)
        }
    }
}

/// The directory has a machine: of this domain, or of another one (EVT-7)?
fn already_there(dir: &Path, wanted: DomainId) -> Result<ApiError, ApiError> {
    let held = Home::open(dir)?.domain()?;
    if held == wanted {
        let message = format!("{} is a machine of domain {held} already", dir.display());
        return Ok(ApiError::refused(message).hint("quipu sync, or choose another directory"));
    }
    let message =
        format!("{} holds domain {held}, the ticket is for domain {wanted}", dir.display());
    Ok(ApiError::refused(message).hint("choose another directory: quipu join TICKET DIR"))
}

fn join_into(
    global: &Global,
    home: &Home,
    ticket: &Ticket,
    domain: DomainId,
    how: &JoinOptions,
) -> Result<(), ApiError> {
    let key = home.key()?;
    let node = NodeKey(key.verifying_key().to_bytes());
    let invite = ticket.invite.map(|seed| {
        let invite = SigningKey::from_bytes(&seed);
        let signature = invite.sign(&invite_message(&domain, &node)).to_bytes();
        InviteProof { key: NodeKey(invite.verifying_key().to_bytes()), signature }
    });
    let mailbox = Mailbox::default();
    let any = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
    let quic = Some(Quic::bind(key.to_bytes(), vec![any], false, &mailbox)?);
    let radio = how.air.as_ref().map(|air| network::radio(home, domain, air, &mailbox));
    let carriers = Carriers { quic, radio: radio.transpose()? };
    let driver = start::driver(home, domain, key, carriers.network())?;
    let service = Service::start(home.clone(), driver, mailbox, Peers::Once);
    let peer = NodeKey(ticket.node);
    let wanted = First { peer, addrs: ticket.addrs.clone(), invite, air: carriers.air() };
    let result = fetch(global, &service.handle(), wanted, how.snapshot_first);
    let early = service.handle().call(quipu_node::service::Machine::take_early);
    let counted = service.handle().call(|machine| {
        let dag = machine.driver.node().dag();
        dag.map(quipu_core::dag::Dag::event_count)
    });
    let addrs = ticket.addrs.clone();
    drop(service.handle().call(move |machine| machine.note_peer(peer, &addrs)));
    let stopped = service.stop();
    carriers.shutdown();
    result?;
    stopped?;
    if let Some((snapshot, entries)) = early?? {
        home.set_domain(domain)?;
        let object = json!({
            "domain": domain.to_string(), "node": node.to_string(), "events": 0,
            "snapshot": snapshot.to_string(), "entries": entries,
        });
        if global.json {
            output::json(&object)?
        } else {
            output::fields(&object)?
        }
        output::note(global.quiet, "the history follows with quipu serve or quipu sync");
        return Ok(());
    }
    let events = counted?.ok_or_else(|| {
        ApiError::new(ExitCode::Peer, "the peer sent nothing of the domain")
            .hint("check the ticket: its machine may be of another domain")
    })?;
    home.set_domain(domain)?;
    let object =
        json!({ "domain": domain.to_string(), "node": node.to_string(), "events": events });
    if global.json {
        output::json(&object)?
    } else {
        output::fields(&object)?
    }
    Ok(())
}

/// A newcomer's first exchange.
struct First {
    peer: NodeKey,
    addrs: Vec<SocketAddr>,
    invite: Option<InviteProof>,
    air: Option<Air>,
}

impl First {
    /// At the ticket's addresses; if nobody answers there, over the air.
    fn ask(self, handle: &Handle, only_state: bool) -> Result<Reply, ServiceError> {
        let Self { peer, addrs, invite, air } = self;
        let wire = |invite| match only_state {
            true => handle.sync_state(peer, addrs.clone(), invite),
            false => handle.sync(peer, addrs.clone(), invite),
        };
        match air {
            None => wire(invite),
            Some(air) if addrs.is_empty() => handle.join_by_air(air, peer, invite, only_state),
            Some(air) => match wire(invite.clone()) {
                Err(ServiceError::Unreachable { reason, .. }) => {
                    tracing::info!(reason, "nobody answers by wire");
                    handle.join_by_air(air, peer, invite, only_state)
                }
                other => other,
            },
        }
    }
}

/// Fetches everything, with progress.
fn fetch(
    global: &Global,
    handle: &Handle,
    first: First,
    snapshot_first: bool,
) -> Result<Reply, ApiError> {
    let bar = output::progress(global.quiet, None, "events");
    let asked = {
        let handle = handle.clone();
        std::thread::spawn(move || first.ask(&handle, snapshot_first))
    };
    while !asked.is_finished() {
        std::thread::sleep(Duration::from_millis(if bar.is_hidden() { 2 } else { 100 }));
        if !bar.is_hidden() {
            let held = handle.call(|machine| {
                machine.driver.node().dag().map_or(0, quipu_core::dag::Dag::event_count)
            })?;
            bar.set_position(held);
        }
    }
    bar.finish_and_clear();
    let answer = asked.join().map_err(|_| ApiError::new(ExitCode::Bug, "sync panicked"))?;
    Ok(answer?)
}
