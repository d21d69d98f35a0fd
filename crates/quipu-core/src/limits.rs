//! Every bound of the protocol, with its reason. Sizes are bytes unless the name says otherwise.

/// The most parents an event may name: with it a body stays under 6 kB (EVT-13).
pub const PARENTS_MAX: usize = 128;
/// The largest event body. 128 parents take 5.3 kB; the rest is below 500 bytes.
pub const BODY_BYTES_MAX: usize = 6 * 1024;
/// The largest payload block. Larger things are artifacts.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// The longest `kind`.
pub const KIND_BYTES_MAX: usize = 64;
/// How deep maps and lists may nest in a payload, so that recursion is bounded.
pub const VALUE_DEPTH_MAX: usize = 64;
/// The longest salt in a payload block.
pub const SALT_BYTES_MAX: usize = 32;
/// A signature is kept and forwarded wherever `seq` is a multiple of this, and at tips.
pub const SIGNATURE_INTERVAL: u64 = 64;
/// A clock at or above this may only be reached by adding one to the greatest link, so that it cannot run out.
pub const LOGSEQ_JUMP_MAX: u64 = 1 << 63;
/// The most events in one packed batch.
pub const PACK_EVENTS_MAX: usize = 8192;
/// The most bytes that the columns, or the payload values, of one packed batch may unfold to.
pub const PACK_UNFOLDED_BYTES_MAX: usize = 4 << 20;
/// How far back in a stream a packed batch may refer by distance; both sides remember that many ids (2 MiB).
pub const PACK_WINDOW: usize = 65_536;
/// The most authors and kinds one packed stream may introduce, so that a hostile stream is bounded.
pub const PACK_DICTIONARY_MAX: usize = 1 << 20;
