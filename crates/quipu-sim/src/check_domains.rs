//! What must hold between domains once all agree.

use quipu_core::event::Log;
use quipu_core::history::History;
use quipu_core::statement::{Claim, End};
use quipu_state::{Origin, View};

use crate::machine::SimDriver;
use crate::report::Finding;
use crate::things::unreadable;
use crate::world::World;

/// The first end of an edge in a published state that names something else than what is published, an
/// import, a publisher or a commitment.
fn stray_end(view: &View<'_>, driver: &SimDriver) -> Result<Option<End>, quipu_state::StateError> {
    let Some(dag) = driver.node().dag() else { return Ok(None) };
    let mut entries = Vec::new();
    view.visit(&mut |entry| entries.push(*entry))?;
    for entry in entries {
        let Some(edge) = view.edge(&entry)? else { continue };
        for end in edge.key.from.iter().chain(&edge.key.to) {
            let fine = match end {
                End::Blinded(_) => true,
                End::Node(node) => dag.authority().role(node).is_some(),
                End::Artifact(key) => {
                    let known = view.artifact(key)?;
                    known.is_some_and(|one| one.is_put() || one.origin().is_some())
                }
            };
            if !fine {
                return Ok(Some(*end));
            }
        }
    }
    Ok(None)
}

impl World {
    /// Everything between domains that must hold once all agree.
    pub(crate) fn check_domains(&mut self) -> Result<(), Finding> {
        if !self.is_federated() {
            return Ok(());
        }
        self.check_isolation()?;
        let published = |part: &usize| self.machines[*part].log == Log::Published;
        let parts: Vec<usize> = self.parties().concat().into_iter().filter(published).collect();
        for part in parts {
            self.check_forged(part)?;
            self.check_references(part)?;
        }
        self.check_imports()?;
        self.question_all()
    }

    /// What is imported is what was published there, and its bytes are still here if they were then.
    fn check_imports(&mut self) -> Result<(), Finding> {
        for (host, key, size) in self.federation.imported.clone() {
            let Some(driver) = self.machines[host].driver.as_ref() else { continue };
            if driver.held().artifact_size(&key).map_err(unreadable)? != Some(size) {
                let text = format!("machine {host}: {key}");
                return Err(Finding::new("an import lost its bytes", text));
            }
        }
        for host in (0..self.hosts()).filter(|host| !self.is_hostile(*host)).collect::<Vec<_>>() {
            let Some(driver) = self.machines[host].driver.as_mut() else { continue };
            let known = driver.catch_up().map_err(unreadable)?.current().artifacts();
            for artifact in known.map_err(unreadable)?.into_values() {
                for one in &artifact.candidates {
                    if let Some(origin) = one.origin {
                        self.check_import(host, &one.claim, origin)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn check_import(&mut self, host: usize, claim: &Claim, origin: Origin) -> Result<(), Finding> {
        let part = self.federation.number(&origin.domain);
        let part = part.map(|number| self.federation.part(number, host));
        let part = part.filter(|part| self.machines[*part].has_log());
        let Some(part) = part else {
            let text = format!("machine {host}: {}", claim.key);
            return Err(Finding::new("the origin of an import is not kept", text));
        };
        let Some(driver) = self.machines[part].driver.as_mut() else { return Ok(()) };
        driver.catch_up().map_err(unreadable)?;
        let pinned = driver.state_at(&origin.snapshot).map_err(unreadable)?;
        let pinned = pinned.artifact(&claim.key).map_err(unreadable)?;
        if pinned.as_ref().and_then(|one| one.put_claim()) != Some(claim) {
            let text = format!("machine {host}: {claim:?} at {}: {pinned:?}", origin.snapshot);
            return Err(Finding::new("an import is not what was published", text));
        }
        Ok(())
    }

    /// What was written by whoever may not counts nowhere.
    fn check_forged(&self, part: usize) -> Result<(), Finding> {
        let Some(driver) = &self.machines[part].driver else { return Ok(()) };
        let Some(dag) = driver.node().dag() else { return Ok(()) };
        for id in &self.federation.forged {
            let held = driver.held().find(Log::Published, id).map_err(unreadable)?.is_some();
            if held && !dag.is_quarantined(id) {
                let text = format!("machine {part}: {id}");
                return Err(Finding::new("what a member forged counts", text));
            }
        }
        Ok(())
    }

    /// What is published names only what is published, now and in each snapshot.
    fn check_references(&mut self, part: usize) -> Result<(), Finding> {
        let Some(driver) = self.machines[part].driver.as_mut() else { return Ok(()) };
        let snapshots = driver.catch_up().map_err(unreadable)?.snapshots().to_vec();
        for snapshot in snapshots {
            driver.state_at(&snapshot.id).map_err(unreadable)?;
        }
        let state = driver.state();
        let ids: Vec<_> = state.snapshots().iter().map(|one| one.id).collect();
        let views = ids.iter().filter_map(|id| state.at(id)).chain([state.current()]);
        for view in views {
            if let Some(end) = stray_end(&view, driver).map_err(unreadable)? {
                let text = format!("machine {part}: {end}");
                return Err(Finding::new("what is published names what is not", text));
            }
            for artifact in view.artifacts().map_err(unreadable)?.into_values() {
                let shown = self.federation.shown.contains_key(&artifact.key);
                if !shown {
                    let text = format!("machine {part}: {}", artifact.key);
                    return Err(Finding::new("what is published was not to be", text));
                }
            }
        }
        Ok(())
    }
}
