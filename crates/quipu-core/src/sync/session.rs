//! What a machine remembers of one link while it is up.

use std::ops::Range;

use super::check::Checking;
use super::message::{Message, encode_part};
use super::plan::Cargo;
use super::trade::Trade;
use super::unsigned::Unsigned;
use crate::codec::pack::Context;
use crate::event::VerifiedEvent;
use crate::history::Ordinal;
use crate::id::{ArtifactId, IdMap, LogDigest, NodeKey};
use crate::node::LinkId;
use crate::sketch::Decoder;

crate::machine! {
    /// Where a session is. The initiator starts by sending hello and compare; the responder waits
    /// for them.
    SessionState / SessionInput, "peer session";
    states {
        /// The link is up, nothing was said.
        Linked,
        /// Initiator: hello is sent, the answer is awaited.
        ExpectWelcome,
        /// Responder: the peer is let in, its digest is awaited.
        ExpectCompare,
        /// Initiator: the digest is sent, the responder's view is awaited.
        ExpectView,
        /// Events flow in both directions until both sides say end.
        Exchanging,
        /// Both held the same when they last compared; new events are pushed as they come.
        Level,
        /// Over.
        Closed,
    }
    inputs {
        /// Initiator: the link is up.
        HelloSent,
        /// Responder: hello came from a member, or from a newcomer with an invitation.
        HelloAccepted,
        /// One side turned the other away.
        Refused,
        /// Initiator: the responder let us in.
        Welcomed,
        /// Initiator: digest sent.
        CompareSent,
        /// Equal digests.
        Same,
        /// Unequal digests; what to send and to ask for is known.
        Differs,
        /// The sketch needs more symbols.
        Undecoded,
        /// After the exchange the digests are equal.
        LevelReached,
        /// The link is down, or a rule of the protocol was broken.
        Lost,
    }
    start Linked;
    Linked --HelloSent--> ExpectWelcome;
    Linked --HelloAccepted--> ExpectCompare;
    Linked --Refused--> Closed;
    Linked --Lost--> Closed;
    ExpectWelcome --Welcomed--> ExpectView;
    ExpectWelcome --Refused--> Closed;
    ExpectWelcome --Lost--> Closed;
    ExpectCompare --Same--> Level;
    ExpectCompare --Differs--> Exchanging;
    ExpectCompare --Refused--> Closed;
    ExpectCompare --Lost--> Closed;
    ExpectView --Same--> Level;
    ExpectView --Differs--> Exchanging;
    ExpectView --Undecoded--> ExpectView;
    ExpectView --CompareSent--> ExpectView;
    ExpectView --Refused--> Closed;
    ExpectView --Lost--> Closed;
    Exchanging --LevelReached--> Level;
    Exchanging --CompareSent--> ExpectView;
    Exchanging --Same--> Level;
    Exchanging --Differs--> Exchanging;
    Exchanging --Refused--> Closed;
    Exchanging --Lost--> Closed;
    Level --CompareSent--> ExpectView;
    Level --Same--> Level;
    Level --Differs--> Exchanging;
    Level --LevelReached--> Level;
    Level --Refused--> Closed;
    Level --Lost--> Closed;
}

/// What a session has moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Events sent.
    pub sent_events: u64,
    /// Events received that were new here.
    pub received_events: u64,
    /// Events received that were held already.
    pub duplicate_events: u64,
    /// Bytes of frames sent.
    pub bytes_sent: u64,
    /// Bytes of frames received.
    pub bytes_received: u64,
    /// Times that this side asked and waited for an answer.
    pub round_trips: u64,
    /// Bytes of artifacts sent, with what proves them.
    pub artifact_bytes_sent: u64,
    /// Bytes of artifacts received.
    pub artifact_bytes_received: u64,
    /// Groups of artifacts received that were held or under way from elsewhere already.
    pub groups_again: u64,
}

/// What is known of the events that the peer holds.
#[derive(Debug, Default)]
pub(crate) struct PeerHas {
    /// The peer is presumed to hold every event below this ordinal, but for `above`.
    pub(crate) below: Ordinal,
    /// Authors of whom the peer holds our events only up to a seq.
    pub(crate) above: IdMap<NodeKey, u64>,
    /// References failed: presume nothing.
    pub(crate) plain: bool,
}

/// Session state that only one direction of it uses.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// What was asked for or is known to be lacking.
    pub(crate) cargo: Cargo,
    /// Events from this ordinal on are new and to be pushed.
    pub(crate) live_from: Option<Ordinal>,
    /// Whether live events are pushed, or only announced.
    pub(crate) eager: bool,
    /// Clock time before which no announcement is sent.
    pub(crate) tips_not_before: u64,
    pub(crate) context: Context,
    pub(crate) restart: bool,
    pub(crate) index: u32,
    /// Bytes of frames that have left, as the link said last.
    pub(crate) written: u64,
    /// This side owes an end for the round.
    pub(crate) owes_end: bool,
}

/// The other direction.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) context: Context,
    pub(crate) index: u32,
    /// A batch was lost or could not be read: nothing counts until the next restart.
    pub(crate) broken: bool,
    pub(crate) unsigned: Unsigned,
    /// The last frame, while its signatures are being checked.
    pub(crate) checking: Option<Checking>,
    /// What waits for signatures was read with references to events that both sides hold.
    pub(crate) referred: bool,
    /// How often such references led astray.
    pub(crate) spoilt: u8,
    /// Ordinals of events that came over this link, so that they are not sent back.
    pub(crate) ordinals: Vec<Range<Ordinal>>,
    /// The peer's end of the round came.
    pub(crate) end: Option<LogDigest>,
    /// Announced ends to look for, and when.
    pub(crate) graft: Option<(u64, Vec<crate::sketch::Item>)>,
}

impl Incoming {
    /// Empties the queue of what waits for signatures: gives what is proven, drops the rest.
    pub(crate) fn rest(
        &mut self,
        link: LinkId,
    ) -> impl Iterator<Item = (Option<LinkId>, VerifiedEvent)> + use<> {
        if let Some(checking) = self.checking.take() {
            let (events, wrong) = checking.finish();
            // What comes after a lie is dropped, like what nobody vouches for.
            drop(self.unsigned.push_frame(events, wrong, |_| false));
        }
        self.unsigned.finish().into_iter().map(move |event| (Some(link), event))
    }
}

/// One link with what is known of the peer.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) peer: NodeKey,
    pub(crate) initiator: bool,
    pub(crate) state: SessionState,
    /// Both sides stay for live events.
    pub(crate) live: bool,
    /// The request that waits for this session to become level.
    pub(crate) request: Option<u64>,
    pub(crate) round: u32,
    pub(crate) attempt: u8,
    /// Sketches do not help: the peer is to list its feed ends.
    pub(crate) listed: bool,
    /// The list of this round was a part of the peer's feed ends.
    pub(crate) part: bool,
    /// Where both were level when the round began.
    pub(crate) met: Option<crate::node::Met>,
    /// Digest at which the round started here.
    pub(crate) decoder: Option<(Decoder, LogDigest)>,
    /// Ordinal at which the round's view was taken.
    pub(crate) view_at: Ordinal,
    pub(crate) has: PeerHas,
    pub(crate) outgoing: Outgoing,
    pub(crate) incoming: Incoming,
    pub(crate) trade: Trade,
    pub(crate) traffic: Traffic,
    /// When to compare again, or to give up waiting.
    pub(crate) deadline: u64,
    pub(crate) pace: Pace,
    /// Ask for full ids in the next round: a reference could not be resolved.
    pub(crate) plain: bool,
    /// Events moved when the last round ended, to see whether the next one brought any.
    pub(crate) progress: u64,
    /// Rounds in a row that did not end level.
    pub(crate) rounds_apart: u8,
    /// Counts at the last look for redundant live events.
    pub(crate) duplicates_seen: u64,
    pub(crate) fresh_seen: u64,
}

/// How fast a link is. What is asked of its other end takes its time, and others need the link, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How many times as long as usual answers may take, and comparisons wait for the next.
    pub patience: u64,
    /// Groups of an artifact that are asked for at once.
    pub part_groups: u64,
    /// Parts that are asked for and are not here yet.
    pub parts: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            patience: 1,
            part_groups: crate::artifact::PART_GROUPS_MAX,
            parts: crate::limits::PARTS_ASKED_MAX,
        }
    }
}

impl Pace {
    /// Whether bytes are worth more time than usual.
    pub(crate) fn is_slow(&self) -> bool {
        self.patience > 1
    }

    /// How long an answer may take, in milliseconds.
    pub(crate) fn answer_ms(&self) -> u64 {
        crate::limits::ANSWER_MS.saturating_mul(self.patience)
    }

    /// How long to wait until the next comparison, in milliseconds.
    pub(crate) fn compare_ms(&self) -> u64 {
        crate::limits::COMPARE_MS.saturating_mul(self.patience)
    }
}

impl Session {
    pub(crate) fn new(peer: NodeKey, initiator: bool, now: u64) -> Self {
        Self {
            peer,
            initiator,
            state: <SessionState as crate::machine::Machine>::START,
            live: true,
            request: None,
            round: 0,
            attempt: 0,
            listed: false,
            part: false,
            met: None,
            decoder: None,
            view_at: 0,
            has: PeerHas::default(),
            outgoing: Outgoing {
                cargo: Cargo::List(Vec::new(), 0),
                live_from: None,
                eager: true,
                tips_not_before: 0,
                context: Context::writer().of_sync(),
                restart: true,
                index: 0,
                written: 0,
                owes_end: false,
            },
            incoming: Incoming {
                context: Context::reader().of_sync(),
                index: 0,
                broken: false,
                unsigned: Unsigned::default(),
                checking: None,
                referred: false,
                spoilt: 0,
                ordinals: Vec::new(),
                end: None,
                graft: None,
            },
            trade: Trade::default(),
            traffic: Traffic::default(),
            deadline: now + crate::limits::ANSWER_MS,
            pace: Pace::default(),
            plain: false,
            progress: 0,
            rounds_apart: 0,
            duplicates_seen: 0,
            fresh_seen: 0,
        }
    }

    /// Takes a step of the table. Answers whether there was an arrow.
    pub(crate) fn step(&mut self, input: SessionInput) -> bool {
        use crate::machine::Machine;
        match self.state.on(input) {
            Some(next) => {
                self.state = next;
                true
            }
            None => {
                debug_assert!(false, "no arrow from {:?} on {input:?}", self.state);
                false
            }
        }
    }

    /// Whether the responder's view is awaited, for this round.
    pub(crate) fn expects_view(&self, round: u32) -> bool {
        self.state == SessionState::ExpectView && self.round == round
    }

    /// What is packed from now on can be read without what was packed before.
    pub(crate) fn begin_stream(&mut self) {
        self.outgoing.context = Context::writer().of_sync();
        if self.pace.is_slow() {
            self.outgoing.context.set_small();
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(
            self.state,
            SessionState::ExpectCompare
                | SessionState::ExpectView
                | SessionState::Exchanging
                | SessionState::Level
        )
    }

    /// Whether the peer is or will be asked for artifacts.
    pub(crate) fn may_ask(&self) -> bool {
        self.is_open() || (self.initiator && self.state == SessionState::ExpectWelcome)
    }

    /// Notes that an event with this ordinal came over this link, if it could be sent back.
    pub(crate) fn note_received(&mut self, ordinal: Ordinal) {
        if self.outgoing.live_from.is_none() {
            return;
        }
        match self.incoming.ordinals.last_mut() {
            Some(last) if last.end == ordinal => last.end += 1,
            _ => self.incoming.ordinals.push(ordinal..ordinal + 1),
        }
    }

    /// Whether an event came over this link.
    pub(crate) fn came_from_peer(&self, ordinal: Ordinal) -> bool {
        self.received_up_to(ordinal).is_some()
    }

    /// If an event came over this link: the ordinal after it and those that came with it.
    pub(crate) fn received_up_to(&self, ordinal: Ordinal) -> Option<Ordinal> {
        let list = &self.incoming.ordinals;
        let after = list.partition_point(|range| range.end <= ordinal);
        list.get(after).filter(|range| range.contains(&ordinal)).map(|range| range.end)
    }

    /// Forgets notes about events that are behind the live position.
    pub(crate) fn prune_received(&mut self, below: Ordinal) {
        self.incoming.ordinals.retain(|range| range.end > below);
    }

    /// The bytes of a message, counted.
    pub(crate) fn encode(&mut self, message: &Message) -> Vec<u8> {
        let bytes = message.encode();
        self.traffic.bytes_sent += bytes.len() as u64;
        bytes
    }

    /// A part of an artifact as a frame, counted.
    pub(crate) fn encode_part(
        &mut self,
        key: &ArtifactId,
        size: u64,
        groups: &Range<u64>,
        bytes: &[u8],
    ) -> Vec<u8> {
        self.traffic.artifact_bytes_sent += bytes.len() as u64;
        let frame = encode_part(key, size, groups, bytes);
        self.traffic.bytes_sent += frame.len() as u64;
        frame
    }

    /// Bytes of frames that wait to be written.
    pub(crate) fn unwritten(&self) -> u64 {
        self.traffic.bytes_sent - self.outgoing.written
    }
}
