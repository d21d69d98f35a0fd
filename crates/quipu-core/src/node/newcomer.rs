//! A newcomer that takes a snapshot's state first (LOG-9). It holds nothing of the log yet, so it
//! cannot know who is a member: the peer that its ticket names is believed to offer a snapshot of the
//! domain, and everything else is proven by the snapshot's root.

use super::{Effect, LinkId, Node};
use crate::history::History;
use crate::sync::message::{Message, StateOffer};

/// How long a session may take to bring a state, in milliseconds: as long as parts keep coming.
const STATE_MS: u64 = 86_400_000;

impl Node {
    pub(super) fn ask_state(&mut self, now: u64, link: LinkId, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.deadline = now + session.pace.answer_ms();
        session.traffic.round_trips += 1;
        out.push(Effect::Send { link, bytes: session.encode(&Message::AskState) });
    }

    pub(super) fn on_ask_state(&mut self, link: LinkId, out: &mut Vec<Effect>) {
        if self.peer_may_see(link) {
            out.push(Effect::MakeState { link });
        } else {
            self.refuse_stranger(link, out);
        }
    }

    pub(super) fn on_state_made(
        &mut self,
        link: LinkId,
        offer: Option<StateOffer>,
        out: &mut Vec<Effect>,
    ) {
        if let Some(session) = self.sessions.get_mut(&link) {
            out.push(Effect::Send { link, bytes: session.encode(&Message::State(offer)) });
        }
    }

    /// Takes what is offered, and leaves when it is here. Where there is no snapshot, the log comes.
    pub(super) fn on_state<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        offer: Option<StateOffer>,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        let asked = self.sessions.get(&link).is_some_and(|s| s.initiator && s.round == 0);
        if !asked || self.dag.is_some() {
            return Ok(());
        }
        let Some(offer) = offer else {
            self.send_compare(now, link, out);
            return Ok(());
        };
        let key = offer.key;
        out.push(Effect::TakeState { offer });
        if let Some(session) = self.sessions.get_mut(&link) {
            session.deadline = now + STATE_MS;
        }
        if history.artifact_size(&key)?.is_none() {
            self.want(key, None, None, history)?;
        }
        self.finish_request(now, link, false, out);
        Ok(())
    }
}
