//! Interfaces that could not start are tried again: whoever they connect to may start later, and a radio may be
//! plugged in later. Reticulum itself gives up.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use rns_net::config::ParsedInterface;
use rns_net::{QueryRequest, QueryResponse, RnsNode};

/// How long until it is tried again, at first and at most.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long somebody may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Tries again to start what is not running of these, until the node is gone.
pub(crate) fn keep_trying(node: &Arc<RnsNode>, mut wanted: Vec<ParsedInterface>) {
    wanted.retain(|interface| interface.enabled);
    let node = Arc::downgrade(node);
    let work = move || {
        let mut wait = WAIT.0;
        while !wanted.is_empty() {
            thread::sleep(wait);
            wait = (wait * 2).min(WAIT.1);
            if try_once(&node, &wanted).is_none() {
                return;
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("interfaces".to_owned()).spawn(work) {
        log::error!("interfaces that could not start are not tried again: {error}");
    }
}

/// Nothing if the node is gone.
fn try_once(node: &Weak<RnsNode>, wanted: &[ParsedInterface]) -> Option<()> {
    let running: Vec<String> = match node.upgrade()?.query(QueryRequest::InterfaceStats).ok()? {
        QueryResponse::InterfaceStats(stats) => {
            stats.interfaces.into_iter().map(|interface| interface.name).collect()
        }
        _ => return None,
    };
    for interface in wanted.iter().filter(|interface| !running.contains(&interface.name)) {
        // A connection is tried here first: to wait for one would hold up everything.
        if is_answered(interface) {
            // That it runs is no error: one that listens is not among those that carry something.
            let _started = node.upgrade()?.attach_interface(&interface.name).ok()?;
        }
    }
    Some(())
}

/// Whether somebody is there, if it is an interface that connects to somebody.
fn is_answered(interface: &ParsedInterface) -> bool {
    let target = interface.params.get("target_host").zip(interface.params.get("target_port"));
    let Some((host, port)) = target.filter(|_| interface.interface_type == "TCPClientInterface")
    else {
        return true;
    };
    let Ok(port) = port.parse::<u16>() else { return true };
    let addresses = (host.as_str(), port).to_socket_addrs().into_iter().flatten();
    addresses.into_iter().any(|address| TcpStream::connect_timeout(&address, CONNECT_MAX).is_ok())
}
