//! Several domains.

use super::Machine;
use super::data::text;

/// A ticket for the published log of this machine's own domain.
pub(crate) fn follow_ticket(machine: &Machine) -> String {
    ticket_for(machine, &id_of(machine))
}

/// A ticket for the published log of a domain, to be had from a machine that keeps it.
pub(crate) fn ticket_for(machine: &Machine, domain: &str) -> String {
    let rows = machine.run(["domains"]);
    let row = rows.iter().find(|row| row["domain"] == domain).expect("the domain is kept");
    text(row, "ticket")
}

/// The domain of a machine.
pub(crate) fn id_of(machine: &Machine) -> String {
    text(&machine.one(["id"]), "domain")
}

/// Whether bytes are somewhere in others.
pub(crate) fn within(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// The hash in an id: how frames and files have it.
pub(crate) fn digest_of(id: &str) -> Vec<u8> {
    let bytes = data_encoding::BASE32_NOPAD.decode(id[1..].to_ascii_uppercase().as_bytes());
    bytes.unwrap()[4..].to_vec()
}
