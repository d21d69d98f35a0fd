//! Opening the sockets: exactly the addresses asked for, and no service of any kind.

use std::net::SocketAddr;

use iroh::endpoint::{BindOpts, NetReportConfig, PortmapperConfig, presets};
use iroh::{Endpoint, RelayMode, SecretKey};

use crate::config::{ALPN, quic_config};
use crate::error::{TransportError, chain};

/// Binds an endpoint that talks to nobody unless told to.
pub(crate) async fn endpoint(
    secret_key: [u8; 32],
    listen: &[SocketAddr],
    accept: bool,
) -> Result<Endpoint, TransportError> {
    if listen.is_empty() {
        return Err(TransportError::NoAddress);
    }
    let alpns = if accept { vec![ALPN.to_vec()] } else { Vec::new() };
    let mut builder = Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&secret_key))
        .alpns(alpns)
        .relay_mode(RelayMode::Disabled)
        .clear_address_lookup()
        .portmapper_config(PortmapperConfig::Disabled)
        .net_report_config(NetReportConfig::minimal())
        .transport_config(quic_config())
        .clear_ip_transports();
    for (addr, first) in in_binding_order(listen) {
        builder = builder
            .bind_addr_with_opts(addr, route(addr, first))
            .map_err(|error| TransportError::Address { addr, reason: chain(&error) })?;
    }
    builder
        .bind()
        .await
        .map_err(|error| TransportError::Bind { addrs: listen.to_vec(), reason: chain(&error) })
}

/// The addresses, each with whether it is the first of its family. Those come last: the builder
/// takes nothing more of a family after its default route.
fn in_binding_order(listen: &[SocketAddr]) -> Vec<(SocketAddr, bool)> {
    let first_of_family = |place: usize, addr: &SocketAddr| {
        listen[..place].iter().all(|other| other.is_ipv4() != addr.is_ipv4())
    };
    let mut order: Vec<_> = listen
        .iter()
        .enumerate()
        .map(|(place, addr)| (*addr, first_of_family(place, addr)))
        .collect();
    order.sort_by_key(|(_, first)| *first);
    order
}

/// Which destinations a socket serves: the first of its family serves all, so that one listener is
/// enough to dial anywhere, and the others serve the network they are likely in.
fn route(addr: SocketAddr, first: bool) -> BindOpts {
    let prefix = match addr {
        _ if first => 0,
        SocketAddr::V4(addr) if addr.ip().is_loopback() => 8,
        SocketAddr::V4(_) => 24,
        SocketAddr::V6(addr) if addr.ip().is_loopback() => 128,
        SocketAddr::V6(_) => 64,
    };
    BindOpts::default().set_prefix_len(prefix).set_is_default_route(first)
}
