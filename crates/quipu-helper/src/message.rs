//! The messages. The numbers are those of the format and are never used for anything else.

use minicbor::{Decoder, Encoder};

use crate::field::{Field, Malformed, Out, array_length, at_most, sure};
use crate::limits::{
    ANNOUNCE_BYTES_MAX, LINK_NAME_BYTES_MAX, PACKET_BYTES_MAX, RESOURCE_BYTES_MAX,
};

/// Where something can be reached: what Reticulum calls a destination's hash.
pub type Address = [u8; 16];

/// What a link is called at both of its ends. Nobody can make two links of one name, so a signature
/// over it speaks of this link only.
pub type LinkName = Vec<u8>;

/// Defines an enum of messages: each is an array of its number and its fields.
macro_rules! messages {
    (
        $(#[$about:meta])*
        $name:ident {
            $( $(#[$what:meta])* $number:literal $variant:ident {
                $( $(#[$which:meta])* $field:ident : $type:ty ),* $(,)?
            } ),* $(,)?
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name {
            $( $(#[$what])* $variant { $( $(#[$which])* $field: $type ),* } ),*
        }

        impl $name {
            /// The bytes of the message, without the length in front.
            pub fn encode(&self) -> Vec<u8> {
                let mut out = Encoder::new(Vec::new());
                match self {
                    $( Self::$variant { $($field),* } => {
                        let fields: &[&str] = &[$(stringify!($field)),*];
                        sure(out.array(1 + fields.len() as u64).map(|_| ()));
                        sure(out.u64($number).map(|_| ()));
                        $( $field.put(&mut out); )*
                    } )*
                }
                out.into_writer()
            }

            /// The message that these bytes are.
            ///
            /// # Errors
            /// If they are none.
            pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
                let mut from = Decoder::new(bytes);
                let length = array_length(&mut from)?;
                let number = from.u64()?;
                let message = match number {
                    $( $number => {
                        let fields: &[&str] = &[$(stringify!($field)),*];
                        let expected = fields.len() as u64;
                        if length != expected + 1 {
                            let found = length.saturating_sub(1);
                            return Err(Malformed::Fields { number, expected, found });
                        }
                        Self::$variant { $( $field: Field::take(&mut from)? ),* }
                    } )*
                    _ => return Err(Malformed::Unknown(number)),
                };
                let rest = bytes.len() - from.position();
                if rest > 0 {
                    return Err(Malformed::Trailing(rest));
                }
                message.check()?;
                Ok(message)
            }
        }
    };
}

messages! {
    /// What the daemon says.
    ToHelper {
        /// The first message.
        1 Hello {
            /// [`VERSION`](crate::limits::VERSION)
            version: u32,
            /// Who speaks, for people.
            name: String,
        },
        /// Gives the helper a key. Answered by [`FromHelper::Identity`].
        2 Identity {
            /// What the daemon calls it.
            identity: u32,
            /// The private keys: for Reticulum X25519, then Ed25519.
            private: [u8; 64],
        },
        /// Makes a name reachable under a key, and tells of others with this name. Answered by
        /// [`FromHelper::Registered`].
        3 Register {
            /// What the daemon calls it.
            destination: u32,
            /// Whose it is.
            identity: u32,
            /// First part of its name.
            app: String,
            /// The other parts.
            aspects: Vec<String>,
        },
        /// Tells everybody in reach of a destination.
        4 Announce {
            /// Which.
            destination: u32,
            /// What to say along with it.
            data: Vec<u8>,
        },
        /// Opens a link. Answered by [`FromHelper::LinkUp`] or [`FromHelper::OpenFailed`].
        5 Open {
            /// What the daemon calls the request.
            request: u64,
            /// Where to.
            address: Address,
            /// Under which of the daemon's keys: shown to the peer, if any.
            identity: Option<u32>,
        },
        /// Sends a packet: it may be lost. Answered by [`FromHelper::Sent`] or [`FromHelper::Failed`].
        6 Packet {
            /// Over which link.
            link: LinkName,
            /// What the daemon calls it.
            number: u64,
            /// The bytes.
            data: Vec<u8>,
        },
        /// Sends a resource: it arrives whole, or not at all. Answered by [`FromHelper::Delivered`] or
        /// [`FromHelper::Failed`].
        7 Resource {
            /// Over which link.
            link: LinkName,
            /// What the daemon calls it.
            number: u64,
            /// Whether compressing may help.
            compress: bool,
            /// The bytes.
            data: Vec<u8>,
        },
        /// Ends a link. Answered by [`FromHelper::LinkDown`].
        8 Close {
            /// Which.
            link: LinkName,
        },
        /// Asks for the interfaces. Answered by [`FromHelper::Interfaces`].
        9 Look {},
        /// The helper is to end in good order.
        10 Bye {},
    }
}

messages! {
    /// What the helper says.
    FromHelper {
        /// The first message.
        1 Hello {
            /// [`VERSION`](crate::limits::VERSION)
            version: u32,
            /// Who speaks, for people.
            name: String,
        },
        /// A key is taken.
        2 Identity {
            /// Which.
            identity: u32,
            /// Its short name in the network.
            hash: Address,
            /// Its public half.
            public: [u8; 64],
        },
        /// A destination can be reached.
        3 Registered {
            /// Which.
            destination: u32,
            /// Where it is.
            address: Address,
        },
        /// Somebody announced a destination whose name is registered. Never one of the helper's own.
        4 Heard {
            /// The daemon's destination with that name.
            destination: u32,
            /// Where it is.
            address: Address,
            /// Whose it is.
            identity: Address,
            /// The public half of that key.
            public: [u8; 64],
            /// What was said along with it.
            data: Vec<u8>,
            /// How far away.
            hops: u8,
            /// Where it came in.
            interface: Option<u32>,
            /// How strong it was, in dBm.
            rssi: Option<i32>,
            /// How clear it was, in tenths of a dB.
            snr: Option<i32>,
        },
        /// A link is there.
        5 LinkUp {
            /// What it is called at both ends.
            link: LinkName,
            /// The request that it answers, if the daemon opened it.
            request: Option<u64>,
            /// The daemon's destination, if somebody else opened it.
            destination: Option<u32>,
            /// The longest packet.
            packet_max: u32,
            /// The longest resource; 0 if there are none.
            resource_max: u32,
            /// Time to the other end and back, in milliseconds.
            rtt_ms: u32,
        },
        /// Whose key is at the other end, proven by the network.
        6 LinkPeer {
            /// Of which link.
            link: LinkName,
            /// The key's short name.
            identity: Address,
            /// Its public half.
            public: [u8; 64],
        },
        /// A link is gone.
        7 LinkDown {
            /// Which.
            link: LinkName,
            /// Whether one of its ends closed it. Else it was lost.
            closed: bool,
            /// Why.
            reason: String,
        },
        /// A link could not be opened.
        8 OpenFailed {
            /// Which request.
            request: u64,
            /// Why.
            reason: String,
        },
        /// A packet came.
        9 Packet {
            /// Over which link.
            link: LinkName,
            /// The bytes.
            data: Vec<u8>,
        },
        /// A packet has left the machine. Whether it arrived is not known.
        10 Sent {
            /// Over which link.
            link: LinkName,
            /// Which.
            number: u64,
        },
        /// A resource has arrived at the other end.
        11 Delivered {
            /// Over which link.
            link: LinkName,
            /// Which.
            number: u64,
        },
        /// A packet or a resource was not sent, or did not arrive.
        12 Failed {
            /// Over which link.
            link: LinkName,
            /// Which.
            number: u64,
            /// Why.
            reason: String,
        },
        /// A resource is coming in.
        13 Incoming {
            /// Over which link.
            link: LinkName,
            /// Bytes or pieces that are here.
            done: u64,
            /// Of so many.
            total: u64,
        },
        /// A resource came.
        14 Resource {
            /// Over which link.
            link: LinkName,
            /// The bytes.
            data: Vec<u8>,
        },
        /// The interfaces, asked for or because something changed.
        15 Interfaces {
            /// All of them.
            interfaces: Vec<Interface>,
        },
        /// Something that was asked for cannot be done, and there is no other answer for it.
        16 Error {
            /// What was asked for.
            about: String,
            /// Why not.
            reason: String,
        },
        /// The helper ends.
        17 Bye {
            /// Why.
            reason: String,
        },
    }
}

/// Something that a helper sends and receives by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// What the helper calls it.
    pub number: u32,
    /// What people call it.
    pub name: String,
    /// Of which kind it is.
    pub kind: String,
    /// Whether it works at the moment.
    pub up: bool,
    /// The longest packet on the air.
    pub mtu: Option<u32>,
    /// Bits per second on the air. A duty cycle can be kept only if that is known.
    pub bitrate: Option<u64>,
    /// Bytes sent since the helper began, with everything around them.
    pub sent_bytes: u64,
    /// Bytes received since the helper began.
    pub received_bytes: u64,
    /// Microseconds sent since the helper began, if the device counts them itself.
    pub airtime_us: Option<u64>,
    /// How strong the last packet was, in dBm.
    pub rssi: Option<i32>,
    /// How clear it was, in tenths of a dB.
    pub snr: Option<i32>,
}

impl Field for Interface {
    fn put(&self, out: &mut Out) {
        let Self { number, name, kind, up, mtu, bitrate, .. } = self;
        sure(out.array(INTERFACE_FIELDS).map(|_| ()));
        number.put(out);
        name.put(out);
        kind.put(out);
        up.put(out);
        mtu.put(out);
        bitrate.put(out);
        self.sent_bytes.put(out);
        self.received_bytes.put(out);
        self.airtime_us.put(out);
        self.rssi.put(out);
        self.snr.put(out);
    }

    fn take(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let found = array_length(from)?;
        if found != INTERFACE_FIELDS {
            return Err(Malformed::Cbor(format!("an interface has {INTERFACE_FIELDS} fields")));
        }
        Ok(Self {
            number: Field::take(from)?,
            name: Field::take(from)?,
            kind: Field::take(from)?,
            up: Field::take(from)?,
            mtu: Field::take(from)?,
            bitrate: Field::take(from)?,
            sent_bytes: Field::take(from)?,
            received_bytes: Field::take(from)?,
            airtime_us: Field::take(from)?,
            rssi: Field::take(from)?,
            snr: Field::take(from)?,
        })
    }
}

/// Fields of an interface.
const INTERFACE_FIELDS: u64 = 11;

fn check_name(link: &LinkName) -> Result<(), Malformed> {
    at_most("a link's name", link.len(), LINK_NAME_BYTES_MAX)
}

impl ToHelper {
    /// Looks at lengths that the type does not say.
    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Announce { data, .. } => at_most("an announce", data.len(), ANNOUNCE_BYTES_MAX),
            Self::Packet { link, data, .. } => {
                check_name(link)?;
                at_most("a packet", data.len(), PACKET_BYTES_MAX)
            }
            Self::Resource { link, data, .. } => {
                check_name(link)?;
                at_most("a resource", data.len(), RESOURCE_BYTES_MAX)
            }
            Self::Close { link } => check_name(link),
            _ => Ok(()),
        }
    }
}

impl FromHelper {
    /// Looks at lengths that the type does not say.
    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Heard { data, .. } => at_most("an announce", data.len(), ANNOUNCE_BYTES_MAX),
            Self::Packet { link, data } => {
                check_name(link)?;
                at_most("a packet", data.len(), PACKET_BYTES_MAX)
            }
            Self::Resource { link, data } => {
                check_name(link)?;
                at_most("a resource", data.len(), RESOURCE_BYTES_MAX)
            }
            Self::LinkUp { link, .. }
            | Self::LinkPeer { link, .. }
            | Self::LinkDown { link, .. }
            | Self::Sent { link, .. }
            | Self::Delivered { link, .. }
            | Self::Failed { link, .. }
            | Self::Incoming { link, .. } => check_name(link),
            _ => Ok(()),
        }
    }
}
