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
/// Bytes of a key that name an author whom both ends of a link know, where few are known. The reader may know authors that the
/// writer does not: with so many bytes hardly two of them are alike. If they are, it asks for keys in full.
pub const AUTHOR_PREFIX_BYTES: usize = 4;
/// The same where many are known.
pub const LONG_AUTHOR_PREFIX_BYTES: usize = 6;
/// So many authors are few.
pub const AUTHORS_FEW: usize = 1_024;
/// How many recent events the DAG remembers by id at least, so that most links cost no look-up in the
/// store.
pub const RECENT_EVENTS: usize = 32_768;
/// Events that are applied before they are appended, at most: fewer than the DAG remembers.
pub const STAGED_EVENTS_MAX: usize = 16_384;
/// Of the events that an author put at one place of its feed, this many (the smallest ids) are kept
/// in the DAG, and whatever other members link to.
pub const FORK_SIBLINGS_MAX: usize = 16;
/// The most memory that events of one stream may take while they wait for signatures. A feed may
/// have 64 of them waiting, so this is enough for some 10,000 feeds that grow side by side.
pub const UNSIGNED_BYTES_MAX: usize = 512 << 20;
/// The most events that wait for links, over all peers.
pub const WAITING_EVENTS_MAX: usize = 16_384;
/// The most bytes that they take.
pub const WAITING_BYTES_MAX: usize = 64 << 20;
/// Events in one frame. Bounds the work of one step.
pub const FRAME_EVENTS_MAX: usize = 2_048;
/// Payload bytes after which a frame is full.
pub const FRAME_PAYLOAD_BYTES: usize = 256 << 10;
/// Bytes a session sends before it waits for the link to drain.
pub const SEND_WINDOW_BYTES: usize = 512 << 10;
/// Feeds up to this number are listed outright: as cheap as a sketch, and always decodable.
pub const ENDS_LISTED_MAX: usize = 128;
/// Symbols in the first answer: enough for 100 changed feeds in 99 of 100 cases.
pub const SYMBOLS_FIRST: usize = 316;
/// The most symbols taken before the ends are asked for as a list.
pub const SYMBOLS_TAKEN_MAX: usize = 1 << 15;
/// Comparisons in a row that do not end level before a session waits for its next turn.
pub const ATTEMPTS_MAX: u8 = 12;
/// How often a session compares when nothing happens, in milliseconds.
pub const COMPARE_MS: u64 = 30_000;
/// How long a session waits for an answer before it starts over, in milliseconds.
pub const ANSWER_MS: u64 = 20_000;
/// How long the next part may take over a link when its peer has opened a newer one, in milliseconds: the
/// older one may be dead, because the peer started anew.
pub const DOUBT_MS: u64 = 1_000;
/// How long events that a peer announced may take to arrive from elsewhere, in milliseconds.
pub const GRAFT_MS: u64 = 500;
/// How often new feed ends are announced to a peer that gets no live events, in milliseconds.
pub const TIPS_MS: u64 = 200;
/// Bytes of authentic events outside the log that are remembered for a while, since they may carry the only
/// signature over events in it.
pub const LOOSE_BYTES_MAX: usize = 16 << 20;
/// Bytes of one feed end's proof, and of all proofs in a frame: fits 64 events with as many parents as
/// may be, and leaves room for them in a frame.
pub const PROOF_BYTES_MAX: usize = 384 << 10;
/// Artifacts in one question or answer: 10 KiB.
pub const ASK_KEYS_MAX: usize = 256;
/// Bytes of one part of an artifact: its groups, and 64 inner nodes of the tree. A tree of the largest
/// artifact is 37 nodes high, and 16 groups have 15 nodes among themselves.
pub const PART_BYTES_MAX: usize =
    crate::artifact::PART_GROUPS_MAX as usize * crate::artifact::GROUP_BYTES as usize + 64 * 64;
/// Parts that are asked for over one link and are not here yet: 4 MiB keep 400 MB/s busy at 10 ms.
pub const PARTS_ASKED_MAX: usize = 16;
/// Parts that a peer may ask for before they were sent. More than an honest peer ever asks for.
pub const PARTS_OWED_MAX: usize = 64;
/// Parts that were given up on a link, and may come all the same, are remembered so far.
pub const PARTS_LATE_MAX: usize = 64;
/// Artifacts that are wanted at one time. More are offered to the node again when there is room.
pub const WANTS_MAX: usize = 4_096;
/// Artifacts that are begun and not complete, so that few files grow at one time.
pub const FETCHES_MAX: usize = 64;
/// Peers of which it is remembered that they have an artifact.
pub const SOURCES_MAX: usize = 32;
/// Sizes of one artifact that are tried at one time, where peers disagree.
pub const SIZES_TRIED_MAX: usize = 4;
/// Artifacts that a peer asked for in vain, of which it is told when they are here.
pub const ASKED_REMEMBERED_MAX: usize = 4_096;
