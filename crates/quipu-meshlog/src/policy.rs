//! Whose events are taken: signatures, and what is done about authors whose key is not known.

use std::collections::{BTreeMap, BTreeSet};

use crate::batch::{self, Claim};
use crate::event::{Event, Looked, MeshId};
use crate::identity::PublicIdentity;
use crate::text::Text;

/// What is done about authors whose key is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// They are taken, as meshlogd 0.5.0 does. An author whose key is known must sign.
    #[default]
    Open,
    /// They are taken, but who once signed with a known key is bound to it, whatever it calls itself.
    FirstUse,
    /// Only authors on a list are taken, and only with signatures.
    Roster,
}

impl Policy {
    /// All policies by name.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Open, "open"), (Self::FirstUse, "first-use"), (Self::Roster, "roster")];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(policy, _)| *policy == self).map_or("", |(_, name)| name)
    }

    /// The policy with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == name).map(|(policy, _)| policy)
    }
}

/// What is known of an event that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nobody vouches for it: the author's key is not known.
    Unproven,
    /// Its author signed it.
    Proven,
}

/// Why an event is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The id is not that of the content: whoever sent it made it up, or damaged it.
    #[error("event {id} of {author}: the id is not the hash of its content")]
    Forged {
        /// The id that it claims.
        id: MeshId,
        /// Whose event it claims to be.
        author: Text,
    },
    /// The author's key is known and did not make this signature.
    #[error("event {id} of {author}: the signature is not the author's")]
    Signature {
        /// The event.
        id: MeshId,
        /// Whose event it claims to be.
        author: Text,
    },
    /// The author's key is known and there is no signature.
    #[error("event {id} of {author}: not signed, though the author's key is known")]
    Unsigned {
        /// The event.
        id: MeshId,
        /// Whose event it claims to be.
        author: Text,
    },
    /// The author is not on the roster.
    #[error("event {id}: its author {author} is not on the roster, or not trusted")]
    Stranger {
        /// The event.
        id: MeshId,
        /// Whose event it claims to be.
        author: Text,
    },
    /// Another event of the author is held at its place.
    #[error("event {id} of {author}: its place {seq} has event {held} already")]
    Fork {
        /// The event.
        id: MeshId,
        /// Who wrote, or is made to look as if it wrote, both.
        author: Text,
        /// The place.
        seq: u64,
        /// What stands there.
        held: MeshId,
    },
    /// It does not name the last event of the feed as the one before it.
    #[error("event {id} of {author}: it does not continue the feed at place {seq}")]
    Chain {
        /// The event.
        id: MeshId,
        /// Whose event it is.
        author: Text,
        /// Its place.
        seq: u64,
    },
    /// It is too far ahead of its feed, or too many events wait. It will be offered again.
    #[error("event {id} of {author}: place {seq} is too far ahead, {next} is next")]
    TooFarAhead {
        /// The event.
        id: MeshId,
        /// Whose event it is.
        author: Text,
        /// Its place.
        seq: u64,
        /// The place that the feed has reached.
        next: u64,
    },
}

/// What a look at id and signature says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    Forged,
    Shunned,
    NoKey,
    Unsigned,
    OtherSignature,
    Signed,
}

/// The keys that are known, and the policy about the others.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    policy: Policy,
    /// Keys by the author that they name, from announces and links.
    known: BTreeMap<Text, PublicIdentity>,
    /// Keys of authors on the roster.
    roster: BTreeMap<Text, PublicIdentity>,
    /// Authors of whom nothing is taken.
    shunned: BTreeSet<Text>,
    /// Under [`Policy::FirstUse`], the key that an author signed with first.
    bound: BTreeMap<Text, PublicIdentity>,
}

impl Judge {
    /// A judge that knows nobody.
    pub fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Takes note of an announced identity. Its hash is the author that it proves, so nobody can announce a
    /// key for somebody else.
    pub fn learn(&mut self, identity: PublicIdentity) {
        self.known.insert(identity.author(), identity);
    }

    /// Puts an author on the roster. A name that is not the identity's hash is bound to it by that.
    pub fn admit(&mut self, author: Text, identity: PublicIdentity) {
        self.roster.insert(author, identity);
    }

    /// Takes an author off the roster. Events that were taken stay.
    pub fn dismiss(&mut self, author: &Text) {
        self.roster.remove(author);
    }

    /// The same under another policy, with nobody on the roster.
    #[must_use]
    pub fn under(self, policy: Policy) -> Self {
        Self { policy, known: self.known, bound: self.bound, ..Self::default() }
    }

    /// Takes nothing of an author any more.
    pub fn shun(&mut self, author: Text) {
        self.shunned.insert(author);
    }

    /// The key that an author is bound to, if any.
    pub fn key_of(&self, author: &Text) -> Option<&PublicIdentity> {
        let by_list = self.roster.get(author);
        match self.policy {
            Policy::Roster => by_list,
            Policy::Open => by_list.or_else(|| self.known.get(author)),
            Policy::FirstUse => {
                by_list.or_else(|| self.known.get(author)).or_else(|| self.bound.get(author))
            }
        }
    }

    /// Whether an event may be taken, by its id and signature alone.
    pub fn judge(&mut self, event: &Event) -> Result<Verdict, Refusal> {
        let checked = self.check(event);
        self.conclude(event, checked)
    }

    /// The costly part, which changes nothing and may run anywhere.
    pub(crate) fn check(&self, event: &Event) -> Checked {
        let bytes = event.body().to_bytes();
        if MeshId::of(&bytes) != event.id() {
            return Checked::Forged;
        }
        match self.claim(event) {
            Err(checked) => checked,
            Ok(claim) if claim.key.has_signed(&bytes, claim.signature) => Checked::Signed,
            Ok(_) => Checked::OtherSignature,
        }
    }

    /// The same for many events.
    pub(crate) fn check_all<'a>(
        &'a self,
        events: impl Iterator<Item = &'a Looked>,
    ) -> Vec<Checked> {
        let claim = |looked: &'a Looked| {
            if looked.is_authentic { self.claim(&looked.event) } else { Err(Checked::Forged) }
        };
        let claims: Vec<Result<Claim<'_>, Checked>> = events.map(claim).collect();
        let to_verify: Vec<Claim<'_>> = claims.iter().filter_map(|one| one.ok()).collect();
        let mut signed = batch::verify_all(&to_verify).into_iter();
        let conclude = |claim: Result<Claim<'_>, Checked>| match claim {
            Err(checked) => checked,
            Ok(_) if signed.next() == Some(true) => Checked::Signed,
            Ok(_) => Checked::OtherSignature,
        };
        claims.into_iter().map(conclude).collect()
    }

    /// The signature that must be good, by the key that an author is bound to; or what there is to say without.
    fn claim<'a>(&'a self, event: &'a Event) -> Result<Claim<'a>, Checked> {
        if self.shunned.contains(&event.author) {
            return Err(Checked::Shunned);
        }
        let key = self.key_of(&event.author).ok_or(Checked::NoKey)?;
        let signature = event.signature().ok_or(Checked::Unsigned)?;
        Ok(Claim { key, body: event.body(), signature })
    }

    /// What follows from a check. Under [`Policy::FirstUse`] an event before this one may have bound the
    /// author since, and the check is made again.
    pub(crate) fn conclude(&mut self, event: &Event, checked: Checked) -> Result<Verdict, Refusal> {
        let is_stale = self.policy == Policy::FirstUse
            && matches!(checked, Checked::NoKey)
            && self.key_of(&event.author).is_some();
        let checked = if is_stale { self.check(event) } else { checked };
        match (checked, self.policy) {
            (Checked::Signed, _) => {
                self.note_use(&event.author);
                return Ok(Verdict::Proven);
            }
            (Checked::NoKey, Policy::Open) => return Ok(Verdict::Unproven),
            (Checked::NoKey, Policy::FirstUse) => return Ok(self.bind(event)),
            _ => {}
        }
        let (id, author) = (event.id(), event.author.clone());
        Err(match checked {
            Checked::Forged => Refusal::Forged { id, author },
            Checked::Unsigned => Refusal::Unsigned { id, author },
            Checked::NoKey | Checked::Shunned => Refusal::Stranger { id, author },
            Checked::OtherSignature | Checked::Signed => Refusal::Signature { id, author },
        })
    }

    /// Under [`Policy::FirstUse`], binds an author to the key that its name is the hash of, now that it has signed.
    fn note_use(&mut self, author: &Text) {
        let is_new = !self.roster.contains_key(author) && !self.bound.contains_key(author);
        if self.policy == Policy::FirstUse
            && is_new
            && let Some(key) = self.known.get(author)
        {
            self.bound.insert(author.clone(), key.clone());
        }
    }

    /// Authors that were bound to a key at their first use, in the order of their names.
    pub fn bound(&self) -> impl Iterator<Item = (&Text, &PublicIdentity)> {
        self.bound.iter()
    }

    /// Binds an author to the known key that signed, if one did.
    fn bind(&mut self, event: &Event) -> Verdict {
        let Some(signature) = event.signature() else { return Verdict::Unproven };
        let bytes = event.body().to_bytes();
        let signer = self.known.values().find(|key| key.has_signed(&bytes, signature));
        match signer.cloned() {
            Some(key) => {
                self.bound.insert(event.author.clone(), key);
                Verdict::Proven
            }
            None => Verdict::Unproven,
        }
    }
}
