//! Receipts in published lineage (PEL-8): as they are if all that they name is public, else blinded.

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::blind::receipt::{BlindedReceipt, named_by_program, named_by_receipt};
use quipu_core::id::ArtifactId;
use quipu_core::statement::{EdgeKey, End};
use quipu_state::Edge;

use super::Public;
use crate::api::{GENERATED, USED};

/// The type of the internal edges from a receipt to what stands for it in public.
pub const BLINDED: &str = "run.blinded";

/// Reads artifacts whose bytes are here; nothing for others, and for those that are too large for what they
/// should be.
pub type Read<'r> = dyn FnMut(&ArtifactId) -> Option<Vec<u8>> + 'r;

/// The receipt at an edge between one and what its run used or made.
pub fn receipt_of(edge: &EdgeKey) -> Option<ArtifactId> {
    let ends = match &*edge.kind {
        USED => &edge.to,
        GENERATED => &edge.from,
        _ => return None,
    };
    match ends[..] {
        [End::Artifact(receipt)] => Some(receipt),
        _ => None,
    }
}

/// The receipts among edges that may be published as they are: program, modules and inputs are public, so
/// everything else in them can be found out by running the program.
pub fn as_they_are(edges: &[Edge], public: &Public, read: &mut Read<'_>) -> BTreeSet<ArtifactId> {
    let receipts: BTreeSet<ArtifactId> =
        edges.iter().filter_map(|edge| receipt_of(&edge.key)).collect();
    let is_public = |key: &ArtifactId| public.may_name(&End::Artifact(*key));
    let mut fits = |receipt: &ArtifactId| {
        let (program, inputs) = named_by_receipt(&read(receipt)?)?;
        let modules = is_public(&program).then(|| named_by_program(&read(&program)?)).flatten()?;
        Some(inputs.iter().chain(&modules).all(is_public))
    };
    receipts
        .into_iter()
        .filter(|receipt| !is_public(receipt) && fits(receipt) == Some(true))
        .collect()
}

/// What stands for receipts in public, by receipt.
pub type Blinded = BTreeMap<ArtifactId, BlindedReceipt>;

/// Blinds the receipts among edges that may not be named. Those whose bytes are not here stay commitments.
pub(super) fn blinded(
    edges: &[Edge],
    public: &Public,
    read: &mut Read<'_>,
    show: &mut dyn FnMut(&End) -> End,
) -> Blinded {
    let receipts: BTreeSet<ArtifactId> =
        edges.iter().filter_map(|edge| receipt_of(&edge.key)).collect();
    let hidden = receipts.into_iter().filter(|key| !public.may_name(&End::Artifact(*key)));
    hidden
        .filter_map(|receipt| {
            let bytes = read(&receipt)?;
            Some((receipt, BlindedReceipt::of(&bytes, |key| show(&End::Artifact(key)))?))
        })
        .collect()
}
