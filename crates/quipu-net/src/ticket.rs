//! Tickets: all that a machine needs to reach a domain, as one word to copy.
//!
//! The text is `quipu1` and base32 (RFC 4648, lower case, no padding) of:
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 | version, 1 |
//! | 32 | domain |
//! | 32 | node |
//! | 1 | 1 if an invite follows, else 0 |
//! | 0 or 32 | invite |
//! | 1 | number of addresses |
//! | 7 or 19 each | 4 or 6, the octets of the IP address, the port (little endian) |
//! | 4 | the first bytes of BLAKE3 over all before |
//!
//! The version comes first and the checksum last in every version, so that a damaged ticket can be
//! told from a new one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;

/// What every ticket starts with.
pub const PREFIX: &str = "quipu1";

/// Addresses in a ticket; more are left out of the text. A machine rarely has a dozen, and a
/// ticket should fit in a chat line or a QR code.
pub const ADDRS_MAX: usize = 32;

const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;
const TAG_V4: u8 = 4;
const TAG_V6: u8 = 6;

/// The way to a domain: which one, through which node, where that is, and by what right.
///
/// The text form is the secret itself if there is an invite; `Debug` never shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The id of the domain.
    pub domain: [u8; 32],
    /// The Ed25519 public key of the node to dial.
    pub node: [u8; 32],
    /// Where the node may be found. The text keeps the first [`ADDRS_MAX`], and of each the IP
    /// address and port: flow labels and interface scopes mean nothing on another machine.
    pub addrs: Vec<SocketAddr>,
    /// The seed of the one-time key that lets its holder join, if this ticket invites.
    pub invite: Option<[u8; 32]>,
}

/// What is wrong with the text of a ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not start like a ticket.
    #[error("not a ticket: it does not start with \"quipu1\"")]
    NotATicket,
    /// It starts like a ticket, but the checksum says that something is missing or changed.
    #[error("the ticket was cut or mistyped: copy it again, whole")]
    Damaged,
    /// It is whole, but of a version that this program does not know.
    #[error("the ticket is of version {version}, this program knows only version 1")]
    UnknownVersion {
        /// The version it has.
        version: u8,
    },
    /// It is whole and of a known version, but no such ticket is ever written.
    #[error("the ticket is malformed: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |id: &[u8; 32]| data_encoding::HEXLOWER.encode(&id[..6]);
        f.debug_struct("Ticket")
            .field("domain", &short(&self.domain))
            .field("node", &short(&self.node))
            .field("addrs", &self.addrs)
            .field("invite", &self.invite.map(|_| "secret"))
            .finish()
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        f.write_str(&BASE32_NOPAD.encode(&self.encode()).to_ascii_lowercase())
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    /// Reads a ticket; white space around it is ignored, nothing else is.
    fn from_str(text: &str) -> Result<Self, TicketError> {
        let digits = text.trim_ascii().strip_prefix(PREFIX).ok_or(TicketError::NotATicket)?;
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(TicketError::Damaged);
        }
        let bytes = BASE32_NOPAD
            .decode(digits.to_ascii_uppercase().as_bytes())
            .map_err(|_| TicketError::Damaged)?;
        let body = checked(&bytes).ok_or(TicketError::Damaged)?;
        match body.split_first() {
            None => Err(TicketError::Damaged),
            Some((&VERSION, rest)) => decode(Reader { rest }),
            Some((&version, _)) => Err(TicketError::UnknownVersion { version }),
        }
    }
}

impl Ticket {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.domain);
        out.extend_from_slice(&self.node);
        out.push(u8::from(self.invite.is_some()));
        out.extend_from_slice(self.invite.as_ref().map_or(&[], |seed| seed.as_slice()));
        let addrs = &self.addrs[..self.addrs.len().min(ADDRS_MAX)];
        out.push(addrs.len() as u8);
        for addr in addrs {
            match addr.ip() {
                IpAddr::V4(ip) => {
                    out.push(TAG_V4);
                    out.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    out.push(TAG_V6);
                    out.extend_from_slice(&ip.octets());
                }
            }
            out.extend_from_slice(&addr.port().to_le_bytes());
        }
        let checksum = checksum(&out);
        out.extend_from_slice(&checksum);
        out
    }
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, ..] = *blake3::hash(body).as_bytes();
    [a, b, c, d]
}

/// The bytes before the checksum, if that is right.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (body, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    (checksum(body) == *sum).then_some(body)
}

/// What is left to read.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], TicketError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(TicketError::Malformed { what: "too short" })?;
        self.rest = rest;
        Ok(*head)
    }

    fn addr(&mut self) -> Result<SocketAddr, TicketError> {
        let ip = match self.take()? {
            [TAG_V4] => IpAddr::V4(Ipv4Addr::from(self.take::<4>()?)),
            [TAG_V6] => IpAddr::V6(Ipv6Addr::from(self.take::<16>()?)),
            _ => return Err(TicketError::Malformed { what: "unknown kind of address" }),
        };
        Ok(SocketAddr::new(ip, u16::from_le_bytes(self.take()?)))
    }
}

fn decode(mut reader: Reader<'_>) -> Result<Ticket, TicketError> {
    let domain = reader.take()?;
    let node = reader.take()?;
    let invite = match reader.take()? {
        [0] => None,
        [1] => Some(reader.take()?),
        _ => return Err(TicketError::Malformed { what: "invite mark is neither 0 nor 1" }),
    };
    let [count] = reader.take()?;
    if usize::from(count) > ADDRS_MAX {
        return Err(TicketError::Malformed { what: "too many addresses" });
    }
    let addrs = (0..count).map(|_| reader.addr()).collect::<Result<_, _>>()?;
    if !reader.rest.is_empty() {
        return Err(TicketError::Malformed { what: "bytes left over" });
    }
    Ok(Ticket { domain, node, addrs, invite })
}
