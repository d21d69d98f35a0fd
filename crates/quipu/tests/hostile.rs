//! Bytes from nowhere: the daemon goes on, in bounded memory.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::{Machine, agree, temp};

/// How much memory the daemon may take beyond what it had.
const GROWTH_BYTES_MAX: u64 = 150 << 20;

fn resident_bytes(machine: &Machine) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", machine.pid())).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count);
    std::fs::File::open("/dev/urandom")
        .unwrap()
        .take(count as u64)
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

#[test]
fn random_bytes_to_every_port() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    a.emit("before");
    let before = resident_bytes(&a);

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for datagram in random_bytes(10 << 20).chunks(1200) {
        drop(udp.send_to(datagram, a.addr()));
    }
    // The same with the first bytes of a QUIC packet, so that more of it is read.
    for datagram in random_bytes(2 << 20).chunks_mut(1200) {
        datagram[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
        drop(udp.send_to(datagram, a.addr()));
    }

    let path = a.ready["socket"].as_str().unwrap().to_owned();
    let mut stream = UnixStream::connect(&path).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let answers = std::thread::spawn(move || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap_or(0);
        std::io::copy(&mut reader, &mut std::io::sink()).unwrap_or(0);
        line
    });
    let sent = std::thread::spawn(move || {
        stream.write_all(&random_bytes(10 << 20)).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let first = answers.join().unwrap();
    assert!(first.contains("error"), "{first}");
    sent.join().unwrap();

    // One line that does not end.
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    drop(stream.write_all(&vec![b'x'; 40 << 20]));
    let mut answer = String::new();
    drop(BufReader::new(&stream).read_line(&mut answer));
    assert!(answer.is_empty() || answer.contains("at most"), "{answer}");
    drop(stream);

    // A client that says nothing, and one that does not read.
    let _silent = UnixStream::connect(&path).unwrap();
    a.emit("after");
    let b = Machine::joined("b", temp.path(), &ticket);
    b.emit("from b");
    b.one(["sync"]);
    agree(&[&a, &b]);
    let after = resident_bytes(&a);
    assert!(after < before + GROWTH_BYTES_MAX, "{before} bytes before, {after} after");
    a.verify_clean();
    a.stop();
}

#[test]
fn requests_that_are_none() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    a.serve();
    let path = a.ready["socket"].as_str().unwrap();
    let ask = |line: &str| -> serde_json::Value {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        stream.write_all(b"\n").unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    };
    for line in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"method":"nonsense"}"#,
        r#"{"id":1,"method":"show"}"#,
        r#"{"method":"emit","params":{}}"#,
        r#"{"method":"show","params":{"id":7}}"#,
    ] {
        let answer = ask(line);
        assert_eq!(answer["error"]["code"], 3, "{line}: {answer}");
    }
    let answer = ask(
        r#"{"id":7,"method":"emit","params":{"events":[{"kind":"app.note","payload":{"a":1,"a":2}}]}}"#,
    );
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&7.into(), &3.into()), "{answer}");
    let answer = ask(r#"{"id":8,"method":"import_pack","params":{"packed":"AAAA"}}"#);
    assert_eq!(answer["error"]["code"], 3, "{answer}");
    let answer = ask(r#"{"id":9,"method":"status"}"#);
    assert_eq!(answer["id"], 9);
    assert!(answer["item"]["digest"].is_string());
}
