//! A fresh machine fetches everything over QUIC on loopback, both sides as production runs them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ed25519_dalek::SigningKey;
use quipu_core::id::DomainId;
use quipu_core::node::Reply;
use quipu_net::QuicTransport;
use quipu_node::Driver;
use quipu_node::home::Home;
use quipu_node::service::{Mailbox, Peers, Service, SystemClock};
use quipu_store::{RealDisk, StoreOptions};

use crate::pair::node_of;
use crate::workload::{Writer, founder, store};
use crate::{Result, figure, rate};

pub(crate) fn start(
    dir: &Path,
    domain: DomainId,
    key: &SigningKey,
    runtime: &tokio::runtime::Runtime,
) -> Result<(Service, QuicTransport)> {
    let home = Home::create(dir, key)?;
    let mailbox = Mailbox::default();
    let transport = quipu_link::bind(
        runtime.handle().clone(),
        key.to_bytes(),
        vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        true,
        &mailbox,
        None,
    )?;
    let disk = Arc::new(RealDisk::new(home.dir())?);
    let network = quipu_link::network(&transport, None);
    let options = StoreOptions::default();
    let (driver, _) = Driver::open(
        disk,
        (domain, quipu_core::event::Log::Internal),
        key.clone(),
        [4; 32],
        SystemClock,
        network,
        options,
    )?;
    Ok((Service::start(home, driver, mailbox, Peers::Once), transport))
}

pub(crate) fn join(dir: &Path, events: usize, authors: usize) -> Result<()> {
    let (mut writer, mut list) = Writer::new(authors, events);
    writer.write_many(events, &mut list);
    let list = writer.sign_ends(list);
    let total = list.len();
    let (from, to) = (dir.join("quic-from"), dir.join("quic-to"));
    store(&from.join(".quipu"), writer.domain, &list)?;
    drop(list);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let member = SigningKey::from_bytes(blake3::hash(b"bench author 0").as_bytes());
    let (source, source_net) = start(&from, writer.domain, &founder(), &runtime)?;
    let (target, target_net) = start(&to, writer.domain, &member, &runtime)?;
    let begin = Instant::now();
    let reply = target.handle().sync(node_of(&founder()), source_net.local_addrs(), None)?;
    let seconds = begin.elapsed().as_secs_f64();
    let Reply::Synced { traffic, equal } = reply else { return Err("no sync".into()) };
    assert!(equal, "both hold the same");
    figure(
        &format!("sync of a fresh machine over QUIC, {total} events"),
        rate(total, seconds),
        &format!("{:.1} B/event on the wire", traffic.bytes_received as f64 / total as f64),
    );
    target.stop()?;
    source.stop()?;
    target_net.shutdown();
    source_net.shutdown();
    drop(std::fs::remove_dir_all(from));
    drop(std::fs::remove_dir_all(to));
    Ok(())
}
