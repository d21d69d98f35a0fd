//! What a session remembers of artifacts: what was asked of the peer, and what it asked for.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use crate::id::ArtifactId;
use crate::limits::{ANSWER_MS, PARTS_LATE_MAX};

/// A part that a peer was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) key: ArtifactId,
    pub(crate) groups: Range<u64>,
    /// The size that the peer offered.
    pub(crate) size: u64,
}

/// A question that is not answered yet.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) ask: u32,
    /// Ascending.
    pub(crate) keys: Vec<ArtifactId>,
    pub(crate) at: u64,
}

/// The initiator of a session that does not stay is through with events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leaving {
    /// Whether both sides are level.
    pub(crate) equal: bool,
    /// It leaves then at the latest, unless something moves.
    pub(crate) until: u64,
}

/// The artifacts of one link.
#[derive(Debug)]
pub(crate) struct Trade {
    /// Wanted here; the peer is to be asked.
    pub(crate) to_ask: BTreeSet<ArtifactId>,
    pub(crate) asked: Option<Asked>,
    /// Questions asked so far.
    pub(crate) asks: u32,
    /// Questions in a row that were not answered in time.
    pub(crate) unanswered: u8,
    /// Wanted artifacts that the peer has and of which it can be asked for a part, by rank.
    pub(crate) ready: BTreeSet<(u64, ArtifactId)>,
    /// Wanted artifacts that the peer has.
    pub(crate) sources: usize,
    /// In the order in which they were asked for.
    pub(crate) expected: VecDeque<Expected>,
    /// Given up, but they may come all the same.
    pub(crate) late: VecDeque<Expected>,
    /// Parts that came and are being stored.
    pub(crate) storing: usize,
    /// When the peer sent a part last, or was asked for the first.
    pub(crate) heard: u64,
    /// How long the next part may take, in milliseconds.
    pub(crate) patience: u64,
    /// How long an answer may take over this link, in milliseconds.
    pub(crate) answer_ms: u64,
    /// The peer did not answer in time.
    pub(crate) slow: bool,
    /// Parts that the peer asked for.
    pub(crate) owed: VecDeque<(ArtifactId, Range<u64>)>,
    /// What the peer asked for and is not here.
    pub(crate) lacked: BTreeSet<ArtifactId>,
    /// A question that waits until the peer is known to be a member.
    pub(crate) held_ask: Option<(u32, Vec<ArtifactId>)>,
    /// This side has asked over a link that does not stay, and did not say that it is done.
    pub(crate) said_busy: bool,
    /// The same of the peer.
    pub(crate) peer_busy: bool,
    /// All wants that follow from what this session brought are told.
    pub(crate) told: bool,
    pub(crate) leaving: Option<Leaving>,
}

impl Default for Trade {
    fn default() -> Self {
        Self {
            to_ask: BTreeSet::new(),
            asked: None,
            asks: 0,
            unanswered: 0,
            ready: BTreeSet::new(),
            sources: 0,
            expected: VecDeque::new(),
            late: VecDeque::new(),
            storing: 0,
            heard: 0,
            patience: ANSWER_MS,
            answer_ms: ANSWER_MS,
            slow: false,
            owed: VecDeque::new(),
            lacked: BTreeSet::new(),
            held_ask: None,
            said_busy: false,
            peer_busy: false,
            told: true,
            leaving: None,
        }
    }
}

impl Trade {
    /// Something moved: a session that is about to leave stays a while longer.
    pub(crate) fn moved(&mut self, now: u64) {
        if let Some(leaving) = &mut self.leaving {
            leaving.until = now + self.answer_ms;
        }
    }

    /// Whether nothing more is wanted from this peer.
    pub(crate) fn is_quiet(&self) -> bool {
        self.to_ask.is_empty()
            && self.asked.is_none()
            && self.sources == 0
            && self.storing == 0
            && self.told
    }

    /// Whether the answer to a question about an artifact is still to come.
    pub(crate) fn awaits(&self, key: &ArtifactId) -> bool {
        let asked = self.asked.as_ref();
        self.to_ask.contains(key)
            || asked.is_some_and(|asked| asked.keys.binary_search(key).is_ok())
    }

    /// Gives up waiting for parts of an artifact. They may come all the same.
    pub(crate) fn give_up(&mut self, key: &ArtifactId) -> Vec<Expected> {
        if self.expected.iter().all(|expected| expected.key != *key) {
            return Vec::new();
        }
        let all = std::mem::take(&mut self.expected);
        let (gone, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|e| e.key == *key);
        self.expected = kept.into();
        gone.iter().for_each(|expected| self.note_late(expected.clone()));
        gone
    }

    /// Gives up waiting for a part.
    pub(crate) fn note_late(&mut self, expected: Expected) {
        if self.late.len() == PARTS_LATE_MAX {
            self.late.pop_front();
        }
        self.late.push_back(expected);
    }

    /// When something is to be done if nothing comes.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = u64> + use<> {
        let part = (!self.expected.is_empty()).then_some(self.heard + self.patience);
        let answer = self.asked.as_ref().map(|asked| asked.at + self.answer_ms);
        let leaving = self.leaving.map(|leaving| leaving.until);
        [part, answer, leaving].into_iter().flatten()
    }

    /// The clock was set back.
    pub(crate) fn follow_clock(&mut self, back: u64) {
        self.heard = self.heard.saturating_sub(back);
        if let Some(asked) = &mut self.asked {
            asked.at = asked.at.saturating_sub(back);
        }
        if let Some(leaving) = &mut self.leaving {
            leaving.until = leaving.until.saturating_sub(back);
        }
    }
}
