//! An artifact over QUIC on loopback, both sides as production runs them, beside a bare iroh stream.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use ed25519_dalek::SigningKey;
use iroh::endpoint::presets;
use iroh::{Endpoint, EndpointAddr, RelayMode, SecretKey, TransportAddr};
use quipu_core::node::{Command, Reply};
use quipu_core::statement::{Claim, Statement};

use crate::pair::node_of;
use crate::quic::start;
use crate::workload::{Writer, founder, store};
use crate::{Result, figure};

/// Bytes of one write to the bare stream.
const CHUNK_BYTES: usize = 256 << 10;

fn megabytes(bytes: u64, begin: Instant) -> f64 {
    bytes as f64 / 1e6 / begin.elapsed().as_secs_f64()
}

async fn endpoint(seed: u8) -> Result<Endpoint> {
    let builder = Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&[seed; 32]))
        .relay_mode(RelayMode::Disabled)
        .alpns(vec![b"raw".to_vec()])
        .clear_ip_transports()
        .bind_addr(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok(builder.bind().await?)
}

/// What one stream of iroh carries, in MB/s.
async fn bare_stream(bytes: u64) -> Result<f64> {
    let (near, far) = (endpoint(1).await?, endpoint(2).await?);
    let addrs = far.bound_sockets().into_iter().map(TransportAddr::Ip);
    let target = EndpointAddr::from_parts(far.id(), addrs);
    let acceptor = far.clone();
    let reader = tokio::spawn(async move {
        let connection = acceptor.accept().await.ok_or("nobody came")?.await?;
        let (_send, mut receive) = connection.accept_bi().await?;
        let mut buffer = vec![0u8; CHUNK_BYTES];
        let mut seen = 0;
        while let Some(read) = receive.read(&mut buffer).await? {
            seen += read as u64;
        }
        Result::<u64>::Ok(seen)
    });
    let connection = near.connect(target, b"raw").await?;
    let (mut send, _receive) = connection.open_bi().await?;
    let begin = Instant::now();
    let chunk = bytes::Bytes::from(vec![7u8; CHUNK_BYTES]);
    for _ in 0..bytes / CHUNK_BYTES as u64 {
        send.write_chunk(chunk.clone()).await?;
    }
    send.finish()?;
    let seen = reader.await??;
    let rate = megabytes(seen, begin);
    near.close().await;
    far.close().await;
    Ok(rate)
}

/// Bytes that do not repeat.
fn noise(bytes: u64) -> impl Read {
    let hasher = blake3::Hasher::new_keyed(&[9; 32]);
    hasher.finalize_xof().take(bytes)
}

pub(crate) fn transfer(dir: &Path, mebibytes: u64) -> Result<()> {
    let bytes = mebibytes << 20;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let bare = runtime.block_on(bare_stream(bytes))?;
    figure("limit: one bare iroh stream", format!("{bare:.0} MB/s"), "");
    let (mut writer, mut list) = Writer::new(1, 2);
    writer.write_many(2, &mut list);
    let list = writer.sign_ends(list);
    let (from, to) = (dir.join("artifact-from"), dir.join("artifact-to"));
    store(&from.join(".quipu"), writer.domain, &list)?;
    let member = SigningKey::from_bytes(blake3::hash(b"bench author 0").as_bytes());
    let (source, source_net) = start(&from, writer.domain, &founder(), &runtime)?;
    let (target, target_net) = start(&to, writer.domain, &member, &runtime)?;
    let (key, size) = source.handle().call(move |machine| -> Result<_> {
        let store = machine.artifact_store()?.clone();
        let imported = store.import(noise(bytes), &mut |_| ())?;
        let put = (imported.key, imported.size);
        machine.adopt_artifact(&imported.name, &imported.key, imported.size)?;
        Ok(put)
    })??;
    let claim = Claim { key, size, type_tag: None };
    source.handle().command(Command::Say(vec![Statement::Put(claim)]))?;
    let begin = Instant::now();
    let reply = target.handle().sync(node_of(&founder()), source_net.local_addrs(), None)?;
    let rate = megabytes(bytes, begin);
    let Reply::Synced { traffic, .. } = reply else { return Err("no sync".into()) };
    let here = target.handle().call(move |machine| machine.artifact_size(&key))??;
    assert_eq!(here, Some(size), "the artifact is there");
    figure(
        &format!("an artifact of {mebibytes} MiB over QUIC, verified and kept"),
        format!("{rate:.0} MB/s"),
        &format!(
            "{:.0}% of the bare stream, {:.2}% overhead",
            100.0 * rate / bare,
            100.0 * (traffic.bytes_received as f64 / bytes as f64 - 1.0)
        ),
    );
    target.stop()?;
    source.stop()?;
    target_net.shutdown();
    source_net.shutdown();
    drop(std::fs::remove_dir_all(from));
    drop(std::fs::remove_dir_all(to));
    Ok(())
}
