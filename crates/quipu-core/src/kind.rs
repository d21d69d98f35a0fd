//! The kinds that quipu itself gives a meaning to. Everybody else's kinds are opaque.

/// The root event R.
pub const DOMAIN_CREATE: &str = "domain.create";
/// Makes a machine a member, or changes its role.
pub const MEMBER_ADD: &str = "member.add";
/// Removes a member.
pub const MEMBER_REMOVE: &str = "member.remove";
/// Hands the author's membership over to another key.
pub const MEMBER_REPLACE: &str = "member.replace";
/// Lets events of a removed member count again, up to one of them.
pub const MEMBER_READMIT: &str = "member.readmit";
/// Announces the public half of an invitation ticket.
pub const INVITE_CREATE: &str = "invite.create";
/// Lets a machine write to the published log, or appoints one that decides about it.
pub const PUBLISHER_ADD: &str = "publisher.add";
/// Ends that.
pub const PUBLISHER_REMOVE: &str = "publisher.remove";
/// Hands the author's part in the published log over to another key.
pub const PUBLISHER_REPLACE: &str = "publisher.replace";
/// Lets events of a removed publisher count again, up to one of them.
pub const PUBLISHER_READMIT: &str = "publisher.readmit";
/// Says who may read the published log.
pub const PUBLISHER_ACCESS: &str = "publisher.access";
/// Erases the payload of another event.
pub const PAYLOAD_ERASE: &str = "payload.erase";
/// Only brings leaves together.
pub const MERGE: &str = "merge";
/// Says that an artifact exists: its key, size and perhaps type.
pub const ARTIFACT_PUT: &str = "artifact.put";
/// Says that an artifact of another domain is used here: its key, size, type, and where it was published.
pub const ARTIFACT_IMPORT: &str = "artifact.import";
/// Shadows an artifact.
pub const ARTIFACT_TOMBSTONE: &str = "artifact.tombstone";
/// Keeps an artifact's bytes from being collected.
pub const ARTIFACT_PIN: &str = "artifact.pin";
/// Lets go of them again.
pub const ARTIFACT_UNPIN: &str = "artifact.unpin";
/// Adds an edge to the trace graph.
pub const EDGE_ADD: &str = "edge.add";
/// Shadows an edge.
pub const EDGE_TOMBSTONE: &str = "edge.tombstone";
/// Decides between claims that disagree.
pub const CONFLICT_RESOLVE: &str = "conflict.resolve";
/// Names a cut, its past, and the root of the state there.
pub const SNAPSHOT_CREATE: &str = "snapshot.create";
/// Lets go of a snapshot.
pub const SNAPSHOT_DROP: &str = "snapshot.drop";

/// Says, in the internal log, that an artifact is published, and in which published snapshot.
pub const ARTIFACT_PUBLISH: &str = "artifact.publish";
/// Remembers, in the internal log, what the commitments of a publication stand for.
pub const PUBLICATION_RECORD: &str = "publication.record";
/// Remembers, in the internal log, that another domain's published log is kept here.
pub const DOMAIN_FOLLOW: &str = "domain.follow";

/// Says that a receipt was made of a run.
pub const RECEIPT_ANNOUNCE: &str = "receipt.announce";
/// Says, in the internal log, whose receipts count when several are asked for.
pub const RECEIPT_ROSTER: &str = "receipt.roster";
/// Asks, in the internal log, for a program to be run.
pub const RUN_REQUEST: &str = "run.request";
/// Says, in the internal log, that a machine works on a step.
pub const RUN_CLAIM: &str = "run.claim";
/// Says, in the internal log, what a machine offers to runs.
pub const RUN_OFFER: &str = "run.offer";
/// Creates a record, or says its form again.
pub const RECORD_CREATE: &str = "record.create";
/// Sets a field of a record.
pub const RECORD_SET: &str = "record.set";
/// Adds a note to a record.
pub const RECORD_NOTE: &str = "record.note";
/// Attaches an artifact to a field of a record.
pub const RECORD_ATTACH: &str = "record.attach";
/// Names the Reticulum identity under which the author's records go to a mesh.
pub const MESH_IDENTITY: &str = "mesh.identity";
/// Says, in meshes and here, what no other kind can: any kind and payload of a mesh.
pub const MESH_EMIT: &str = "mesh.emit";
/// Says whose events of meshes count. Takes an admin.
pub const MESH_POLICY: &str = "mesh.policy";
/// Says whether an author in meshes is trusted, and which identity has to sign for it.
pub const MESH_TRUST: &str = "mesh.trust";
/// Carries that identity's signatures over what the author's records became there.
pub const MESH_SIGN: &str = "mesh.sign";
/// Carries an event of a mesh, word for word.
pub const MESH_EVENT: &str = "mesh.event";

/// First words of dotted names that are reserved for quipu.
const RESERVED: &[&str] = &[
    "domain",
    "member",
    "invite",
    "payload",
    "merge",
    "publisher",
    "publication",
    "snapshot",
    "artifact",
    "edge",
    "conflict",
    "receipt",
    "run",
    "mesh",
    "quipu",
];

/// Whether the payload of this kind may be erased. What gives the state its shape may not: with it
/// gone, machines could no longer agree on what is visible.
pub fn is_erasable(kind: &str) -> bool {
    !is_structural(kind)
        && !matches!(
            kind,
            ARTIFACT_PUT
                | ARTIFACT_IMPORT
                | ARTIFACT_PUBLISH
                | ARTIFACT_TOMBSTONE
                | ARTIFACT_PIN
                | ARTIFACT_UNPIN
                | EDGE_ADD
                | EDGE_TOMBSTONE
                | CONFLICT_RESOLVE
                | SNAPSHOT_CREATE
                | SNAPSHOT_DROP
                | PUBLICATION_RECORD
                | DOMAIN_FOLLOW
                | RECEIPT_ANNOUNCE
                | RUN_REQUEST
                | RUN_CLAIM
                | RUN_OFFER
                | MESH_IDENTITY
                | MESH_POLICY
                | MESH_TRUST
                | MESH_SIGN
        )
}

/// Whether events of this kind decide who may do what, or what others show: they are read when a
/// machine starts.
pub fn is_structural(kind: &str) -> bool {
    matches!(
        kind,
        DOMAIN_CREATE
            | MEMBER_ADD
            | MEMBER_REMOVE
            | MEMBER_REPLACE
            | MEMBER_READMIT
            | INVITE_CREATE
            | PAYLOAD_ERASE
            | PUBLISHER_ADD
            | PUBLISHER_REMOVE
            | PUBLISHER_REPLACE
            | PUBLISHER_READMIT
            | PUBLISHER_ACCESS
            | RECEIPT_ROSTER
    )
}

/// Whether only quipu's own commands may emit this kind.
pub fn is_reserved(kind: &str) -> bool {
    let first = kind.split('.').next().unwrap_or_default();
    RESERVED.contains(&first)
}
