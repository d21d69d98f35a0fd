//! Machines that meet over Reticulum only: real helpers, real interfaces on loopback.

mod common;

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::data::noise;
use common::{Machine, agree, skip, temp, until};
use serde_json::Value;

/// A free TCP port.
fn tcp_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A free UDP port.
fn udp_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A configuration directory of Reticulum.
fn config(root: &Path, name: &str, settings: &str, interfaces: &str) -> PathBuf {
    let dir = root.join(format!("{name}-reticulum"));
    std::fs::create_dir_all(&dir).unwrap();
    let text = format!("[reticulum]\n{settings}\n[interfaces]\n{interfaces}");
    std::fs::write(dir.join("config"), text).unwrap();
    dir
}

const ALONE: &str = "enable_transport = No\nshare_instance = No\n";

fn server(port: u16) -> String {
    format!(
        "[[Server]]\ntype = TCPServerInterface\nenabled = Yes\nlisten_ip = 127.0.0.1\nlisten_port = {port}\n"
    )
}

fn client(port: u16) -> String {
    format!(
        "[[Client]]\ntype = TCPClientInterface\nenabled = Yes\ntarget_host = 127.0.0.1\ntarget_port = {port}\n"
    )
}

fn udp(listen: u16, forward: u16) -> String {
    format!(
        "[[Udp]]\ntype = UDPInterface\nenabled = Yes\nlisten_ip = 127.0.0.1\nlisten_port = {listen}\nforward_ip = 127.0.0.1\nforward_port = {forward}\n"
    )
}

/// The helper beside the binary. These tests are built with the whole workspace.
fn helper() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_quipu")).with_file_name("quipu-reticulum");
    assert!(path.is_file(), "build the helper, too: cargo nextest run --workspace");
    path
}

/// Two members of one domain that have no daemon running.
fn members(root: &Path) -> (Machine, Machine) {
    let mut a = Machine::found("a", root);
    let ticket = a.serve();
    let b = Machine::joined("b", root, &ticket);
    a.stop();
    (a, b)
}

/// Starts a daemon that has no links but over the air.
#[track_caller]
fn on_air(machine: &mut Machine, config: &Path, more: &[&str]) {
    helper();
    let mut arguments = vec!["--no-quic", "--reticulum", config.to_str().unwrap()];
    arguments.extend(more);
    machine.serve_with(&arguments);
}

fn mesh(machine: &Machine) -> Value {
    machine.one(["mesh", "status"])
}

/// Ends a machine's helper by SIGKILL. Gives its process id.
fn kill_helper(machine: &Machine) -> u64 {
    let mut pid = 0;
    until("a helper runs", || {
        pid = mesh(machine)["helper_pid"].as_u64().unwrap_or(0);
        pid > 0
    });
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    pid
}

/// Agreement for machines whose announces come only now and then.
#[track_caller]
fn agree_slowly(machines: &[&Machine]) {
    let start = Instant::now();
    while machines.windows(2).any(|pair| pair[0].digest() != pair[1].digest()) {
        if start.elapsed() > Duration::from_secs(90) {
            let reports: Vec<String> = machines.iter().map(|m| mesh(m).to_string()).collect();
            let logs: Vec<String> = machines.iter().map(|m| m.daemon_log()).collect();
            panic!("no agreement\n{}\n{}", reports.join("\n"), logs.join("\n---\n"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    agree(machines);
}

#[test]
fn two_machines_over_tcp_end_identical() {
    let temp = temp();
    let (mut a, mut b) = members(temp.path());
    // Written while apart.
    let mut ids = a.write("apart", 200);
    ids.extend(b.write("apart", 200));
    let port = tcp_port();
    on_air(&mut a, &config(temp.path(), "a", ALONE, &server(port)), &[]);
    on_air(&mut b, &config(temp.path(), "b", ALONE, &client(port)), &[]);
    agree_slowly(&[&a, &b]);
    // Written while linked, and when the link has ended again.
    ids.push(a.emit("while linked"));
    agree_slowly(&[&a, &b]);
    until("the peer is told of", || {
        let report = mesh(&b);
        report["peers"][0]["node"] == a.node() && report["peers"][0]["equal"] == true
    });
    ids.push(b.emit("again"));
    agree_slowly(&[&a, &b]);
    a.holds(&ids);
    b.holds(&ids);
    let synced = b.one(["sync", &a.node()]);
    assert_eq!((&synced["equal"], &synced["received_events"]), (&true.into(), &0.into()));
    a.verify_clean();
    b.verify_clean();
}

#[test]
fn two_machines_over_udp_end_identical() {
    let temp = temp();
    let (mut a, mut b) = members(temp.path());
    let ids = a.write("apart", 100);
    let (first, second) = (udp_port(), udp_port());
    on_air(&mut a, &config(temp.path(), "a", ALONE, &udp(first, second)), &[]);
    on_air(&mut b, &config(temp.path(), "b", ALONE, &udp(second, first)), &[]);
    agree_slowly(&[&a, &b]);
    b.holds(&ids);
}

#[test]
fn a_killed_helper_is_started_again_and_sync_goes_on() {
    let temp = temp();
    let (mut a, mut b) = members(temp.path());
    let port = tcp_port();
    on_air(&mut a, &config(temp.path(), "a", ALONE, &server(port)), &[]);
    on_air(&mut b, &config(temp.path(), "b", ALONE, &client(port)), &[]);
    agree_slowly(&[&a, &b]);
    let before = kill_helper(&b);
    b.emit("without a helper");
    until("another helper runs", || {
        let now = mesh(&b)["helper_pid"].as_u64().unwrap_or(before);
        now != before && now != 0
    });
    agree_slowly(&[&a, &b]);
}

/// An `rnsd` of Python that forwards. It dies with this.
struct Rnsd(Child);

impl Drop for Rnsd {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Rnsd {
    fn start(config: &Path) -> Option<Self> {
        let target = Path::new(env!("CARGO_BIN_EXE_quipu")).ancestors().nth(2)?;
        let program = target.join("meshlogd/bin/rnsd");
        if !program.is_file() {
            skip("no Python with Reticulum here: run tests/meshlogd/setup");
            return None;
        }
        let rnsd = Command::new(program)
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Some(Self(rnsd.unwrap()))
    }
}

#[test]
fn two_hops_through_a_transport_of_python() {
    let temp = temp();
    let port = tcp_port();
    let forwards = "enable_transport = Yes\nshare_instance = No\n";
    let between = config(temp.path(), "between", forwards, &server(port));
    let Some(_rnsd) = Rnsd::start(&between) else { return };
    let (mut a, mut b) = members(temp.path());
    let ids = a.write("apart", 100);
    until("rnsd listens", || std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    on_air(&mut a, &config(temp.path(), "a", ALONE, &client(port)), &[]);
    on_air(&mut b, &config(temp.path(), "b", ALONE, &client(port)), &[]);
    agree_slowly(&[&a, &b]);
    b.holds(&ids);
    until("two hops are told of", || mesh(&b)["peers"][0]["hops"].as_u64() >= Some(2));
}

#[test]
fn a_record_does_not_wait_for_an_artifact() {
    let temp = temp();
    let (mut a, mut b) = members(temp.path());
    let port = tcp_port();
    on_air(&mut a, &config(temp.path(), "a", ALONE, &server(port)), &[]);
    on_air(&mut b, &config(temp.path(), "b", ALONE, &client(port)), &[]);
    agree_slowly(&[&a, &b]);
    let photo = noise(7, 2_000_000);
    let key = a.key_of(&photo);
    until("b knows of the photo", || b.artifact(&key).is_some());
    let record = a.emit("more urgent");
    until("the record is there", || b.log_ids().contains(&record));
    assert!(!b.has(&key), "the photo was faster: this shows nothing");
    until("the photo is there", || b.has(&key));
    assert_eq!(b.get(&key), photo);
}

#[test]
fn an_artifact_survives_ten_cuts() {
    let temp = temp();
    let (mut a, mut b) = members(temp.path());
    let port = tcp_port();
    on_air(&mut a, &config(temp.path(), "a", ALONE, &server(port)), &[]);
    on_air(&mut b, &config(temp.path(), "b", ALONE, &client(port)), &[]);
    agree_slowly(&[&a, &b]);
    let photo = noise(8, 2_000_000);
    let key = a.key_of(&photo);
    for cut in 0..10 {
        std::thread::sleep(Duration::from_millis(700));
        kill_helper(if cut % 2 == 0 { &a } else { &b });
    }
    let start = Instant::now();
    while !b.has(&key) {
        assert!(start.elapsed() < Duration::from_secs(240), "{}", mesh(&b));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(b.get(&key), photo);
}

#[test]
fn what_is_wrong_is_said() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ran = a.try_run(["mesh", "status"]);
    assert!(ran.fails(4).contains("--reticulum"), "{}", ran.stderr);
    let ran = a.try_run(["serve", "--reticulum", "x", "--airtime-percent", "200"]);
    assert!(ran.fails(2).contains("percentage"), "{}", ran.stderr);
    // A configuration that is not there: the machine serves all the same, and says so.
    let missing = temp.path().join("nothing");
    on_air(&mut a, &missing, &[]);
    until("the trouble is told of", || {
        mesh(&a)["trouble"].as_str().is_some_and(|why| why.contains("no Reticulum configuration"))
    });
    a.emit("all the same");
}
