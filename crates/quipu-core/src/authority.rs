//! Who was entitled to write what: membership as a function of the set of events held.
//!
//! An event is *effective* iff a grant to its author is in its past, and it is in the past of every
//! effective removal of its author (or follows a grant that knew of that removal). So whoever
//! removes has the last word over what it had not seen, and a removed key cannot write back-dated
//! events for ever (design: Authority; DOM-1). Only somebody up the grant chain removes an admin,
//! so the question never goes round in circles: levels are settled from the founder downwards.

mod invites;

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{Access, Decision, Invitation, Role};
use crate::event::{Event, Head, Log, LogSeq};
use crate::history::History;
use crate::id::{EventId, NodeKey};
use crate::past::{self, Memory, Target};

/// A `member.add` that was read.
#[derive(Debug, Clone)]
struct Grant {
    at: Target,
    head: Head,
    role: Role,
    invite: Option<NodeKey>,
    /// Given by a member to the key that takes the place of its own.
    handed_over: bool,
}

/// A `member.remove` that was read, or a `member.replace`, which ends the author's own membership.
#[derive(Debug, Clone)]
struct Removal {
    at: Target,
    head: Head,
    /// What the remover had seen of the member's feed.
    seen: Vec<(u64, EventId)>,
    /// By the member itself.
    own: bool,
}

/// A `member.readmit` that was read.
#[derive(Debug, Clone)]
struct Readmission {
    at: Target,
    head: Head,
    upto: EventId,
}

/// An `invite.create` that was read.
#[derive(Debug, Clone)]
struct Invite {
    at: Target,
    head: Head,
    invitation: Invitation,
}

/// What the effective events say of one machine.
#[derive(Debug, Clone, Default)]
struct Standing {
    /// Distance from the founder in the grant chain, for those who were ever admins.
    level: Option<u32>,
    /// Who is above it in the grant chain.
    above: BTreeSet<NodeKey>,
    /// Indices of effective grants, in replay order.
    grants: Vec<usize>,
    /// Indices of effective removals, with the grants that knew of them.
    removals: Vec<(usize, BTreeSet<usize>)>,
    /// Events up to which, on their feed, no removal counts.
    readmitted: Vec<EventId>,
    /// With one grant and no fork: from this seq on every event has the grant in its past.
    since: Option<u64>,
}

/// A member as people want to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The machine.
    pub node: NodeKey,
    /// What it may do now.
    pub role: Role,
    /// The clock of the event that gave it this role.
    pub since: LogSeq,
}

/// The membership of one domain.
#[derive(Debug, Clone)]
pub struct Authority {
    log: Log,
    founder: NodeKey,
    founded: LogSeq,
    grants: BTreeMap<NodeKey, Vec<Grant>>,
    removals: BTreeMap<NodeKey, Vec<Removal>>,
    readmissions: BTreeMap<NodeKey, Vec<Readmission>>,
    /// The last events of readmissions.
    awaited: BTreeSet<EventId>,
    /// Keys that were handed over, or that something was handed over to.
    entangled: BTreeSet<NodeKey>,
    /// Those that something was handed over to.
    heirs: BTreeSet<NodeKey>,
    invites: BTreeMap<NodeKey, Vec<Invite>>,
    /// By invitation: who was admitted, and with which of its grants.
    admissions: BTreeMap<NodeKey, BTreeMap<EventId, (NodeKey, usize)>>,
    standings: BTreeMap<NodeKey, Standing>,
    /// Who may read, by all that was said about it.
    accesses: Vec<(Target, Head, Access)>,
    /// What of that counts.
    access: Access,
    /// Events that are known to have grants by the founder in their past.
    memory: Memory,
}

/// What a new structural event means for events that are held already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// Nothing changes for them.
    Nothing,
    /// Events may have become effective or ineffective: look at all of them again.
    Reconsider,
}

impl Authority {
    /// The membership of a domain of which only R is known.
    pub fn new(log: Log, founder: NodeKey, founded: LogSeq) -> Self {
        let mut standings = BTreeMap::new();
        standings.insert(founder, Standing { level: Some(0), ..Standing::default() });
        Self {
            log,
            founder,
            founded,
            grants: BTreeMap::new(),
            removals: BTreeMap::new(),
            readmissions: BTreeMap::new(),
            awaited: BTreeSet::new(),
            entangled: BTreeSet::new(),
            heirs: BTreeSet::new(),
            invites: BTreeMap::new(),
            admissions: BTreeMap::new(),
            standings,
            accesses: Vec::new(),
            access: Access::Open,
            memory: Memory::new(founder),
        }
    }

    /// The machine that created the domain. Nobody can remove it.
    pub fn founder(&self) -> NodeKey {
        self.founder
    }

    /// Takes note of a structural event that was put into the log.
    ///
    /// # Errors
    /// What the history could not read.
    pub fn learn<H: History>(&mut self, history: &H, event: &Event) -> Result<Learned, H::Error> {
        let at = Target::of(event.id, &event.header.head);
        let head = event.header.head.clone();
        match Decision::of_event(event) {
            Some(Decision::Add { node, role, invite }) => {
                let handed_over = false;
                self.learn_grant(history, node, Grant { at, head, role, invite, handed_over })
            }
            Some(Decision::Remove { node }) => {
                let seen = past::known_ends(history, self.log, &head, &node)?;
                let removal = Removal { at, head, seen, own: false };
                self.removals.entry(node).or_default().push(removal);
                if self.is_admin_matter(&node) {
                    self.settle(history)?;
                } else {
                    self.settle_member(history, node)?;
                }
                self.settle_access(history)?;
                Ok(Learned::Reconsider)
            }
            Some(Decision::Replace { node, role }) => {
                self.learn_handover(history, at, head, node, role)
            }
            Some(Decision::Readmit { node, upto }) => {
                let readmission = Readmission { at, head, upto };
                self.readmissions.entry(node).or_default().push(readmission);
                self.awaited.insert(upto);
                self.settle(history)?;
                self.settle_access(history)?;
                Ok(Learned::Reconsider)
            }
            Some(Decision::Invite(invitation)) => {
                let invite = Invite { at, head, invitation };
                let key = invite.invitation.key;
                self.invites.entry(key).or_default().push(invite);
                if !self.admissions.contains_key(&key) {
                    return Ok(Learned::Nothing);
                }
                self.settle(history)?;
                Ok(Learned::Reconsider)
            }
            Some(Decision::Access(access)) => {
                self.accesses.push((at, head, access));
                self.settle_access(history)?;
                // Who is linked now may not be allowed any more.
                Ok(Learned::Reconsider)
            }
            Some(Decision::Erase { .. }) | None => Ok(Learned::Nothing),
        }
    }

    /// A member hands its membership over: that is a grant, and its own removal. The founder's key is in R,
    /// and nothing can take its place.
    fn learn_handover<H: History>(
        &mut self,
        history: &H,
        at: Target,
        head: Head,
        node: NodeKey,
        role: Role,
    ) -> Result<Learned, H::Error> {
        let from = at.author;
        if from == self.founder || from == node || node == self.founder {
            return Ok(Learned::Nothing);
        }
        // What precedes it is held; it itself is not, yet.
        let seen = head.prev.map(|prev| (at.seq.saturating_sub(1), prev)).into_iter().collect();
        let removal = Removal { at, head: head.clone(), seen, own: true };
        self.removals.entry(from).or_default().push(removal);
        let grant = Grant { at, head, role, invite: None, handed_over: true };
        self.grants.entry(node).or_default().push(grant);
        self.entangled.extend([from, node]);
        self.heirs.insert(node);
        self.settle(history)?;
        self.settle_access(history)?;
        Ok(Learned::Reconsider)
    }

    /// Whether an event is the last of a readmission: once it is here, look at those before it again.
    pub fn awaits(&self, id: &EventId) -> bool {
        self.awaited.contains(id)
    }

    /// The last word about who may read, in replay order, by somebody who was entitled to it.
    fn settle_access<H: History>(&mut self, history: &H) -> Result<(), H::Error> {
        self.accesses.sort_unstable_by_key(|(at, ..)| (at.logseq, at.id));
        self.access = Access::Open;
        for (at, head, access) in self.accesses.iter().rev() {
            if self.role_at(history, at, head)? == Some(Role::Admin) {
                self.access = access.clone();
                break;
            }
        }
        Ok(())
    }

    /// Who may read, as far as the log says.
    pub fn access(&self) -> &Access {
        &self.access
    }

    fn learn_grant<H: History>(
        &mut self,
        history: &H,
        node: NodeKey,
        grant: Grant,
    ) -> Result<Learned, H::Error> {
        let first = !self.grants.contains_key(&node) && node != self.founder;
        let (id, invite) = (grant.at.id, grant.invite);
        let grants = self.grants.entry(node).or_default();
        grants.push(grant);
        let index = grants.len() - 1;
        let mut contested = false;
        if let Some(invite) = invite {
            self.admissions.entry(invite).or_default().insert(id, (node, index));
            contested = self.is_contested(history, &invite)?;
        }
        if contested || self.is_admin_matter(&node) {
            self.settle(history)?;
        } else {
            // The common case: it is nobody else's matter.
            self.settle_member(history, node)?;
        }
        self.settle_access(history)?;
        Ok(if first && !contested { Learned::Nothing } else { Learned::Reconsider })
    }

    /// Whether a change in a machine's standing can change that of others.
    fn is_admin_matter(&self, node: &NodeKey) -> bool {
        *node == self.founder
            || self.entangled.contains(node)
            || self.grants.get(node).into_iter().flatten().any(|grant| grant.role == Role::Admin)
    }

    /// Works out every machine's standing, level by level from the founder down.
    fn settle<H: History>(&mut self, history: &H) -> Result<(), H::Error> {
        self.standings.clear();
        let founder = Standing { level: Some(0), ..Standing::default() };
        self.standings.insert(self.founder, founder);
        let mut level = 0;
        loop {
            let added = self.settle_admins(history, level)?;
            if !added {
                break;
            }
            level += 1;
        }
        self.settle_others(history)
    }

    /// Gives a standing to those whom an admin of this level made admins.
    fn settle_admins<H: History>(&mut self, history: &H, level: u32) -> Result<bool, H::Error> {
        let mut found: BTreeMap<NodeKey, Standing> = BTreeMap::new();
        for (node, grants) in &self.grants {
            if self.standings.contains_key(node) {
                continue;
            }
            for (index, grant) in grants.iter().enumerate() {
                let giver = self.standings.get(&grant.at.author);
                if giver.and_then(|standing| standing.level) == Some(level)
                    && grant.role == Role::Admin
                    && self.grant_counts(history, node, grant)?
                {
                    let standing = found.entry(*node).or_default();
                    standing.level = Some(level + 1);
                    standing.above.insert(grant.at.author);
                    standing.above.extend(giver.into_iter().flat_map(|giver| &giver.above));
                    standing.grants.push(index);
                }
            }
        }
        let added = !found.is_empty();
        for (node, mut standing) in found {
            let above = standing.above.clone();
            let own: BTreeSet<usize> = standing.grants.iter().copied().collect();
            for (index, grant) in self.grants[&node].iter().enumerate() {
                if !own.contains(&index)
                    && above.contains(&grant.at.author)
                    && self.grant_counts(history, &node, grant)?
                {
                    standing.grants.push(index);
                }
            }
            self.finish(history, node, standing, |by| above.contains(by))?;
        }
        Ok(added)
    }

    fn settle_others<H: History>(&mut self, history: &H) -> Result<(), H::Error> {
        let nodes: Vec<NodeKey> = self.grants.keys().copied().collect();
        for node in nodes {
            if !self.standings.contains_key(&node) {
                self.settle_member(history, node)?;
            }
        }
        self.settle_heirs(history)
    }

    /// Gives a standing to those whom only a member handed its own over to: in rounds, so that it does not
    /// matter which decisions without effect somebody holds. Whoever was granted something by an admin
    /// inherits nothing.
    fn settle_heirs<H: History>(&mut self, history: &H) -> Result<(), H::Error> {
        let mut givers: BTreeSet<NodeKey> = self.standings.keys().copied().collect();
        loop {
            let mut found: BTreeMap<NodeKey, Standing> = BTreeMap::new();
            for node in &self.heirs {
                let standing = self.standings.get(node);
                if standing.is_some_and(|one| one.level.is_some() || !one.grants.is_empty()) {
                    continue;
                }
                for (index, grant) in self.grants[node].iter().enumerate() {
                    if grant.handed_over
                        && givers.contains(&grant.at.author)
                        && self.grant_counts(history, node, grant)?
                    {
                        found.entry(*node).or_default().grants.push(index);
                    }
                }
            }
            if found.is_empty() {
                return Ok(());
            }
            givers = found.keys().copied().collect();
            for (node, standing) in found {
                self.finish(history, node, standing, |_| true)?;
            }
        }
    }

    /// Works out the standing of a machine that never was an admin. Those of all admins stand.
    fn settle_member<H: History>(&mut self, history: &H, node: NodeKey) -> Result<(), H::Error> {
        let Some(grants) = self.grants.get(&node) else { return Ok(()) };
        let mut standing = Standing::default();
        for (index, grant) in grants.iter().enumerate() {
            if !grant.handed_over && self.grant_counts(history, &node, grant)? {
                standing.grants.push(index);
            }
        }
        self.finish(history, node, standing, |_| true)
    }

    /// Adds the removals that count and stores the standing.
    fn finish<H: History>(
        &mut self,
        history: &H,
        node: NodeKey,
        mut standing: Standing,
        may_remove: impl Fn(&NodeKey) -> bool,
    ) -> Result<(), H::Error> {
        let grants = &self.grants[&node];
        standing.grants.sort_by_key(|index| (grants[*index].at.logseq, grants[*index].at.id));
        for (index, removal) in self.removals.get(&node).into_iter().flatten().enumerate() {
            if removal.own
                || !may_remove(&removal.at.author)
                || self.role_at(history, &removal.at, &removal.head)? != Some(Role::Admin)
            {
                continue;
            }
            let knew = self.grants_after(history, &node, &standing, removal)?;
            standing.removals.push((index, knew));
        }
        for readmission in self.readmissions.get(&node).into_iter().flatten() {
            if may_remove(&readmission.at.author)
                && self.role_at(history, &readmission.at, &readmission.head)? == Some(Role::Admin)
            {
                standing.readmitted.push(readmission.upto);
            }
        }
        self.standings.insert(node, standing);
        self.finish_handovers(history, node)
    }

    /// Which of a machine's grants knew of a removal.
    fn grants_after<H: History>(
        &self,
        history: &H,
        node: &NodeKey,
        standing: &Standing,
        removal: &Removal,
    ) -> Result<BTreeSet<usize>, H::Error> {
        let mut knew = BTreeSet::new();
        for grant in &standing.grants {
            let head = &self.grants[node][*grant].head;
            if past::contains(history, self.log, head, &removal.at, &self.memory)? {
                knew.insert(*grant);
            }
        }
        Ok(knew)
    }

    /// Adds what a machine handed over itself, where it was entitled to by all that others decided. Of two
    /// that did not know of each other neither counts as a grant, but both end the membership: the key is
    /// frozen, for one of them may be a thief's.
    fn finish_handovers<H: History>(&mut self, history: &H, node: NodeKey) -> Result<(), H::Error> {
        let Some(standing) = self.standings.get(&node) else { return Ok(()) };
        let mut own = Vec::new();
        for (index, removal) in self.removals.get(&node).into_iter().flatten().enumerate() {
            if removal.own && self.role_at(history, &removal.at, &removal.head)?.is_some() {
                own.push((index, self.grants_after(history, &node, standing, removal)?));
            }
        }
        if let Some(standing) = self.standings.get_mut(&node) {
            standing.removals.extend(own);
        }
        Ok(())
    }

    fn grant_counts<H: History>(
        &self,
        history: &H,
        node: &NodeKey,
        grant: &Grant,
    ) -> Result<bool, H::Error> {
        if grant.handed_over {
            return Ok(self.role_at(history, &grant.at, &grant.head)? >= Some(grant.role));
        }
        if let Some(invite) = &grant.invite
            && !self.admitted(history, invite, &grant.at.id, node)?
        {
            return Ok(false);
        }
        Ok(self.role_at(history, &grant.at, &grant.head)? == Some(Role::Admin))
    }

    /// The role that an author had when it wrote an event, by all that is held: nothing if it had
    /// none, or if a removal has the last word over the event.
    ///
    /// # Errors
    /// What the history could not read.
    pub fn role_at<H: History>(
        &self,
        history: &H,
        at: &Target,
        head: &Head,
    ) -> Result<Option<Role>, H::Error> {
        if at.author == self.founder {
            return Ok(Some(Role::Admin));
        }
        let Some(standing) = self.standings.get(&at.author) else { return Ok(None) };
        let Some(grants) = self.grants.get(&at.author) else { return Ok(None) };
        let mut held = Vec::new();
        for index in &standing.grants {
            let certain =
                standing.grants.len() == 1 && standing.since.is_some_and(|since| at.seq >= since);
            let target = &grants[*index].at;
            if certain || past::contains(history, self.log, head, target, &self.memory)? {
                held.push(*index);
            }
        }
        for (index, knew) in &standing.removals {
            let removal = &self.removals[&at.author][*index];
            let itself = removal.own && removal.at.id == at.id;
            if !itself
                && !held.iter().any(|grant| knew.contains(grant))
                && !had_seen(self.log, history, &removal.seen, at)?
                && !self.is_readmitted(history, standing, at)?
            {
                return Ok(None);
            }
        }
        Ok(held.last().map(|index| grants[*index].role))
    }

    /// Whether an event is one of those, or before one of those, up to which no removal counts.
    fn is_readmitted<H: History>(
        &self,
        history: &H,
        standing: &Standing,
        at: &Target,
    ) -> Result<bool, H::Error> {
        for upto in &standing.readmitted {
            if *upto == at.id {
                return Ok(true);
            }
            let Some(ordinal) = history.find(self.log, upto)? else { continue };
            let head = history.place(self.log, ordinal)?.head;
            if head.author == at.author && had_seen(self.log, history, &[(head.seq, *upto)], at)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Remembers that an author's events from this one on have its only grant in their past.
    ///
    /// # Errors
    /// What the history could not read.
    pub fn note_entitled<H: History>(
        &mut self,
        history: &H,
        at: &Target,
        head: &Head,
    ) -> Result<(), H::Error> {
        if let Some(standing) = self.standings.get_mut(&at.author)
            && standing.grants.len() == 1
            && standing.since.is_none_or(|since| at.seq < since)
        {
            standing.since = Some(at.seq);
            let grant = &self.grants[&at.author][standing.grants[0]].at;
            if grant.author == self.founder
                && let Some(seq) = past::reach(history, self.log, head, grant, &self.memory)?
            {
                self.memory.note(at.id, seq);
            }
        }
        Ok(())
    }

    /// Forgets the shortcut of [`Self::note_entitled`] for an author that forked: a branch may
    /// begin before the grant was known.
    pub fn note_forked(&mut self, author: &NodeKey) {
        if let Some(standing) = self.standings.get_mut(author) {
            standing.since = None;
        }
    }

    /// Whether an author's events can be taken as effective without a look at the history.
    pub fn is_plain(&self, author: &NodeKey, seq: u64) -> bool {
        *author == self.founder
            || self.standings.get(author).is_some_and(|standing| {
                standing.removals.is_empty()
                    && standing.since.is_some_and(|since| seq >= since)
                    && standing.grants.len() == 1
                    && self.grants[author][standing.grants[0]].role >= Role::Writer
            })
    }

    /// Whether anybody was ever granted anything under this key: if not, its events never count.
    pub fn is_stranger(&self, author: &NodeKey) -> bool {
        *author != self.founder && !self.grants.contains_key(author)
    }

    /// Whether all of a member's feed counts if its first event does: it has one grant that lets it
    /// write, and nobody removed it.
    pub fn is_simple(&self, author: &NodeKey) -> bool {
        *author == self.founder
            || self.standings.get(author).is_some_and(|standing| {
                standing.removals.is_empty()
                    && standing.grants.len() == 1
                    && self.grants[author][standing.grants[0]].role >= Role::Writer
            })
    }

    /// The role of a machine now.
    pub fn role(&self, node: &NodeKey) -> Option<Role> {
        self.member(node).map(|member| member.role)
    }

    /// The latest effective grant to a machine.
    pub fn latest_grant(&self, node: &NodeKey) -> Option<Target> {
        let standing = self.standings.get(node)?;
        Some(self.grants.get(node)?[*standing.grants.last()?].at)
    }

    /// Whether a removal by `by` would count: any admin removes those who never were admins, and
    /// only somebody up the grant chain removes one who was.
    pub fn may_remove(&self, by: &NodeKey, node: &NodeKey) -> bool {
        let Some(standing) = self.standings.get(node) else { return false };
        *node != self.founder && (standing.level.is_none() || standing.above.contains(by))
    }

    fn member(&self, node: &NodeKey) -> Option<Member> {
        if *node == self.founder {
            return Some(Member { node: *node, role: Role::Admin, since: self.founded });
        }
        let standing = self.standings.get(node)?;
        let grants = self.grants.get(node)?;
        // A removal stands against all grants that did not know of it.
        let valid = |index: &&usize| standing.removals.iter().all(|(_, knew)| knew.contains(index));
        let grant = &grants[*standing.grants.iter().rev().find(valid)?];
        Some(Member { node: *node, role: grant.role, since: grant.at.logseq })
    }

    /// All current members, by key.
    pub fn members(&self) -> Vec<Member> {
        let mut nodes: BTreeSet<NodeKey> = self.grants.keys().copied().collect();
        nodes.insert(self.founder);
        nodes.iter().filter_map(|node| self.member(node)).collect()
    }
}

/// Whether an event is among these of its author's feed, or before one of them.
fn had_seen<H: History>(
    log: Log,
    history: &H,
    seen: &[(u64, EventId)],
    at: &Target,
) -> Result<bool, H::Error> {
    if seen.iter().all(|(seq, _)| *seq < at.seq) {
        return Ok(false);
    }
    // What the remover had seen is held. The event in question may not be, yet.
    if past::is_alone(history, log, at)? {
        return Ok(true);
    }
    for (_, id) in seen.iter().filter(|(seq, _)| *seq >= at.seq) {
        let mut cursor = Some(*id);
        while let Some(id) = cursor {
            let Some(ordinal) = history.find(log, &id)? else { break };
            let place = history.place(log, ordinal)?;
            if id == at.id {
                return Ok(true);
            }
            cursor = place.head.prev.filter(|_| place.head.seq > at.seq);
        }
    }
    Ok(false)
}
