//! What is fuzzed: one plain function for each decoder. A target panics if the decoder does, or if
//! it breaks a promise: what is accepted encodes to the same bytes, and memory stays bounded.

mod artifact;
mod history;
mod mesh;
mod node;
pub mod radio;
mod shelf;
mod store;
mod targets;
// The module alone: the crate would bring a whole QUIC stack with it.
#[path = "../../crates/quipu-net/src/ticket.rs"]
mod ticket;

/// A function to throw bytes at.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name on the command line and of its directories.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($module:ident :: $name:ident),* $(,)?) => {
        /// All targets.
        pub const TARGETS: &[Target] = &[
            $(Target { name: stringify!($name), run: $module::$name }),*
        ];
    };
}
targets! {
    targets::body,
    targets::payload,
    targets::value,
    targets::json,
    targets::pack_stream,
    targets::pack_held,
    targets::message,
    targets::symbols,
    targets::ids,
    targets::run_of_events,
    targets::ticket,
    targets::bundle,
    targets::request,
    node::node_frames,
    node::node_messages,
    store::store_files,
    artifact::artifact_part,
    shelf::artifact_index,
    mesh::mesh_json,
    mesh::mesh_event,
    mesh::mesh_message,
    mesh::mesh_lines,
    radio::helper_message,
    radio::helper_frames,
    radio::beacon,
    radio::radio_stream,
    radio::radio_station,
}

/// The target with that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}

/// Cuts an input into pieces, each preceded by its length in two bytes (little endian). What is
/// left at the end is the last piece.
pub fn pieces(mut data: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    while let Some(([a, b], rest)) = data.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes([*a, *b])).min(rest.len());
        let (piece, after) = rest.split_at(length);
        out.push(piece);
        data = after;
    }
    out
}

/// The input that [`pieces`] cuts into these.
pub fn join(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&piece[..usize::from(length)]);
    }
    out
}
