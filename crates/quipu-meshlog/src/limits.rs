//! Every bound of this crate, with its reason. Sizes are bytes unless the name says otherwise.

/// How deep lists and objects may nest. Python 3.11 gives up a little below 1,000, depending on how deep it
/// is itself; what it can hold, we can.
pub const JSON_DEPTH_MAX: usize = 1_000;
/// The most digits of an integer: Python refuses to convert more.
pub const INTEGER_DIGITS_MAX: usize = 4_300;
/// The longest line that a client of the socket may send: that of Python's `asyncio`, which then closes the
/// connection.
pub const SOCKET_LINE_BYTES_MAX: usize = 65_536;
/// Answers to one client that were not taken yet. A client that asks and does not read is closed.
pub const SOCKET_UNREAD_BYTES_MAX: usize = 64 << 20;
/// How far ahead of its feed an event may be kept until the gap fills. Peers offer it again.
pub const PENDING_SPAN_MAX: u64 = 4_096;
/// Events of all feeds that wait for a gap to fill.
pub const PENDING_EVENTS_MAX: usize = 65_536;
/// Forks that are remembered as proof. One for each author tells all there is to act on.
pub const FORKS_MAX: usize = 1_024;
/// Events in one message between nodes, as meshlogd sends them.
pub const MESSAGE_EVENTS_MAX: usize = 32;
/// The longest message of a peer that is read. meshlogd's largest has 32 events, each as long as somebody made it.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Messages that are read and verified together, before their events are taken.
pub const MESSAGES_TOGETHER_MAX: usize = 512;
/// About how many bytes of events go into one message: a resource that does not block a slow link for minutes.
pub const PUSH_BYTES_MAX: usize = 16_384;
/// Messages to one peer that have not left yet. More are made when one has.
pub const IN_FLIGHT_MESSAGES_MAX: usize = 2;
/// Peers that were heard and are not linked, which are remembered. Others announce themselves again.
pub const HEARD_MAX: usize = 1_024;
/// With so many links none is opened any more. Others may still open one to here.
pub const LINKS_OPENED_MAX: usize = 32;
