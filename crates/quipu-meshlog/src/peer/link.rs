//! What a node remembers of one peer while it is linked.

use std::collections::{BTreeMap, BTreeSet};

use super::Timing;
use crate::limits::{IN_FLIGHT_MESSAGES_MAX, MESSAGE_EVENTS_MAX};
use crate::log::Log;
use crate::message::{self, EventsBatch};
use crate::text::Text;

/// When something may be tried again: twice as long each time that nothing comes of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    due: u64,
    wait_ms: u64,
}

impl Backoff {
    pub(super) const fn new(timing: &Timing) -> Self {
        Self { due: 0, wait_ms: timing.patience_ms }
    }

    pub(super) const fn is_due(&self, now: u64) -> bool {
        now >= self.due
    }

    /// It was tried.
    pub(super) fn wait(&mut self, now: u64, timing: &Timing) {
        self.due = now + self.wait_ms;
        self.wait_ms = (self.wait_ms * 2).min(timing.patience_max_ms);
    }

    /// Something came of it, and more may be on the way.
    const fn progress(&mut self, now: u64, timing: &Timing) {
        self.wait_ms = timing.patience_ms;
        self.due = now + timing.patience_ms;
    }

    /// There is a new reason to try.
    const fn renew(&mut self, timing: &Timing) {
        self.wait_ms = timing.patience_ms;
        self.due = 0;
    }
}

#[derive(Debug)]
pub(super) struct Link {
    /// How long the peer's feeds are, as it said last.
    theirs: Option<BTreeMap<Text, u64>>,
    /// How far what was sent goes beyond that, by author.
    sent: BTreeMap<Text, u64>,
    /// When what was sent counts as lost.
    resend: Backoff,
    asking: Backoff,
    /// Nothing more is sent before: a message was given up.
    held_until: u64,
    /// The most events in a message. Fewer where messages are given up: there may be no airtime for long ones.
    batch_max: usize,
    /// Messages of events that have not left yet.
    in_flight: usize,
    /// Frontiers that have not left yet. They are short, so they are taken to leave first.
    telling: usize,
    /// When a frontier of the peer came last, or ours went.
    told: u64,
}

impl Link {
    pub(super) const fn new(now: u64, timing: &Timing) -> Self {
        Self {
            theirs: None,
            sent: BTreeMap::new(),
            resend: Backoff::new(timing),
            asking: Backoff::new(timing),
            held_until: 0,
            batch_max: MESSAGE_EVENTS_MAX,
            in_flight: 0,
            telling: 0,
            told: now,
        }
    }

    /// Our frontier as a message.
    pub(super) fn tell(&mut self, now: u64, log: &Log) -> Vec<u8> {
        self.told = now;
        self.telling += 1;
        message::frontier(log.offered_frontier())
    }

    pub(super) fn ask(&mut self, now: u64, log: &Log, timing: &Timing) -> Vec<u8> {
        self.asking.wait(now, timing);
        self.tell(now, log)
    }

    pub(super) const fn is_silent(&self, now: u64, gossip_ms: u64) -> bool {
        now >= self.told + gossip_ms
    }

    pub(super) const fn may_ask(&self, now: u64) -> bool {
        self.asking.is_due(now)
    }

    /// A message has left: what it brings about takes its time from now on.
    pub(super) const fn on_sent(&mut self, now: u64) {
        if self.telling > 0 {
            self.telling -= 1;
        } else {
            self.in_flight = self.in_flight.saturating_sub(1);
            self.resend.due = now + self.resend.wait_ms;
            // As with all that came to grief: back to normal faster than away from it.
            self.batch_max = self.batch_max.saturating_mul(4);
        }
    }

    /// A message was given up. What it carried goes later, in smaller pieces, and nothing overtakes it: what comes out of
    /// order meshlogd may drop.
    pub(super) fn on_failed(&mut self, now: u64, timing: &Timing) {
        if self.telling > 0 {
            self.telling -= 1;
            return;
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        self.batch_max = (self.batch_max.min(MESSAGE_EVENTS_MAX) / 2).max(1);
        self.sent.clear();
        self.resend.wait(now, timing);
        self.held_until = self.resend.due;
    }

    /// The peer has sent an event, so it need not be sent back. Only what we hold is remembered.
    pub(super) fn on_shown(&mut self, author: &Text, seq: u64, log: &Log) {
        if let Some(theirs) = &mut self.theirs
            && log.at(author, seq).is_some()
        {
            match theirs.get_mut(author) {
                Some(length) => *length = seq.max(*length),
                None => drop(theirs.insert(author.clone(), seq)),
            }
        }
    }

    /// Events of the peer were taken.
    pub(super) const fn on_progress(&mut self, now: u64, timing: &Timing) {
        self.asking.progress(now, timing);
    }

    pub(super) fn on_frontier(&mut self, now: u64, lengths: BTreeMap<Text, u64>, timing: &Timing) {
        let before = self.theirs.take().unwrap_or_default();
        let grew = |(author, length): (&Text, &u64)| {
            before.get(author).is_none_or(|before| before < length)
        };
        if lengths.iter().any(grew) {
            // Whether by us or by others: it takes events, and may have new ones for us.
            self.resend.wait_ms = timing.patience_ms;
            self.asking.renew(timing);
        }
        self.sent.retain(|author, sent| lengths.get(author).is_none_or(|held| held < sent));
        if self.sent.is_empty() {
            self.resend.wait_ms = timing.patience_ms;
        } else if self.in_flight == 0 && self.resend.is_due(now) {
            // Lost, or not wanted: once more, later each time.
            self.sent.clear();
            self.resend.wait(now, timing);
        }
        self.theirs = Some(lengths);
        self.told = now;
    }

    /// Whether the peer said that it has something we lack.
    pub(super) fn has_more(&self, log: &Log, ours: &BTreeSet<Text>) -> bool {
        self.theirs.as_ref().is_some_and(|theirs| {
            theirs.iter().any(|(author, length)| {
                *length > log.feed(author).len() as u64 && !ours.contains(author)
            })
        })
    }

    /// The next message of events that the peer lacks, if it may be sent now.
    pub(super) fn next_events(&mut self, now: u64, log: &Log) -> Option<Vec<u8>> {
        let theirs = self.theirs.as_ref()?;
        if self.in_flight >= IN_FLIGHT_MESSAGES_MAX || now < self.held_until {
            return None;
        }
        let mut batch = EventsBatch::of(self.batch_max);
        'feeds: for (author, feed) in log.offered() {
            let sent = self.sent.get(author).copied().unwrap_or_default();
            let held = theirs.get(author).copied().unwrap_or_default().max(sent);
            let from = usize::try_from(held).unwrap_or(usize::MAX);
            for event in feed.get(from..).unwrap_or_default() {
                if !batch.push(event) {
                    break 'feeds;
                }
                self.sent.insert(author.clone(), event.seq);
            }
        }
        let bytes = batch.finish()?;
        self.resend.due = now + self.resend.wait_ms;
        self.in_flight += 1;
        Some(bytes)
    }
}
