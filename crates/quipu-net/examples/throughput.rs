//! Prints how fast one link is on loopback, beside a bare iroh stream: same machine, same run.
//!
//! `cargo run --release -p quipu-net --example throughput [frame KiB] [MiB in all]`
#![allow(clippy::print_stdout)]

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Instant;

use bytes::Bytes;
use iroh::endpoint::presets;
use iroh::{Endpoint, EndpointAddr, RelayMode, SecretKey, TransportAddr};
use quipu_net::{LinkEvent, QuicTransport, SEND_QUEUE_HIGH};

const WORKERS: usize = 2;
const ROUNDS: usize = 3;

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().expect("a number"));
    let frame = args.next().unwrap_or(128) << 10;
    let total = args.next().unwrap_or(1024) << 20;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .expect("a runtime");
    println!(
        "{} MiB in frames of {} KiB, one direction, {WORKERS} workers",
        total >> 20,
        frame >> 10
    );
    for _ in 0..ROUNDS {
        let raw = runtime.block_on(raw_stream(frame, total));
        let link = over_link(runtime.handle(), frame, total);
        println!("raw iroh stream {raw:7.0} MB/s    link {link:7.0} MB/s");
    }
}

fn rate(bytes: usize, since: Instant) -> f64 {
    bytes as f64 / 1e6 / since.elapsed().as_secs_f64()
}

async fn raw_endpoint(seed: u8) -> Endpoint {
    Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&[seed; 32]))
        .relay_mode(RelayMode::Disabled)
        .alpns(vec![b"raw".to_vec()])
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .expect("a loopback address")
        .bind()
        .await
        .expect("an endpoint")
}

async fn raw_stream(frame: usize, total: usize) -> f64 {
    let (near, far) = (raw_endpoint(1).await, raw_endpoint(2).await);
    let addrs = far.bound_sockets().into_iter().map(TransportAddr::Ip);
    let target = EndpointAddr::from_parts(far.id(), addrs);
    let acceptor = far.clone();
    let reader = tokio::spawn(async move {
        let connection = acceptor.accept().await.expect("a peer").await.expect("a handshake");
        let (_send, mut recv) = connection.accept_bi().await.expect("a stream");
        let mut buffer = vec![0u8; frame];
        let mut seen = 0;
        while let Some(bytes) = recv.read(&mut buffer).await.expect("bytes") {
            seen += bytes;
        }
        seen
    });
    let connection = near.connect(target, b"raw").await.expect("a connection");
    let (mut send, _recv) = connection.open_bi().await.expect("a stream");
    let since = Instant::now();
    let chunk = Bytes::from(vec![7u8; frame]);
    for _ in 0..total / frame {
        send.write_chunk(chunk.clone()).await.expect("room");
    }
    send.finish().expect("an open stream");
    let seen = reader.await.expect("the reader");
    let rate = rate(seen, since);
    near.close().await;
    far.close().await;
    rate
}

fn over_link(runtime: &tokio::runtime::Handle, frame: usize, total: usize) -> f64 {
    let listen: Vec<SocketAddr> = vec!["127.0.0.1:0".parse().expect("an address")];
    let (near_sink, near_events) = mpsc::channel();
    let (far_sink, far_events) = mpsc::channel();
    let near = QuicTransport::bind(runtime.clone(), [1; 32], listen.clone(), false, move |event| {
        let _ = near_sink.send(event);
    })
    .expect("a transport");
    let far = QuicTransport::bind(runtime.clone(), [2; 32], listen, true, move |event| {
        let _ = far_sink.send(event);
    })
    .expect("a transport");
    near.connect(1, far.node(), far.local_addrs());
    let LinkEvent::Up { link, .. } = near_events.recv().expect("an event") else {
        panic!("no link");
    };
    let commands = far.commands();
    let frames = total / frame;
    let reader = std::thread::spawn(move || {
        let mut seen = 0;
        while seen < frames {
            if let LinkEvent::Frame { link, bytes } = far_events.recv().expect("an event") {
                commands.consumed(link, bytes.len());
                seen += 1;
            }
        }
    });
    let since = Instant::now();
    let commands = near.commands();
    let chunk = Bytes::from(vec![7u8; frame]);
    for _ in 0..frames {
        if commands.send(link, chunk.clone()) > SEND_QUEUE_HIGH {
            while !matches!(near_events.recv().expect("an event"), LinkEvent::Writable { .. }) {}
        }
    }
    reader.join().expect("the reader");
    let rate = rate(frames * frame, since);
    near.shutdown();
    far.shutdown();
    rate
}
