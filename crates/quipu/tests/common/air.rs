//! Machines that meet over Reticulum, with interfaces on loopback.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Machine, agree};

/// A free TCP port.
pub(crate) fn tcp_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Whether somebody listens at a port.
pub(crate) fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A configuration directory of Reticulum.
pub(crate) fn config(root: &Path, name: &str, settings: &str, interfaces: &str) -> PathBuf {
    let dir = root.join(format!("{name}-reticulum"));
    std::fs::create_dir_all(&dir).unwrap();
    let text = format!("[reticulum]\n{settings}\n[interfaces]\n{interfaces}");
    std::fs::write(dir.join("config"), text).unwrap();
    dir
}

/// Settings of a machine that forwards nothing.
pub(crate) const ALONE: &str = "enable_transport = No\nshare_instance = No\n";

/// An interface that others connect to.
pub(crate) fn server(port: u16) -> String {
    format!(
        "[[Server]]\ntype = TCPServerInterface\nenabled = Yes\nlisten_ip = 127.0.0.1\nlisten_port = {port}\n"
    )
}

/// An interface that connects to another one.
pub(crate) fn client(port: u16) -> String {
    format!(
        "[[Client]]\ntype = TCPClientInterface\nenabled = Yes\ntarget_host = 127.0.0.1\ntarget_port = {port}\n"
    )
}

/// The helper beside the binary. These tests are built with the whole workspace.
pub(crate) fn helper() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_quipu")).with_file_name("quipu-reticulum");
    assert!(path.is_file(), "build the helper, too: cargo nextest run --workspace");
    path
}

/// Two members of one domain that have no daemon running.
pub(crate) fn members(root: &Path) -> (Machine, Machine) {
    let mut a = Machine::found("a", root);
    let ticket = a.serve();
    let b = Machine::joined("b", root, &ticket);
    a.stop();
    (a, b)
}

/// Starts a daemon that has no links but over the air.
#[track_caller]
pub(crate) fn on_air(machine: &mut Machine, config: &Path, more: &[&str]) {
    helper();
    let mut arguments = vec!["--no-quic", "--reticulum", config.to_str().unwrap()];
    arguments.extend(more);
    machine.serve_with(&arguments);
}

/// What `mesh status` says.
pub(crate) fn mesh(machine: &Machine) -> Value {
    machine.one(["mesh", "status"])
}

/// What machines know of their neighbours, and what they wrote.
pub(crate) fn reports(machines: &[&Machine]) -> String {
    let all = machines.iter().map(|m| format!("{}\n{}\n{}\n", m.name, mesh(m), m.daemon_log()));
    all.collect()
}

/// Agreement for machines whose announces come only now and then.
#[track_caller]
pub(crate) fn agree_slowly(machines: &[&Machine]) {
    let start = Instant::now();
    while machines.windows(2).any(|pair| pair[0].digest() != pair[1].digest()) {
        if start.elapsed() > Duration::from_secs(90) {
            panic!("no agreement\n{}", reports(machines));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    agree(machines);
}

/// An `rnsd` of Python that forwards. It dies with this.
pub(crate) struct Rnsd(Child);

impl Drop for Rnsd {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Rnsd {
    pub(crate) fn start(config: &Path) -> Option<Self> {
        let rnsd = Command::new(super::meshlogd::place()?.join("bin/rnsd"))
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Some(Self(rnsd.unwrap()))
    }
}
