//! This machine in meshes of meshlogd: its Reticulum identity, and whose
//! events count (MESH-3, MESH-5).

use quipu_meshlog::identity::{IDENTITY_BYTES, Identity, PublicIdentity};
use quipu_meshlog::native::{Claim, Said, Trust};
use quipu_meshlog::policy::Policy;
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
        self.tell_one(&Said::Identity(claim))?;
        self.sign_records();
        Ok(sink(shown)?)
    }

    /// The policy, then what is known of authors.
    pub(super) fn mesh_trusted(&self, sink: Sink<'_>) -> Result<(), ApiError> {
        let view = self.view(None)?;
        sink(json!({ "policy": view.context().policy().name() }))?;
        for (author, key) in view.context().known() {
            let public = key.map(|key| data_encoding::HEXLOWER.encode(&key.to_bytes()));
            let identity = key.map(|key| key.author().to_string());
            sink(json!({
                "author": author.to_string(), "trusted": key.is_some(),
                "identity": identity, "public_key": public,
            }))?;
        }
        Ok(())
    }

    pub(super) fn mesh_policy(&self, policy: &str, sink: Sink<'_>) -> Result<(), ApiError> {
        let policy = Policy::from_name(policy).ok_or_else(|| {
            let names: Vec<&str> = Policy::ALL.iter().map(|(_, name)| *name).collect();
            ApiError::misuse(format!("{policy:?} is no policy")).hint(names.join(", "))
        })?;
        self.check_admin("decides about meshes")?;
        let uuid = self.tell_one(&Said::Policy(policy))?;
        Ok(sink(json!({ "policy": policy.name(), "uuid": uuid }))?)
    }

    pub(super) fn mesh_trust(
        &self,
        author: String,
        public_key: Option<&str>,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let identity = public_key.map(identity_of).transpose()?;
        self.check_admin("decides whom to trust in meshes")?;
        let said = Said::Trust(Trust { author: author.clone(), identity });
        let uuid = self.tell_one(&said)?;
        Ok(sink(json!({ "author": author, "trusted": public_key.is_some(), "uuid": uuid }))?)
    }

    /// What others would not count, nobody should believe to have said.
    fn check_admin(&self, what: &str) -> Result<(), ApiError> {
        if self.handle.admins()?.contains(&self.node) {
            return Ok(());
        }
        Err(ApiError::refused(format!("this machine is no admin of the domain: an admin {what}"))
            .hint("quipu members"))
    }

    fn tell_one(&self, said: &Said) -> Result<String, ApiError> {
        let said = said.to_value().map_err(|error| ApiError::refused(error.to_string()))?;
        let events = self.tell(vec![said])?;
        Ok(events.first().map(|event| event.id.to_string()).unwrap_or_default())
    }
}

fn claim_json(claim: &Claim) -> Value {
    json!({
        "identity": claim.identity.author().to_string(),
        "public_key": data_encoding::HEXLOWER.encode(&claim.identity.to_bytes()),
        "signed": claim.signed,
    })
}

fn identity_of(text: &str) -> Result<PublicIdentity, ApiError> {
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.and_then(|bytes| PublicIdentity::from_bytes(&bytes)).ok_or_else(|| {
        ApiError::misuse("a public key of Reticulum has 128 hexadecimal digits in lower case")
            .hint("quipu mesh identity, on the machine whose key it is")
    })
}
