//! The view of records, kept beside the log: brought up to date with what came since it was asked for last.
//!
//! It is in memory only, and made when somebody first asks: an event is added once, wherever it stands in
//! time. All is folded anew if something that was counted does not count any more: an event that is
//! quarantined now, or whose payload was erased.

use std::collections::BTreeSet;
use std::sync::Arc;

use quipu_core::dag::Dag;
use quipu_core::domain::{Decision, Role};
use quipu_core::event::{Event, Log};
use quipu_core::history::{History, Ordinal};
use quipu_core::id::{EventId, NodeKey};
use quipu_core::kind;
use quipu_meshlog::domain::{Added, View, is_of_records};
use quipu_store::{Disk, StoreError};

use crate::api::ApiError;
use crate::held::Held;
use crate::service::{Handle, Machine};

/// Events that are taken in one visit to the machine's loop, so that its other work goes on.
const STEP_EVENTS: u64 = 8_192;

/// The view, and how far it is.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Shared with those who print it: it is copied if events come meanwhile.
    view: Arc<View>,
    applied: Ordinal,
    last: Option<EventId>,
    /// Events that were left out because they were quarantined.
    aside: BTreeSet<EventId>,
    /// How many events there were when this fold began. What was erased before was not folded.
    begun: Ordinal,
    stale: bool,
    /// Who the view takes for admins.
    admins: BTreeSet<NodeKey>,
}

impl Kept {
    /// Takes some events. Gives the view once there are no more.
    fn step<D: Disk>(
        &mut self,
        held: &Held<D>,
        quarantined: &BTreeSet<EventId>,
        admins: BTreeSet<NodeKey>,
    ) -> Result<Option<Arc<View>>, StoreError> {
        let log = Log::Internal;
        let count = held.count(log);
        if !self.is_of(held)? || !self.aside.is_subset(quarantined) {
            *self = Self::default();
        }
        if self.applied == 0 {
            self.begun = count;
        }
        if self.admins != admins {
            self.stale |= Arc::make_mut(&mut self.view).set_admins(admins.clone()) == Added::Stale;
            self.admins = admins;
        }
        let end = count.min(self.applied + STEP_EVENTS);
        while self.applied < end {
            for event in held.events(log, self.applied..end)? {
                self.take(&event, held, quarantined)?;
                self.applied += 1;
                self.last = Some(event.id);
            }
        }
        if self.applied < count {
            return Ok(None);
        }
        if self.stale {
            // Who is who is known now.
            let mut view = std::mem::take(&mut self.view);
            Arc::make_mut(&mut view).restart();
            *self = Self { view, admins: std::mem::take(&mut self.admins), ..Self::default() };
            return Ok(None);
        }
        if self.aside != *quarantined {
            *self = Self::default();
            return Ok(None);
        }
        Ok(Some(Arc::clone(&self.view)))
    }

    fn take<D: Disk>(
        &mut self,
        event: &Event,
        held: &Held<D>,
        quarantined: &BTreeSet<EventId>,
    ) -> Result<(), StoreError> {
        if quarantined.contains(&event.id) {
            self.aside.insert(event.id);
            return Ok(());
        }
        if is_of_records(&event.header.kind) {
            self.stale |= Arc::make_mut(&mut self.view).add(event) == Added::Stale;
        }
        if &*event.header.kind == kind::PAYLOAD_ERASE && self.applied >= self.begun {
            self.stale |= erases_record(event, held)?;
        }
        Ok(())
    }

    /// Whether the log still begins with what was folded.
    fn is_of<D: Disk>(&self, held: &Held<D>) -> Result<bool, StoreError> {
        let log = Log::Internal;
        Ok(match self.applied.checked_sub(1) {
            None => true,
            Some(last) if last >= held.count(log) => false,
            Some(last) => Some(held.id(log, last)?) == self.last,
        })
    }
}

fn erases_record<D: Disk>(event: &Event, held: &Held<D>) -> Result<bool, StoreError> {
    let Some(Decision::Erase { target, .. }) = Decision::of_event(event) else { return Ok(false) };
    let log = Log::Internal;
    let Some(ordinal) = held.find(log, &target)? else { return Ok(false) };
    Ok(is_of_records(&held.place(log, ordinal)?.head.kind))
}

impl Machine {
    /// Brings the view of records some way up to date. Gives it once it is.
    pub(crate) fn records_step(&mut self) -> Result<Option<Arc<View>>, ApiError> {
        let dag = self.driver.node().dag().ok_or_else(crate::api::nothing_held)?;
        Ok(self.records.step(self.driver.held(), dag.quarantined(), admins_of(dag))?)
    }
}

fn admins_of(dag: &Dag) -> BTreeSet<NodeKey> {
    let admins = dag.members().into_iter().filter(|member| member.role == Role::Admin);
    admins.map(|member| member.node).collect()
}

impl Handle {
    /// The nodes that are admins of the domain now.
    ///
    /// # Errors
    /// If nothing of the domain is here.
    pub fn admins(&self) -> Result<BTreeSet<NodeKey>, ApiError> {
        self.call(|machine| {
            let dag = machine.driver.node().dag().ok_or_else(crate::api::nothing_held)?;
            Ok(admins_of(dag))
        })?
    }

    /// Events of the internal log in order of arrival, from one on, without those that are quarantined; and how
    /// many were looked at: none at the end.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn events_from(&self, from: Ordinal) -> Result<(Vec<Event>, u64), ApiError> {
        self.call(move |machine| {
            let log = Log::Internal;
            let held = machine.driver.held();
            let end = held.count(log).min(from + STEP_EVENTS);
            if from >= end {
                return Ok((Vec::new(), 0));
            }
            let dag = machine.driver.node().dag().ok_or_else(crate::api::nothing_held)?;
            let mut events = held.events(log, from..end)?;
            let seen = events.len() as u64;
            events.retain(|event| !dag.is_quarantined(&event.id));
            Ok((events, seen))
        })?
    }
}
