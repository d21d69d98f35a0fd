//! Breaking rules on purpose, so that a test can see the checkers turn red.

use quipu_core::event::{Draft, Log, LogSeq, VerifiedEvent, sign_own};
use quipu_core::history::History;
use quipu_core::node::Command;
use quipu_core::statement::{EdgeKey, EdgeRole, End, Statement};
use quipu_store::disk::AppendFile;
use quipu_store::{Disk, Store};

use crate::ledger::Pending;
use crate::people::draft;
use crate::report::{Finding, Sabotage};
use crate::world::World;

impl World {
    /// Breaks what is to be broken right after all trouble ended.
    pub(crate) fn sabotage(&mut self) -> Result<(), Finding> {
        match self.options.sabotage {
            Some(Sabotage::LyingDisk) => self.forget_a_commit(),
            Some(Sabotage::LateClock) => self.hold_a_late_event(),
            Some(
                sabotage @ (Sabotage::LeakId
                | Sabotage::LeakClock
                | Sabotage::LeakPayload
                | Sabotage::LeakBytes),
            ) => self.publish_a_secret(sabotage),
            Some(Sabotage::StrayEdge) => {
                self.publish_a_stray_edge();
                Ok(())
            }
            Some(Sabotage::Hide) => self.hide_a_publication(),
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

    /// A publisher puts something internal into the published log.
    fn publish_a_secret(&mut self, sabotage: Sabotage) -> Result<(), Finding> {
        if !self.is_federated() {
            return Ok(());
        }
        let host = self.federation.founder(0);
        let Some(driver) = &self.machines[host].driver else { return Ok(()) };
        let last = driver.held().count(Log::Internal).saturating_sub(1);
        let event = driver.held().event(Log::Internal, last);
        let event = event.map_err(crate::things::unreadable)?;
        let hidden = |key: &&quipu_core::id::ArtifactId| !self.federation.shown.contains_key(*key);
        let artifact = self.federation.contents[0].iter().find(hidden);
        let artifact = artifact.and_then(|key| self.federation.bytes.get(key));
        let secret = match sabotage {
            Sabotage::LeakId => event.id.0.to_vec(),
            Sabotage::LeakClock => event.header.logseq.0.to_be_bytes().to_vec(),
            Sabotage::LeakPayload => event.payload.map(|bytes| bytes.to_vec()).unwrap_or_default(),
            _ => artifact.map(|bytes| bytes[20..60].to_vec()).unwrap_or_default(),
        };
        let mut value = Vec::new();
        quipu_core::value::encode(&quipu_core::value::Value::Bytes(secret), &mut value);
        let command = Command::Emit(vec![("leak.note".into(), value.into())]);
        self.request(self.federation.part(0, host), command, Pending::Nothing);
        Ok(())
    }

    /// A publisher publishes an edge between artifacts that nobody published.
    fn publish_a_stray_edge(&mut self) {
        let [one, other] = [1, 2].map(|n| End::Artifact(quipu_core::id::ArtifactId([n; 32])));
        if let Some(edge) = EdgeKey::new(vec![one], vec![other], "derived") {
            let part = self.federation.part(0, self.federation.founder(0));
            self.declare(part, Statement::Edge(edge, EdgeRole::Both));
        }
    }

    /// The founder's part in a published log writes, and goes down before anybody hears of it: it comes
    /// back with the disk, and without links.
    fn hide_a_publication(&mut self) -> Result<(), Finding> {
        if !self.is_federated() {
            return Ok(());
        }
        let part = self.federation.part(0, self.federation.founder(0));
        self.edges.iter_mut().filter(|edge| edge.ends.contains(&part)).for_each(|edge| {
            edge.stalled_until = u64::MAX;
        });
        self.cut_all(part);
        self.emit(part, 1);
        Ok(())
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
