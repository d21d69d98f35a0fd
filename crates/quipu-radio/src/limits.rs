//! Every bound of this crate, with its reason.

/// The longest frame: that of every transport.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Bytes that may wait on one stream before it counts as stuck: more than a session ever queues.
pub const QUEUE_BYTES_MAX: usize = 8 << 20;
/// Bytes beyond a gap that a receiver keeps, and so bytes that a sender lets fly in one lane.
pub const WINDOW_BYTES: u64 = 256 << 10;
/// Ranges beyond a gap that one acknowledgement names.
pub const ACK_RANGES_MAX: usize = 4;
/// Packets that a helper has and that have not left yet. Few, so that what is urgent need not wait behind
/// them.
pub const PACKETS_UNSENT_MAX: usize = 4;
/// Packets that fly without an acknowledgement.
pub const PACKETS_FLYING_MAX: usize = 64;
/// Packets after which an acknowledgement is due at once.
pub const ACK_PACKETS: u32 = 16;
/// How long an acknowledgement may wait for something to travel with, in milliseconds.
pub const ACK_MS: u64 = 250;
/// The least time after which a packet without an acknowledgement is sent again, in milliseconds.
pub const RESEND_MS: u64 = 3_000;
/// The most of that, after it has doubled with every try.
pub const RESEND_MS_MAX: u64 = 15 * 60_000;
/// Time on the air that one resource should take, in milliseconds: what is urgent waits so long at most.
pub const RESOURCE_MS: u64 = 15_000;
/// The shortest resource that is worth what goes around it.
pub const RESOURCE_BYTES_MIN: usize = 1_024;
/// The longest resource, however fast the medium.
pub const RESOURCE_BYTES_MOST: usize = 128 << 10;
/// What a packet on the air has around its data, in Reticulum: head, IV, padding, HMAC; and its proof.
pub const PACKET_OVERHEAD: u64 = 83 + 115;
/// What a resource has around it: advertisement, requests, proof.
pub const RESOURCE_OVERHEAD: u64 = 480;
/// Bytes that a packet of a resource carries.
pub const RESOURCE_PART_BYTES: u64 = 464;
/// What each packet of a resource has around it.
pub const RESOURCE_PART_OVERHEAD: u64 = 19;
/// An announce on the air, without its data.
pub const ANNOUNCE_OVERHEAD: u64 = 19 + 148 + 32;
/// Opening a link: request, proof, measurement.
pub const LINK_OVERHEAD: u64 = 330;
