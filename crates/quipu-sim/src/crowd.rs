//! Many authors without machines: what they wrote comes as a file.

use ed25519_dalek::SigningKey;
use quipu_core::domain::{Decision, Role};
use quipu_core::event::{Draft, Log, LogSeq, Parents, Position, VerifiedEvent, sign_own};
use quipu_core::id::{EventId, NodeKey};
use quipu_core::node::Command;

use crate::ledger::{Pending, Token};
use crate::rng::Rng;
use crate::world::World;

/// Events in one file.
const FILE_EVENTS: usize = 4096;

impl World {
    fn crowd(&self) -> impl Iterator<Item = (SigningKey, Rng)> + use<> {
        let mut rng = Rng::new(u64::from_le_bytes([self.domain.0[0]; 8]), "crowd");
        (0..self.plan.workload.crowd.low)
            .map(move |_| (SigningKey::from_bytes(&rng.bytes()), rng.clone()))
    }

    /// The founder makes everybody in the crowd a member.
    pub(crate) fn invite_crowd(&mut self) {
        let mut keys: Vec<NodeKey> =
            self.crowd().map(|(key, _)| NodeKey(key.verifying_key().to_bytes())).collect();
        let last = keys.pop();
        for node in keys {
            let decision = Decision::Add { node, role: Role::Writer, invite: None };
            self.request(0, Command::Decide(decision), Pending::Nothing);
        }
        if let Some(node) = last {
            let decision = Decision::Add { node, role: Role::Writer, invite: None };
            self.request(0, Command::Decide(decision), Pending::Crowd);
        }
    }

    /// Everybody in the crowd writes one event that follows the last grant, and no other.
    pub(crate) fn import_crowd(&mut self, machine: usize, grant: EventId) {
        let Some(dag) = self.machines[machine].driver.as_ref().and_then(|d| d.node().dag()) else {
            return;
        };
        let logseq = LogSeq(dag.clock().0 + 1);
        let mut events: Vec<VerifiedEvent> = Vec::new();
        for (key, mut rng) in self.crowd() {
            let token: Token = rng.bytes();
            let (kind, value) =
                crate::people::draft(&mut rng, self.plan.workload.cells.low, &token);
            let payload = quipu_core::codec::v1::payload_block(&token[..8], &value);
            let at = Position {
                author: NodeKey(key.verifying_key().to_bytes()),
                seq: 1,
                prev: None,
                parents: Parents::from_slice(&[grant]),
                logseq,
            };
            let event = Draft { log: Log::Internal, kind, payload }.place(at, &self.domain);
            events.extend(sign_own(vec![event], &key));
        }
        for file in events.chunks(FILE_EVENTS) {
            self.request(machine, Command::Import(file.to_vec()), Pending::Nothing);
        }
    }
}
