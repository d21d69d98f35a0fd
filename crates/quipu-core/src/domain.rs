//! A domain: its root event R, the parameters that R fixes, and the roles that events give.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::v1;
use crate::event::{Draft, Event, Log, LogSeq, Parents, Position};
use crate::id::{DomainId, EventId, NodeKey};
use crate::kind;
use crate::limits::{PARENTS_MAX, SALT_BYTES_MAX};
use crate::value::{self, Value};

/// What R fixes for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// What people call the domain. Not unique.
    pub name: String,
    /// The most parents an event may name (2 to 128).
    pub parents_max: usize,
    /// Length of the salt in payload blocks (0 to 32; 0 only where every byte on the air counts).
    pub salt_bytes: usize,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { name: String::new(), parents_max: PARENTS_MAX, salt_bytes: 8 }
    }
}

/// The longest name of a domain, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Why an event is not a root event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a root event: {0}")]
pub struct RootError(&'static str);

impl Parameters {
    fn to_value(&self) -> Value {
        Value::map([
            ("name", Value::from(self.name.as_str())),
            ("parents_max", Value::from(self.parents_max as u64)),
            ("salt_bytes", Value::from(self.salt_bytes as u64)),
        ])
    }

    /// Draws up a root event. It is unsigned; sign it with [`crate::event::sign_own`].
    pub fn root(&self, founder: NodeKey, logseq: LogSeq, salt: &[u8]) -> Event {
        let payload = block_of(&self.to_value(), salt);
        let draft = Draft { log: Log::Internal, kind: Arc::from(kind::DOMAIN_CREATE), payload };
        let parents = Parents::new();
        let at = Position { author: founder, seq: 1, prev: None, parents, logseq };
        draft.place(at, &DomainId::default())
    }

    /// Reads the parameters out of a root event.
    ///
    /// # Errors
    /// The first thing that a root event must have and this one has not.
    pub fn of_root(event: &Event) -> Result<Self, RootError> {
        let head = &event.header.head;
        if !head.is_root() || head.seq != 1 || head.log != Log::Internal {
            return Err(RootError("it has links, or a place that is not the first"));
        }
        if &*head.kind != kind::DOMAIN_CREATE {
            return Err(RootError("its kind is not domain.create"));
        }
        let block = event.payload.as_ref().ok_or(RootError("its payload is missing"))?;
        let salt = v1::split_payload(block).ok_or(RootError("its payload has no salt"))?.0;
        let value = value::decode(v1::payload_value(block))
            .map_err(|_| RootError("its payload is not canonical"))?;
        let number = |name| value.get(name).and_then(Value::as_u64).map(|n| n as usize);
        let parameters = Self {
            name: value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
            parents_max: number("parents_max").ok_or(RootError("parents_max is missing"))?,
            salt_bytes: number("salt_bytes").ok_or(RootError("salt_bytes is missing"))?,
        };
        if !(2..=PARENTS_MAX).contains(&parameters.parents_max)
            || parameters.salt_bytes > SALT_BYTES_MAX
            || parameters.salt_bytes != salt.len()
            || parameters.name.len() > NAME_BYTES_MAX
        {
            return Err(RootError("a parameter is out of its range"));
        }
        Ok(parameters)
    }
}

/// A payload block from a value.
pub fn block_of(value: &Value, salt: &[u8]) -> Bytes {
    let mut bytes = Vec::new();
    value::encode(value, &mut bytes);
    v1::payload_block(salt, &bytes)
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Receives and relays everything, writes nothing.
    Reader,
    /// Also writes.
    Writer,
    /// Also decides who is a member.
    Admin,
}

impl Role {
    /// All roles, from the least to the most entitled.
    pub const ALL: [Role; 3] = [Role::Reader, Role::Writer, Role::Admin];

    /// The word used in payloads, on the command line and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Writer => "writer",
            Role::Admin => "admin",
        }
    }

    /// The role with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// What a structural event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// `member.add`
    Add {
        /// The new member.
        node: NodeKey,
        /// What it may do.
        role: Role,
        /// The invitation it came with.
        invite: Option<NodeKey>,
    },
    /// `member.remove`
    Remove {
        /// Who is no longer a member.
        node: NodeKey,
    },
    /// `member.replace`
    Replace {
        /// The key that takes the place of the author's.
        node: NodeKey,
        /// What it may do: no more than the author.
        role: Role,
    },
    /// `member.readmit`
    Readmit {
        /// Whose events.
        node: NodeKey,
        /// The last of them that counts again.
        upto: EventId,
    },
    /// `invite.create`
    Invite(Invitation),
    /// `payload.erase`
    Erase {
        /// The event whose payload goes.
        target: EventId,
        /// Why, for people.
        reason: String,
    },
    /// `publisher.access`
    Access(Access),
}

/// Who may read a published log, besides those who may write to it and the members of the domain of
/// the machine that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everybody who knows the domain's id and reaches a machine that holds the log.
    Open,
    /// Only some.
    Only {
        /// These machines, sorted, each once.
        nodes: Vec<NodeKey>,
        /// These domains, sorted, each once: the machines that their own published logs name, which pass
        /// it on to the others of their domain. Whoever holds the log must keep theirs to know them.
        domains: Vec<DomainId>,
    },
}

/// The most machines and domains in one [`Access::Only`]: the payload stays below 64 KiB.
pub const ACCESS_ENTRIES_MAX: usize = 1_200;

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort_unstable();
    list.dedup();
    list
}

impl Access {
    /// Access for some machines and domains.
    pub fn only(nodes: Vec<NodeKey>, domains: Vec<DomainId>) -> Self {
        Access::Only { nodes: sorted(nodes), domains: sorted(domains) }
    }

    /// Whether a machine may read, by its own key.
    pub fn allows(&self, node: &NodeKey) -> bool {
        match self {
            Access::Open => true,
            Access::Only { nodes, .. } => nodes.binary_search(node).is_ok(),
        }
    }

    /// The domains that may read.
    pub fn domains(&self) -> &[DomainId] {
        match self {
            Access::Open => &[],
            Access::Only { domains, .. } => domains,
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Access::Open => Value::map([("open", Value::from(true))]),
            Access::Only { nodes, domains } => {
                let nodes = Value::list(nodes.iter().map(|node| &node.0[..]));
                let domains = Value::list(domains.iter().copied().map(EventId::from));
                Value::map([("nodes", nodes), ("domains", domains), ("open", Value::from(false))])
            }
        }
    }

    fn of_value(value: &Value) -> Option<Self> {
        if value.get("open")?.as_bool()? {
            return Some(Access::Open);
        }
        let node = |item: &Value| NodeKey::from_slice(item.as_bytes()?);
        let domain = |item: &Value| Some(DomainId(item.as_link()?.digest(EventId::PREFIX)?));
        let nodes = value.get("nodes")?.as_list()?.iter().map(node).collect::<Option<Vec<_>>>()?;
        let domains = value.get("domains")?.as_list()?;
        let domains = domains.iter().map(domain).collect::<Option<Vec<_>>>()?;
        let rising = nodes.windows(2).all(|pair| pair[0] < pair[1])
            && domains.windows(2).all(|pair| pair[0] < pair[1]);
        let fits = nodes.len() + domains.len() <= ACCESS_ENTRIES_MAX;
        (rising && fits).then_some(Access::Only { nodes, domains })
    }
}

/// The public part of an invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Public half of the key in the ticket.
    pub key: NodeKey,
    /// Role of whoever is admitted.
    pub role: Role,
    /// Milliseconds since 1970 after which no admin admits anybody with it.
    pub expires_ms: u64,
    /// How many machines may be admitted with it.
    pub uses_max: u64,
}

fn key_value(key: &NodeKey) -> Value {
    Value::from(key.to_string().as_str())
}

impl Decision {
    /// The kind and the payload value that say this in a log. Invitations and erasures have no meaning in
    /// the published one, nor access in the internal one: see [`Self::is_of`].
    pub fn to_value(&self, log: Log) -> (&'static str, Value) {
        let internal = log == Log::Internal;
        match self {
            Decision::Add { node, role, invite: None } => (
                if internal { kind::MEMBER_ADD } else { kind::PUBLISHER_ADD },
                Value::map([("node", key_value(node)), ("role", Value::from(role.name()))]),
            ),
            Decision::Add { node, role, invite: Some(invite) } => (
                kind::MEMBER_ADD,
                Value::map([
                    ("node", key_value(node)),
                    ("role", Value::from(role.name())),
                    ("invite", key_value(invite)),
                ]),
            ),
            Decision::Remove { node } => {
                let kind = if internal { kind::MEMBER_REMOVE } else { kind::PUBLISHER_REMOVE };
                (kind, Value::map([("node", key_value(node))]))
            }
            Decision::Replace { node, role } => (
                if internal { kind::MEMBER_REPLACE } else { kind::PUBLISHER_REPLACE },
                Value::map([("node", key_value(node)), ("role", Value::from(role.name()))]),
            ),
            Decision::Readmit { node, upto } => (
                if internal { kind::MEMBER_READMIT } else { kind::PUBLISHER_READMIT },
                Value::map([("node", key_value(node)), ("upto", Value::from(*upto))]),
            ),
            Decision::Invite(invitation) => (
                kind::INVITE_CREATE,
                Value::map([
                    ("key", key_value(&invitation.key)),
                    ("role", Value::from(invitation.role.name())),
                    ("expires_ms", Value::from(invitation.expires_ms)),
                    ("uses_max", Value::from(invitation.uses_max)),
                ]),
            ),
            Decision::Erase { target, reason } => (
                kind::PAYLOAD_ERASE,
                Value::map([
                    ("target", Value::from(*target)),
                    ("reason", Value::from(reason.as_str())),
                ]),
            ),
            Decision::Access(access) => (kind::PUBLISHER_ACCESS, access.to_value()),
        }
    }

    /// Whether this is a decision that the log's events can take.
    pub fn is_of(&self, log: Log) -> bool {
        match self {
            Decision::Add { invite, .. } => log == Log::Internal || invite.is_none(),
            Decision::Remove { .. } | Decision::Replace { .. } | Decision::Readmit { .. } => true,
            Decision::Invite(_) | Decision::Erase { .. } => log == Log::Internal,
            Decision::Access(_) => log == Log::Published,
        }
    }

    /// What an event decides, if it is of a structural kind and well formed. A malformed one is
    /// data without effect: it must stay valid, because later events link to it.
    pub fn of_event(event: &Event) -> Option<Self> {
        if !kind::is_structural(&event.header.kind) {
            return None;
        }
        let value = value::decode(event.payload_value()?).ok()?;
        let key = |name| value.get(name)?.as_str()?.parse::<NodeKey>().ok();
        let role = || Role::from_name(value.get("role")?.as_str()?);
        let of_log =
            |published| event.header.log == if published { Log::Published } else { Log::Internal };
        let kind = &*event.header.kind;
        if !of_log(kind.starts_with("publisher.")) {
            return None;
        }
        match kind {
            kind::PUBLISHER_ADD => {
                Some(Decision::Add { node: key("node")?, role: role()?, invite: None })
            }
            kind::PUBLISHER_REMOVE => Some(Decision::Remove { node: key("node")? }),
            kind::PUBLISHER_ACCESS => Access::of_value(&value).map(Decision::Access),
            kind::MEMBER_ADD => {
                let invite = match value.get("invite") {
                    None => None,
                    Some(_) => Some(key("invite")?),
                };
                Some(Decision::Add { node: key("node")?, role: role()?, invite })
            }
            kind::MEMBER_REMOVE => Some(Decision::Remove { node: key("node")? }),
            kind::MEMBER_REPLACE | kind::PUBLISHER_REPLACE => {
                Some(Decision::Replace { node: key("node")?, role: role()? })
            }
            kind::MEMBER_READMIT | kind::PUBLISHER_READMIT => {
                let upto = value.get("upto")?.as_link()?.digest(EventId::PREFIX)?;
                Some(Decision::Readmit { node: key("node")?, upto: EventId(upto) })
            }
            kind::INVITE_CREATE => Some(Decision::Invite(Invitation {
                key: key("key")?,
                role: role()?,
                expires_ms: value.get("expires_ms")?.as_u64()?,
                uses_max: value.get("uses_max")?.as_u64()?,
            })),
            kind::PAYLOAD_ERASE => {
                let target = value.get("target")?.as_link()?.digest(EventId::PREFIX)?;
                let reason = value.get("reason").and_then(Value::as_str).unwrap_or_default();
                Some(Decision::Erase { target: EventId(target), reason: reason.to_owned() })
            }
            _ => None,
        }
    }
}
