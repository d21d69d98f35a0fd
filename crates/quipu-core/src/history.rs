//! How the rules read what a machine holds. The store answers from its blocks, the simulator from
//! the same store over a fake disk. Reads are synchronous and see every event that was handed to
//! the store, durable or not.

use std::ops::Range;

use crate::event::{Event, Head, Log, LogSeq};
use crate::id::{ArtifactId, EventId, NodeKey};

/// An event by the order in which this machine received it within one log: 0, 1, 2 ... Local, never
/// sent, never hashed. Links always point to smaller ordinals.
pub type Ordinal = u64;

/// An event without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its id.
    pub id: EventId,
    /// Where it stands.
    pub head: Head,
}

/// The end of a feed, or of a branch of it: no event held names it as `prev`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedEnd {
    /// The author.
    pub author: NodeKey,
    /// Position in the feed.
    pub seq: u64,
    /// The event.
    pub id: EventId,
    /// Its clock.
    pub logseq: LogSeq,
    /// Where it lies.
    pub ordinal: Ordinal,
}

/// What a machine must know of a log when it starts, without reading all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// The ends of all feeds, sorted. Several for an author that forked.
    pub feed_ends: Vec<FeedEnd>,
    /// Events that no event held links to, with their clocks, sorted.
    pub leaves: Vec<(EventId, LogSeq)>,
    /// Events of structural kinds (see [`crate::kind::is_structural`]), in order of arrival.
    pub structural: Vec<Ordinal>,
}

/// Reads of one machine's logs.
pub trait History {
    /// Why a read can fail: the disk, never the question.
    type Error: std::error::Error + Send + Sync + 'static;

    /// How many events of a log are held; their ordinals are `0..count`.
    fn count(&self, log: Log) -> u64;
    /// Where an event lies, if it is held.
    fn find(&self, log: Log, id: &EventId) -> Result<Option<Ordinal>, Self::Error>;
    /// The id of an event: often much cheaper than its place.
    fn id(&self, log: Log, ordinal: Ordinal) -> Result<EventId, Self::Error> {
        self.place(log, ordinal).map(|place| place.id)
    }
    /// An event without its payload.
    fn place(&self, log: Log, ordinal: Ordinal) -> Result<Place, Self::Error>;
    /// The events of a range without their payloads, in order of arrival.
    fn places(&self, log: Log, range: Range<Ordinal>) -> Result<Vec<Place>, Self::Error> {
        range.map(|ordinal| self.place(log, ordinal)).collect()
    }
    /// Whole events, in order of arrival, with the signatures that are kept. May return fewer than
    /// asked for, but at least one of a range that is not empty.
    fn events(&self, log: Log, range: Range<Ordinal>) -> Result<Vec<Event>, Self::Error>;
    /// One whole event.
    fn event(&self, log: Log, ordinal: Ordinal) -> Result<Event, Self::Error>;
    /// The ordinals of an author's events with a `seq` in the range, in order of arrival: all
    /// branches, so a `seq` can occur more than once.
    fn feed(
        &self,
        log: Log,
        author: &NodeKey,
        seqs: Range<u64>,
    ) -> Result<Vec<(u64, Ordinal)>, Self::Error>;
    /// What proves who wrote the end of a feed, where no event held does: the events that follow
    /// it, up to the first signature.
    fn proof(&self, log: Log, end: &EventId) -> Result<Option<Vec<Event>>, Self::Error>;
    /// What a machine must know when it starts.
    fn outline(&self, log: Log) -> Result<Outline, Self::Error>;

    /// The size of an artifact that is held whole and may be shown to members.
    fn artifact_size(&self, _key: &ArtifactId) -> Result<Option<u64>, Self::Error> {
        Ok(None)
    }
    /// The size of an artifact, and some groups of it with what proves them, as they travel. At most
    /// [`crate::artifact::PART_GROUPS_MAX`] groups, and all of them exist; nothing if any is not here.
    fn artifact_part(
        &self,
        _key: &ArtifactId,
        _groups: Range<u64>,
    ) -> Result<Option<(u64, Vec<u8>)>, Self::Error> {
        Ok(None)
    }
    /// The proven size of an artifact of which only a part is held, and the groups that are missing,
    /// in order and apart. Nothing if no part of it is held, or all.
    fn artifact_missing(&self, _key: &ArtifactId) -> Result<Option<Missing>, Self::Error> {
        Ok(None)
    }
}

/// What is lacking of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its size, proven by its last group.
    pub size: u64,
    /// Groups that are not here, in order, none twice.
    pub groups: Vec<Range<u64>>,
}
