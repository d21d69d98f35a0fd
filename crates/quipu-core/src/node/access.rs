//! Who may see what: a peer is a member, or a newcomer with an invitation, or turned away.

use ed25519_dalek::{Signature, VerifyingKey};

use super::local::Written;
use super::{Effect, Flow, LinkId, Node, Notice};
use crate::domain::Decision;
use crate::event::Log;
use crate::history::History;
use crate::id::{DomainId, NodeKey};
use crate::sync::message::{InviteProof, Message, PROTOCOL_VERSION, Refusal, invite_message};
use crate::sync::session::{Session, SessionInput};

impl Node {
    /// After a change of membership: whoever is no longer a member is turned away.
    pub(super) fn check_access(&mut self, out: &mut Vec<Effect>) {
        let Some(dag) = &self.dag else { return };
        let gone = |session: &Session| {
            let authority = dag.authority();
            session.is_open()
                && !self.may_see(&session.peer)
                && !(session.initiator && authority.is_stranger(&session.peer))
        };
        let links: Vec<LinkId> =
            self.sessions.iter().filter(|(_, s)| gone(s)).map(|(link, _)| *link).collect();
        for link in links {
            self.refuse_stranger(link, out);
        }
    }

    /// Whether what this machine holds may be shown to the peer. A machine that holds nothing yet has
    /// nothing to show.
    pub(super) fn peer_may_see(&self, link: LinkId) -> bool {
        self.sessions.get(&link).is_none_or(|session| self.may_see(&session.peer))
    }

    /// Whether what this machine holds may be shown to a machine: to members, and what is published also
    /// to those whom the published log lets in, and to this machine's own circle.
    pub(super) fn may_see(&self, peer: &NodeKey) -> bool {
        let Some(dag) = &self.dag else { return true };
        let authority = dag.authority();
        authority.role(peer).is_some()
            || self.log == Log::Published
                && (authority.access().allows(peer) || self.circle.contains(peer))
    }

    pub(super) fn refuse_stranger(&mut self, link: LinkId, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get(&link) else { return };
        if self.log == Log::Published {
            return self.refuse(link, Refusal::NotShown, not_shown(&self.domain), out);
        }
        let text = format!("{} is not a member of domain {}", session.peer, self.domain);
        self.refuse(link, Refusal::NotMember, text, out);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn on_hello<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        version: u8,
        (domain, log): (DomainId, Log),
        live: bool,
        invite: Option<InviteProof>,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<Flow, H::Error> {
        let Some(peer) = self.sessions.get(&link).map(|session| session.peer) else {
            return Ok(Flow::Done);
        };
        let turned_away = if version != PROTOCOL_VERSION {
            let text = format!("protocol version {version} here, {PROTOCOL_VERSION} there");
            Some((Refusal::Version, text))
        } else if log == Log::Published && (domain, log) != (self.domain, self.log) {
            Some((Refusal::NotShown, not_shown(&domain)))
        } else if (domain, log) != (self.domain, self.log) {
            let text = format!("this machine holds domain {}, not {domain}", self.domain);
            Some((Refusal::OtherDomain, text))
        } else {
            match &self.dag {
                // The same answer as from a machine that keeps nothing of it.
                None if self.log == Log::Published => Some((Refusal::NotShown, not_shown(&domain))),
                None => Some((Refusal::Busy, "this machine is itself still joining".to_owned())),
                Some(_) if self.may_see(&peer) => None,
                Some(_) if self.log == Log::Published => {
                    Some((Refusal::NotShown, not_shown(&domain)))
                }
                Some(_) => match self.admit(now, peer, invite, history, out)? {
                    Admission::Done => None,
                    Admission::Blocked => return Ok(Flow::Blocked),
                    Admission::Refused(refusal, text) => Some((refusal, text)),
                },
            }
        };
        if let Some((refusal, text)) = turned_away {
            self.refuse(link, refusal, text, out);
            return Ok(Flow::Done);
        }
        if let Some(session) = self.sessions.get_mut(&link) {
            session.live = live;
            session.step(SessionInput::HelloAccepted);
            out.push(Effect::Send { link, bytes: session.encode(&Message::Welcome) });
            out.push(Effect::Notify(Notice::PeerUp { peer, link, live }));
            // Not before: a stranger costs nothing.
            self.introduce(link);
        }
        Ok(Flow::Done)
    }

    /// Makes a newcomer with a valid invitation a member.
    fn admit<H: History>(
        &mut self,
        now: u64,
        peer: NodeKey,
        invite: Option<InviteProof>,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<Admission, H::Error> {
        let Some(dag) = &self.dag else { return Ok(Admission::Blocked) };
        let Some(proof) = invite else {
            let text = format!("{peer} is not a member of domain {}", self.domain);
            return Ok(Admission::Refused(Refusal::NotMember, text));
        };
        let refused = |text: &str| Ok(Admission::Refused(Refusal::Invitation, text.to_owned()));
        if !proof_is_valid(&self.domain, &peer, &proof) {
            return refused("the invitation's signature is wrong");
        }
        let Some(invitation) = dag.authority().open_invitation(history, &proof.key)? else {
            return refused("the invitation is unknown here, or used up");
        };
        if invitation.expires_ms < now {
            return refused("the invitation has expired");
        }
        if dag.authority().role(&self.node) != Some(crate::domain::Role::Admin) {
            let text = "only an admin's machine can let a newcomer in".to_owned();
            return Ok(Admission::Refused(Refusal::NotAdmin, text));
        }
        let decision = Decision::Add { node: peer, role: invitation.role, invite: Some(proof.key) };
        let draft = self.draft_of(&decision);
        Ok(match self.write(now, draft, history, out)? {
            Written::Done(_) => {
                out.push(Effect::Notify(Notice::Admitted { node: peer }));
                Admission::Done
            }
            Written::Blocked(_) => Admission::Blocked,
            Written::Refused(error) => Admission::Refused(Refusal::Invitation, error.to_string()),
        })
    }
}

/// The answer to whoever may not see a published log, and to whoever asks for one that is not here: nobody
/// can tell the two apart (DOM-2).
fn not_shown(domain: &DomainId) -> String {
    format!("nothing of the published log of domain {domain} is shown here")
}

enum Admission {
    Done,
    Blocked,
    Refused(Refusal, String),
}

fn proof_is_valid(domain: &DomainId, newcomer: &NodeKey, proof: &InviteProof) -> bool {
    let message = invite_message(domain, newcomer);
    VerifyingKey::from_bytes(&proof.key.0).is_ok_and(|key| {
        key.verify_strict(&message, &Signature::from_bytes(&proof.signature)).is_ok()
    })
}
