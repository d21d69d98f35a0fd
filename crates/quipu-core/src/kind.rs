//! The kinds that quipu itself gives a meaning to. Everybody else's kinds are opaque.

/// The root event R.
pub const DOMAIN_CREATE: &str = "domain.create";
/// Makes a machine a member, or changes its role.
pub const MEMBER_ADD: &str = "member.add";
/// Removes a member.
pub const MEMBER_REMOVE: &str = "member.remove";
/// Announces the public half of an invitation ticket.
pub const INVITE_CREATE: &str = "invite.create";
/// Erases the payload of another event.
pub const PAYLOAD_ERASE: &str = "payload.erase";
/// Only brings leaves together.
pub const MERGE: &str = "merge";

/// First words of dotted names that are reserved for quipu.
const RESERVED: &[&str] =
    &["domain", "member", "invite", "payload", "merge", "publisher", "snapshot", "quipu"];

/// Whether events of this kind decide who may do what, or what others show: they are read when a
/// machine starts, and their payloads cannot be erased.
pub fn is_structural(kind: &str) -> bool {
    matches!(kind, DOMAIN_CREATE | MEMBER_ADD | MEMBER_REMOVE | INVITE_CREATE | PAYLOAD_ERASE)
}

/// Whether only quipu's own commands may emit this kind.
pub fn is_reserved(kind: &str) -> bool {
    let first = kind.split('.').next().unwrap_or_default();
    RESERVED.contains(&first)
}
