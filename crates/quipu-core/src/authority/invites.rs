//! Invitations and who was admitted with them.

use std::collections::{BTreeMap, BTreeSet};

use super::Authority;
use crate::domain::{Invitation, Role};
use crate::history::History;
use crate::id::{EventId, NodeKey};

impl Authority {
    /// How often an invitation may be used, and whether it makes admins. Only admins invite.
    fn terms<H: History>(
        &self,
        history: &H,
        invite: &NodeKey,
    ) -> Result<Option<(u64, Role)>, H::Error> {
        let mut terms: Option<(u64, Role)> = None;
        for invite in self.invites.get(invite).into_iter().flatten() {
            if self.role_at(history, &invite.at, &invite.head)? == Some(Role::Admin) {
                let (uses, role) = (invite.invitation.uses_max, invite.invitation.role);
                let known = terms.unwrap_or((0, Role::Reader));
                terms = Some((known.0.max(uses), known.1.max(role)));
            }
        }
        Ok(terms)
    }

    /// Whether more admissions claim an invitation than it allows.
    pub(super) fn is_contested<H: History>(
        &self,
        history: &H,
        invite: &NodeKey,
    ) -> Result<bool, H::Error> {
        let claims = self.admissions.get(invite).map_or(0, BTreeMap::len) as u64;
        Ok(claims > self.terms(history, invite)?.map_or(0, |(uses, _)| uses))
    }

    /// Whether an admission is among those that the invitation allows: of those by admins, the ones
    /// with the smallest ids, of different machines. Where admins are made, the level of whoever
    /// admits comes first, so that nobody's standing depends on somebody's below.
    pub(super) fn admitted<H: History>(
        &self,
        history: &H,
        invite: &NodeKey,
        grant: &EventId,
        node: &NodeKey,
    ) -> Result<bool, H::Error> {
        let Some(admissions) = self.admissions.get(invite) else { return Ok(false) };
        let Some((uses_max, role)) = self.terms(history, invite)? else { return Ok(false) };
        if admissions.len() as u64 <= uses_max {
            return Ok(true);
        }
        let mut claims = Vec::new();
        for (id, (node, index)) in admissions {
            let claim = &self.grants[node][*index];
            if self.role_at(history, &claim.at, &claim.head)? == Some(Role::Admin) {
                let giver = self.standings.get(&claim.at.author);
                let level = giver.and_then(|giver| giver.level).filter(|_| role == Role::Admin);
                claims.push((level, *id, *node));
            }
        }
        claims.sort_unstable();
        let mut nodes = BTreeSet::new();
        for (_, id, admitted) in claims {
            if !nodes.contains(&admitted) && nodes.len() as u64 >= uses_max {
                continue;
            }
            nodes.insert(admitted);
            if id == *grant && admitted == *node {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The invitation behind a ticket, if an admin made it and it is not used up.
    ///
    /// # Errors
    /// What the history could not read.
    pub fn open_invitation<H: History>(
        &self,
        history: &H,
        key: &NodeKey,
    ) -> Result<Option<Invitation>, H::Error> {
        for invite in self.invites.get(key).into_iter().flatten() {
            let used = self.admissions.get(key).map_or(0, BTreeMap::len) as u64;
            if used < invite.invitation.uses_max
                && self.role_at(history, &invite.at, &invite.head)? == Some(Role::Admin)
            {
                return Ok(Some(invite.invitation.clone()));
            }
        }
        Ok(None)
    }
}
