//! What to tell people of a finding.

use std::collections::BTreeSet;

use quipu_core::domain::Decision;
use quipu_core::history::History;
use quipu_core::id::EventId;

use crate::machine::SimDriver;
use crate::report::Finding;
use crate::world::World;

impl World {
    /// Why machines do not agree, as far as can be told.
    pub(crate) fn not_converged(&mut self) -> Finding {
        let members = self.members();
        let mut text = String::new();
        for member in members.clone() {
            let machine = &mut self.machines[member];
            let Some(driver) = machine.driver.as_mut() else { continue };
            let digest = driver.node_mut().digest();
            let node = driver.node();
            let (held, aside, leaves) = node
                .dag()
                .map_or((0, 0, 0), |dag| (dag.held(), dag.quarantined().len(), dag.leaf_count()));
            text += &format!(
                "\n  machine {member} {}: digest {digest:?}, held {held}, aside {aside}, leaves {leaves}, waiting {}, idle {}, peers {:?}",
                machine.node.short(),
                node.waiting(),
                node.is_idle(),
                node.peers()
                    .iter()
                    .map(|(peer, state, _)| (peer.short(), *state))
                    .collect::<Vec<_>>(),
            );
        }
        let parties = self.parties();
        for pair in parties.iter().flat_map(|party| party.windows(2)) {
            text += &self.lacking(pair[0], pair[1]);
            text += &self.lacking(pair[1], pair[0]);
            text += &self.judged(pair[0], pair[1]);
        }
        Finding::new("no agreement in time", text)
    }

    /// The first event that counts on one of two machines and is kept aside on the other, and the
    /// decisions that only one of them holds.
    fn judged(&self, a: usize, b: usize) -> String {
        let (Some(one), Some(other)) = (&self.machines[a].driver, &self.machines[b].driver) else {
            return String::new();
        };
        let mut text = String::new();
        for (n, here, there) in [(a, one, other), (b, other, one)] {
            let (Some(dag), Some(second)) = (here.node().dag(), there.node().dag()) else {
                continue;
            };
            let log = here.log();
            let disputed = second.quarantined().iter().find(|id| {
                !dag.is_quarantined(id) && here.held().find(log, id).ok().flatten().is_some()
            });
            let event = disputed.and_then(|id| here.held().find(log, id).ok().flatten());
            if let Some(event) = event.and_then(|ordinal| here.held().event(log, ordinal).ok()) {
                text += &format!(
                    "\n  counts on machine {n} only: {:?} of {}, seq {}, kind {}",
                    event.id,
                    event.header.author.short(),
                    event.header.seq,
                    event.header.kind,
                );
            }
            for ordinal in 0..here.held().count(log) {
                let Ok(event) = here.held().event(log, ordinal) else { continue };
                let known = there.held().find(log, &event.id).ok().flatten().is_some();
                if !known && let Some(decision) = Decision::of_event(&event) {
                    text += &format!(
                        "\n  only machine {n} knows {:?} of {}, seq {}, aside {}: {decision:?}",
                        event.id,
                        event.header.author.short(),
                        event.header.seq,
                        dag.is_quarantined(&event.id),
                    );
                }
            }
        }
        text
    }

    /// The first event that counts on one machine and is not held by another, and why it may not
    /// get there.
    fn lacking(&self, here: usize, there: usize) -> String {
        let (Some(own), Some(other)) = (&self.machines[here].driver, &self.machines[there].driver)
        else {
            return String::new();
        };
        let Some(dag) = other.node().dag() else { return String::new() };
        let lacks = |id: &EventId| own.held().find(own.log(), id).ok().flatten().is_none();
        for ordinal in 0..other.held().count(other.log()) {
            let Ok(event) = other.held().event(other.log(), ordinal) else { continue };
            if dag.is_quarantined(&event.id) || !lacks(&event.id) {
                continue;
            }
            let head = &event.header.head;
            let missing = head.links().filter(|link| lacks(link)).count();
            return format!(
                "\n  machine {here} lacks {:?} of {}, seq {}, #{ordinal} of machine {there}, kind {}, signed {}, {missing} links missing, an end there {}",
                event.id,
                head.author.short(),
                head.seq,
                head.kind,
                event.signature.is_some(),
                dag.ends_of(&head.author).iter().any(|end| end.id == event.id),
            );
        }
        String::new()
    }
}

/// In what two machines differ as to what is kept aside.
pub(crate) fn aside(a: Option<&SimDriver>, b: Option<&SimDriver>) -> String {
    let (Some(a), Some(b)) = (a, b) else { return String::new() };
    let (Some(one), Some(other)) = (a.node().dag(), b.node().dag()) else { return String::new() };
    let (one, other) = (one.quarantined(), other.quarantined());
    let place = |id: &EventId| match a.held().find(a.log(), id).ok().flatten() {
        Some(ordinal) => a.held().place(a.log(), ordinal).ok().map(|place| {
            format!("{id:?} of {} seq {} #{ordinal}", place.head.author.short(), place.head.seq)
        }),
        None => None,
    };
    let list = |from: &BTreeSet<EventId>, without: &BTreeSet<EventId>| -> Vec<String> {
        from.difference(without).filter_map(place).take(5).collect()
    };
    format!(
        "{} and {} kept aside, only first {:?}, only second {:?}",
        one.len(),
        other.len(),
        list(one, other),
        list(other, one)
    )
}
