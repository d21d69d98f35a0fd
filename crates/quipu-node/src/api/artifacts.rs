//! The bytes of artifacts: put, found, fetched, collected.

use quipu_core::event::Log;
use quipu_core::id::ArtifactId;
use quipu_core::node::{Command, CommandError, Reply};
use quipu_core::statement::{Claim, Statement, TAG_BYTES_MAX};
use quipu_state::Artifact;
use serde_json::{Value, json};

use super::at::state;
use super::data::{artifact_json, find_artifact};
use super::{Api, ApiError, ExitCode, Sink};
use crate::service::{Machine, ServiceError};

/// Artifacts named in one answer about collected ones.
const FREED_MAX: usize = 100_000;

impl Api {
    /// Moves what the client has imported to its place, and tells the domain of it. A claim that is
    /// made already is not made again.
    pub(super) fn put(
        &self,
        import: &str,
        key: &str,
        size: u64,
        type_tag: Option<String>,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let key: ArtifactId = key.parse().map_err(|error| ApiError::misuse(format!("{error}")))?;
        if type_tag.as_ref().is_some_and(|tag| tag.is_empty() || tag.len() > TAG_BYTES_MAX) {
            return Err(ApiError::refused(format!("a type has 1 to {TAG_BYTES_MAX} bytes")));
        }
        let (claim, import) = (Claim { key, size, type_tag }, import.to_owned());
        let wanted = claim.clone();
        self.handle.call(move |machine| machine.adopt_artifact(&import, &key, size))??;
        let known = self.read(move |machine| {
            let artifact = state(machine)?.current().artifact(&key)?;
            let known = artifact.as_ref().is_some_and(|artifact| says(artifact, &wanted));
            match artifact.as_ref().is_some_and(is_sealed) && !known {
                true => Err(sealed_error(&wanted)),
                false => Ok(known),
            }
        });
        let result = match known {
            Ok(true) => Ok(None),
            Ok(false) => self.say(Statement::Put(claim)).map(Some),
            Err(error) => Err(error),
        };
        self.handle.call(move |machine| machine.let_go_of_artifact(&key))?;
        let event = result?;
        let mut row = self.read(move |machine| {
            let artifact = state(machine)?.current().artifact(&key)?;
            let row = artifact.as_ref().map(|one| artifact_json(Log::Internal, one));
            Ok(row.unwrap_or_else(|| json!({})))
        })?;
        row["have"] = true.into();
        row["new"] = event.is_some().into();
        if let Some(event) = event {
            row["uuid"] = event.id.to_string().into();
        }
        Ok(sink(row)?)
    }

    /// What is known of an artifact, and whether its bytes are here.
    pub(super) fn locate(&self, key: &str, sink: Sink<'_>) -> Result<(), ApiError> {
        let text = key.to_owned();
        Ok(sink(self.read(move |machine| located(machine, &text))?)?)
    }

    /// Gets an artifact's bytes from a peer, if they are not here.
    pub(super) fn fetch(&self, key: &str, sink: Sink<'_>) -> Result<(), ApiError> {
        let text = key.to_owned();
        let (key, have) = self.read(move |machine| {
            let found = located(machine, &text)?;
            let key = find_artifact(machine, &text)?;
            Ok((key, found["have"] == true))
        })?;
        if !have && !self.fetch_elsewhere(key)? {
            // Without a daemon nobody is linked: all known peers are asked, one after the other.
            let linked = self.read(|machine| Ok(!machine.driver.node().peers().is_empty()))?;
            let fetched = if self.focus.is_some() {
                let why = quipu_core::node::FetchFailure::Lacking;
                Err(CommandError::NotFetched { key, why }.into())
            } else if linked {
                self.handle.command(Command::Fetch { key })
            } else {
                self.fetch_from_known(key)
            };
            match fetched {
                Ok(Reply::Fetched { .. }) => {}
                Ok(other) => {
                    return Err(ApiError::new(ExitCode::Bug, format!("unexpected {other:?}")));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let value = self.read(move |machine| located(machine, &key.to_string()))?;
        Ok(sink(value)?)
    }

    /// Gets the bytes of what another domain published. Answers whether they are here.
    fn fetch_elsewhere(&self, key: ArtifactId) -> Result<bool, ApiError> {
        if let Some(domain) = self.focus {
            self.fetch_published(domain, key);
            return self.read(move |machine| Ok(machine.has_artifact(&key)?));
        }
        let domains = self.read(move |machine| {
            let artifact = state(machine)?.current().artifact(&key)?;
            let origins = artifact.iter().flat_map(|one| &one.candidates);
            let mut domains: Vec<_> = origins.filter_map(|one| one.origin).collect();
            domains.retain(|origin| machine.keeps_published(&origin.domain));
            Ok(domains)
        })?;
        for origin in domains {
            if self.import_bytes(origin.domain, key)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn fetch_from_known(&self, key: ArtifactId) -> Result<Reply, ServiceError> {
        let peers = self.handle.call(move |machine| {
            machine.want_artifact(key);
            machine.book().reachable()
        })?;
        let mut failed = ServiceError::Command(quipu_core::node::CommandError::NotFetched {
            key,
            why: quipu_core::node::FetchFailure::Lacking,
        });
        for (peer, addrs) in peers {
            if let Err(error) = self.handle.sync(peer, addrs, None) {
                failed = error;
                continue;
            }
            let size = self.handle.call(move |machine| machine.artifact_size(&key))??;
            if let Some(size) = size {
                return Ok(Reply::Fetched { size });
            }
        }
        Err(failed)
    }

    /// Removes, or only counts, what nothing holds, and what interrupted imports left.
    pub(super) fn gc(&self, dry_run: bool, sink: Sink<'_>) -> Result<(), ApiError> {
        // In one visit, so that nothing comes in between; and once, for it changes something.
        let value = self.handle.call(move |machine| -> Result<Value, ApiError> {
            let free = machine.free_artifacts()?;
            let left = machine.artifact_store()?.leftovers().map_err(ServiceError::from)?;
            let left_bytes: u64 = left.iter().map(|(_, bytes)| bytes).sum();
            let (mut bytes, mut freed) = (0u64, Vec::new());
            for (key, size) in free {
                if !dry_run {
                    machine.remove_artifact(&key)?;
                }
                bytes += size;
                if freed.len() < FREED_MAX {
                    freed.push(key.to_string());
                }
            }
            if !dry_run {
                machine.clean_artifacts()?;
            }
            Ok(json!({
                "freed_bytes": bytes,
                "freed": freed,
                "leftovers": left.len(),
                "leftover_bytes": left_bytes,
                "dry_run": dry_run,
            }))
        })??;
        Ok(sink(value)?)
    }
}

/// Whether an artifact is published, so that nothing else may be claimed of it.
fn is_sealed(artifact: &Artifact) -> bool {
    artifact.published.is_some() && artifact.is_visible()
}

fn sealed_error(claim: &Claim) -> ApiError {
    ApiError::refused(format!(
        "artifact {} is published: what is claimed of it cannot be altered",
        claim.key
    ))
    .hint("quipu published")
}

/// Whether a visible artifact already has this claim, or one that says more.
fn says(artifact: &Artifact, claim: &Claim) -> bool {
    artifact.candidates.iter().any(|one| {
        one.claim.size == claim.size
            && (claim.type_tag.is_none() || one.claim.type_tag == claim.type_tag)
    })
}

fn located(machine: &mut Machine, text: &str) -> Result<Value, ApiError> {
    let key = find_artifact(machine, text)?;
    let known = state(machine)?.current().artifact(&key)?;
    let Some(artifact) = known else {
        return Err(ApiError::not_found(format!("no artifact {key} in this domain"))
            .hint("quipu artifacts; quipu sync"));
    };
    let mut row = artifact_json(machine.driver.log(), &artifact);
    row["have"] = machine.has_artifact(&key)?.into();
    row["hidden"] = (!artifact.is_visible()).into();
    Ok(row)
}
