//! Breaking rules on purpose, so that a test can see the checkers turn red.

use quipu_core::event::{Draft, Log, LogSeq, VerifiedEvent, sign_own};
use quipu_store::disk::AppendFile;
use quipu_store::{Disk, Store};

use crate::people::draft;
use crate::report::{Finding, Sabotage};
use crate::world::World;

impl World {
    /// Breaks what is to be broken right after all trouble ended.
    pub(crate) fn sabotage(&mut self) -> Result<(), Finding> {
        match self.options.sabotage {
            Some(Sabotage::LyingDisk) => self.forget_a_commit(),
            Some(Sabotage::LateClock) => self.hold_a_late_event(),
            _ => Ok(()),
        }
    }

    /// Breaks what is to be broken once all agree.
    pub(crate) fn sabotage_late(&mut self) {
        match self.options.sabotage {
            Some(Sabotage::KeepErased) => self.keep_an_erased_payload(),
            Some(Sabotage::LoseArtifact) => self.lose_an_artifact(),
            _ => {}
        }
    }

    /// A disk acknowledges an event, and after a power failure does not have it.
    fn forget_a_commit(&mut self) -> Result<(), Finding> {
        let before = self.machines[0].disk.fork();
        self.emit(0, 1);
        self.run_until(self.now + self.plan.turn + 1)?;
        self.machines[0].stop();
        self.machines[0].disk = std::sync::Arc::new(before);
        self.start(0)
    }

    /// A machine holds an event whose clock is that of its link: others must refuse it.
    fn hold_a_late_event(&mut self) -> Result<(), Finding> {
        let broken = |text: String| Finding::new("the sabotage itself failed", text);
        let domain = self.domain;
        let on = &mut self.machines[0];
        let Some(dag) = on.driver.as_ref().and_then(|driver| driver.node().dag()) else {
            return Err(broken("the founder holds nothing".to_owned()));
        };
        let mut at = dag.next_position(on.node, 0);
        at.logseq = LogSeq(1);
        on.stop();
        let token: [u8; 24] = on.rng.bytes();
        let (kind, value) = draft(&mut on.rng, 1, &token);
        let payload = quipu_core::codec::v1::payload_block(&token[..8], &value);
        let event = Draft { log: Log::Internal, kind, payload }.place(at, &domain);
        let events: Vec<VerifiedEvent> = sign_own(vec![event], &on.key);
        let write = || {
            let (mut store, _) = Store::open(on.disk.clone(), domain, on.options())?;
            store.append(Log::Internal, events)?;
            store.commit()
        };
        write().map_err(|error: quipu_store::StoreError| broken(error.to_string()))?;
        self.start(0)
    }

    /// An artifact goes without having been collected.
    fn lose_an_artifact(&mut self) {
        let Some((machine, key)) = self.things.promised.first() else { return };
        if let Some(store) = &self.machines[*machine].store {
            // The fault-free disk of a test lets go of everything.
            let _ = store.remove(key);
        }
    }

    /// The payload of an erased event lies in a file that nobody thought of.
    fn keep_an_erased_payload(&mut self) {
        let last = self.machines.len() - 1;
        for erasure in &self.ledger.erasures {
            let one = self.ledger.acknowledged.iter().find(|one| one.id == erasure.target);
            let Some(token) = one.and_then(|one| one.token) else { continue };
            for machine in [0, last] {
                if let Ok(mut file) = self.machines[machine].disk.append("internal/forgotten.bak") {
                    // The fault-free disk of a test takes everything.
                    let _ = file.write_all(&token);
                }
            }
        }
    }
}
