//! A stream with another machine, and the link that carries it at the moment.

use quipu_core::id::NodeKey;
use quipu_core::node::LinkId;
use quipu_helper::{Address, LinkName};

use crate::limits::{ENGAGED_MS, KEEP_MS, REOPEN_MS};
use crate::neighbours::LogTag;
use crate::stream::{Medium, Stream, is_level};

/// The link under a stream.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) name: LinkName,
    pub(crate) medium: Medium,
    /// The other side has proven who it is.
    pub(crate) greeted: bool,
    /// Greetings sent that were not answered, and when to send the next.
    pub(crate) greetings: u32,
    pub(crate) greet_at: u64,
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Association {
    /// Drawn by the opener.
    pub(crate) id: [u8; 8],
    /// What the driver calls it.
    pub(crate) link: LinkId,
    pub(crate) opener: bool,
    /// Proven, once a greeting came.
    pub(crate) peer: Option<NodeKey>,
    pub(crate) address: Address,
    /// Which log it is about, as far as is known.
    pub(crate) log: LogTag,
    /// The driver's request that it answers.
    pub(crate) request: Option<u64>,
    /// Who must be there, if the driver asked for somebody.
    pub(crate) expected: Option<NodeKey>,
    /// The driver was told of it.
    pub(crate) up: bool,
    pub(crate) stream: Stream,
    /// What the driver was told of what was written.
    pub(crate) written: u64,
    pub(crate) carrier: Option<Carrier>,
    /// The request to the helper for a link, and when it is given up.
    pub(crate) opening: Option<(u64, u64)>,
    /// When to try again, and how long to wait after that.
    pub(crate) reopen_at: Option<u64>,
    pub(crate) reopen_wait: u64,
    /// When a frame last moved.
    pub(crate) moved_at: u64,
    /// Nothing is sent before.
    pub(crate) pause_until: u64,
    /// Since when there is no link.
    pub(crate) lost_at: Option<u64>,
    /// A frame has said that both ends hold the same, and nothing followed it.
    pub(crate) level: bool,
    /// When others in reach are to be told that it takes long.
    pub(crate) tell_at: u64,
    /// Ends when all is sent, or then at the latest; and why.
    pub(crate) closing: Option<(u64, String)>,
}

impl Association {
    pub(crate) fn new(id: [u8; 8], link: LinkId, opener: bool, address: Address, now: u64) -> Self {
        Self {
            id,
            link,
            opener,
            peer: None,
            address,
            log: LogTag::Own,
            request: None,
            expected: None,
            up: false,
            stream: Stream::default(),
            written: 0,
            carrier: None,
            opening: None,
            reopen_at: opener.then_some(now),
            reopen_wait: REOPEN_MS.0,
            moved_at: now,
            pause_until: 0,
            lost_at: Some(now),
            level: false,
            tell_at: now,
            closing: None,
        }
    }

    /// The link is gone; the opener looks for another one.
    pub(crate) fn suspend(&mut self, now: u64) {
        self.carrier = None;
        self.opening = None;
        self.stream.suspend();
        self.lost_at = self.lost_at.or(Some(now));
        if self.opener {
            self.retry(now);
        }
    }

    pub(crate) fn retry(&mut self, now: u64) {
        self.reopen_at = Some(now + self.reopen_wait);
        self.reopen_wait = (self.reopen_wait * 2).min(REOPEN_MS.1);
    }

    /// The carrier, if it may carry frames.
    pub(crate) fn ready(&self) -> Option<&Carrier> {
        self.carrier.as_ref().filter(|carrier| carrier.greeted)
    }

    /// When it ends, if nothing moves. Who accepted the link leaves that to the opener; but where machines take turns
    /// it does not rely on hearing of it.
    pub(crate) fn over_at(&self) -> Option<u64> {
        let medium = self.ready().filter(|_| self.up && self.stream.is_quiet())?.medium;
        if self.opener {
            return Some(self.moved_at + medium.linger_ms(self.level));
        }
        medium.is_shared().then(|| self.moved_at + KEEP_MS + medium.linger_ms(self.level))
    }

    /// Whether something moves, or is waited for, over a medium on which machines take turns.
    pub(crate) fn is_engaged(&self, now: u64) -> bool {
        let medium = self.carrier.as_ref().map(|carrier| carrier.medium);
        let wait = |medium: Medium| medium.linger_ms(self.level).min(ENGAGED_MS);
        medium.is_some_and(|medium| medium.is_shared() && now < self.moved_at + wait(medium))
    }

    /// A frame has moved.
    pub(crate) fn moved(&mut self, now: u64, frame: &[u8]) {
        self.moved_at = now;
        self.level = is_level(frame);
    }

    /// When something is to be done if nothing happens.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = u64> {
        let greet = self.carrier.as_ref().filter(|carrier| !carrier.greeted && self.opener);
        let stream = self.ready().and_then(|_| self.stream.deadline());
        let pause = Some(self.pause_until).filter(|_| self.stream.queued() > 0);
        [
            self.reopen_at,
            self.opening.map(|(_, until)| until),
            greet.map(|carrier| carrier.greet_at),
            stream.map(|at| at.max(self.pause_until)),
            pause.filter(|at| *at > 0),
            self.over_at(),
            self.lost_at.map(|at| at + KEEP_MS),
            self.closing.as_ref().map(|(until, _)| *until),
        ]
        .into_iter()
        .flatten()
    }
}
