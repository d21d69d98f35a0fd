//! Every bound of the protocol, with its reason.

/// Version of the protocol. Each side ends if the other's differs.
pub const VERSION: u32 = 1;
/// The longest frame: a resource and what is around it.
pub const FRAME_BYTES_MAX: usize = RESOURCE_BYTES_MAX + 4096;
/// The longest resource: what Reticulum carries in one segment.
pub const RESOURCE_BYTES_MAX: usize = (1 << 20) - 1;
/// The longest packet: no medium for which one needs a helper has larger ones.
pub const PACKET_BYTES_MAX: usize = 64 << 10;
/// The longest application data of an announce.
pub const ANNOUNCE_BYTES_MAX: usize = 512;
/// The longest text: names, reasons.
pub const TEXT_BYTES_MAX: usize = 1024;
/// The longest name of a link.
pub const LINK_NAME_BYTES_MAX: usize = 32;
/// Parts of a destination's name after the first.
pub const ASPECTS_MAX: usize = 16;
/// Interfaces that a helper tells of.
pub const INTERFACES_MAX: usize = 64;
