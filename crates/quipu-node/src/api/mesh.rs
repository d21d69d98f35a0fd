//! This machine in meshes of meshlogd: its Reticulum identity (MESH-3, MESH-5).

use quipu_meshlog::identity::{IDENTITY_BYTES, Identity};
use quipu_meshlog::native::{Claim, Said};
use serde_json::{Value, json};

use super::write::fill_random;
use super::{Api, ApiError, Sink};

impl Api {
    /// Shows this machine's identity; makes one first if that is wanted and there is none.
    ///
    /// The secret is kept before the log tells of it, so a crash in between leaves a secret that nobody has heard
    /// of, and the next attempt uses it.
    pub(super) fn mesh_identity(
        &self,
        make: bool,
        signed: bool,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let node = self.node;
        if let Some(claim) = self.view(None)?.context().claim_of(&node) {
            if signed && !claim.signed {
                let message = "this machine's identity was made without signatures, for good";
                return Err(ApiError::refused(message)
                    .hint("another machine can have an identity that signs"));
            }
            return Ok(sink(claim_json(claim))?);
        }
        if !make {
            let message = "this machine has no identity in meshes";
            return Err(ApiError::not_found(message).hint("quipu mesh identity"));
        }
        let mut fresh = [0; IDENTITY_BYTES];
        fill_random(&mut fresh)?;
        let kept = self.handle.call(move |machine| machine.home().keep_mesh_identity(&fresh))??;
        let claim = Claim::new(&Identity::from_bytes(&kept), &node, signed);
        let shown = claim_json(&claim);
        let said = Said::Identity(claim)
            .to_value()
            .map_err(|error| ApiError::refused(error.to_string()))?;
        self.tell(vec![said])?;
        Ok(sink(shown)?)
    }
}

fn claim_json(claim: &Claim) -> Value {
    json!({
        "identity": claim.identity.author().to_string(),
        "public_key": data_encoding::HEXLOWER.encode(&claim.identity.to_bytes()),
        "signed": claim.signed,
    })
}
