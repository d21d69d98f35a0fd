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
pub const PACKETS_UNSENT_MAX: usize = 2;
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
/// A medium of this pace is a fast one, in bits per second: sessions over it need no more time than usual.
pub const FAST_BITRATE: u64 = 1_000_000;
/// How many times as long as usual sessions wait at most.
pub const PATIENCE_MAX: u64 = 200;
/// Parts of artifacts that a session asks for at once.
pub const PARTS_ASKED: usize = 2;
/// How long a helper may keep what it was handed before it sends it, in milliseconds: so much longer is what was
/// spent remembered.
pub const HANDED_MS: u64 = 5 * 60_000;
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
/// What one says of itself on a link that it opened: its public keys and a signature.
pub const IDENTIFY_BYTES: usize = 128;
/// The class in which guests send: they may use nine tenths of the limit, so that a mesh that talks a lot leaves room for
/// this machine's own events.
pub const GUEST_CLASS: usize = 1;
/// Bytes on the air of what guests may have waiting. More is refused: it would be old when its turn comes.
pub const GUEST_QUEUE_BYTES_MAX: u64 = 256 << 10;
/// Addresses and identities of which it is remembered by which interface guests heard them.
pub const GUEST_HEARD_MAX: usize = 4_096;
/// Streams at one time, and links of which nobody said yet whose they are.
pub const ASSOCIATIONS_MAX: usize = 64;
/// Machines of this domain that are remembered from announces.
pub const NEIGHBOURS_MAX: usize = 1_024;
/// How long a stream without a link is kept for its other end to come back, in milliseconds.
pub const KEEP_MS: u64 = 15 * 60_000;
/// How long a stream over which nothing moves keeps its link, in milliseconds. Less than the time after
/// which sessions compare again, or they would keep it for ever.
pub const LINGER_MS: u64 = 20_000;
/// How long a stream may stand still where machines take turns, in milliseconds: an hour later, and what a helper may
/// have kept, its sender is below the limit of airtime again. All of a frame would have to come again.
pub const STALLED_MS: u64 = 70 * 60_000;
/// Where machines take turns, how long others wait for an exchange that stands still, in milliseconds: its end may be
/// over the limit of airtime.
pub const ENGAGED_MS: u64 = 5 * 60_000;
/// On a medium of a lower pace, in bits per second, machines take turns: one stream at a time.
pub const SHARED_BITRATE: u64 = 50_000;
/// Where machines take turns, how long one that has something to fetch waits at least, and so many times more at
/// most, drawn by lot, in packets' time on the air: of several that heard the same announce, one begins.
pub const TURN_PACKETS: (u64, u64) = (4, 80);
/// How often that doubles with links that were opened in vain.
pub const IN_VAIN_MAX: u32 = 4;
/// What takes more packets than this is announced, so that others in reach keep silent meanwhile.
pub const BULK_PACKETS: usize = 12;
/// How long after an announce of an exchange it is announced again, in milliseconds: some do not hear the first.
pub const BUSY_AGAIN_MS: u64 = 60_000;
/// The longest silence that is asked for, in seconds.
pub const BUSY_S_MAX: u64 = 600;
/// How long a greeting may take to be answered before it is sent again, in milliseconds.
pub const GREET_MS: u64 = 5_000;
/// Greetings without an answer after which a link is given up.
pub const GREETINGS_MAX: u32 = 6;
/// How long a helper may take to open a link, in milliseconds.
pub const OPEN_MS: u64 = 90_000;
/// How long somebody who asks for a machine waits for it to be heard, in milliseconds.
pub const AWAIT_MS: u64 = 20_000;
/// The least and the most time between two tries to open a link, in milliseconds.
pub const REOPEN_MS: (u64, u64) = (1_000, 60_000);
/// The least and the most time before a machine is linked to again that differed from this one when the last stream
/// with it had ended in good order, in milliseconds.
pub const SETTLED_MS: (u64, u64) = (60_000, 3_600_000);
/// How long a machine lets the other one open a link, where both know that they differ, in milliseconds.
pub const DEFER_MS: u64 = 4_000;
/// How long changes are collected before they are announced, in milliseconds.
pub const ANNOUNCE_SETTLE_MS: u64 = 500;
/// The least time between two announces, in milliseconds, and in times of what one takes on the air.
pub const ANNOUNCE_MS_MIN: u64 = 4_000;
/// See [`ANNOUNCE_MS_MIN`].
pub const ANNOUNCE_AIR_TIMES: u64 = 50;
/// How often a machine announces itself when nothing happens, in milliseconds.
pub const ANNOUNCE_MS: u64 = 10 * 60_000;
/// How often a helper is asked for its interfaces, in milliseconds.
pub const LOOK_MS: u64 = 5_000;
/// How long a closing stream may take to get rid of what it has, in milliseconds.
pub const CLOSE_MS: u64 = 60_000;
/// The first of the numbers that this crate gives its links: other transports count from 1.
pub const LINKS_FROM: u64 = 1 << 48;
