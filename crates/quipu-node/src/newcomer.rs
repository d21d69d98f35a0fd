//! A snapshot's state for newcomers (LOG-9): written as an artifact by whoever has the log, read by a
//! machine that has nothing else yet.
//!
//! The file is a row of packed batches, each after its length (4 bytes, little-endian): the winning
//! events of the snapshot's cut, in replay order. They prove themselves: their ids are hashes, and
//! keys and ids together have the root that the signed snapshot event names. See
//! `docs/formats/state.md`.

use std::collections::VecDeque;
use std::io::{self, Read};

use quipu_core::codec::pack::{self, Context, Nothing};
use quipu_core::event::{Event, Log, LogSeq};
use quipu_core::history::{History, Ordinal};
use quipu_core::id::{DomainId, EventId, NodeKey};
use quipu_core::limits::FRAME_EVENTS_MAX;
use quipu_core::node::Input;
use quipu_core::statement::Statement;
use quipu_core::sync::message::StateOffer;
use quipu_core::sync::unsigned::Unsigned;
use quipu_state::{State, StateError};
use quipu_store::{Disk, Store};

use crate::driver::{Clock, Driver, DriverError, Links};

/// The longest batch, in bytes: far above what a batch of so many events takes.
const BATCH_BYTES_MAX: usize = 256 << 20;
/// Events read from the log at once.
const READ_EVENTS: usize = 512;

/// The file as it is written.
struct StateFile<'a, D: Disk> {
    store: &'a Store<D>,
    log: Log,
    /// Where the events lie, in replay order.
    ordinals: VecDeque<Ordinal>,
    context: Context,
    ready: Vec<u8>,
    at: usize,
}

impl<D: Disk> StateFile<'_, D> {
    fn next_batch(&mut self) -> io::Result<()> {
        let count = self.ordinals.len().min(READ_EVENTS.min(FRAME_EVENTS_MAX));
        let mut events = Vec::with_capacity(count);
        for ordinal in self.ordinals.drain(..count) {
            let event = self.store.event(self.log, ordinal).map_err(io::Error::other)?;
            events.push(Event { signature: None, ..event });
        }
        let packed = pack::encode(&events, &mut self.context, &Nothing);
        self.ready = (packed.len() as u32).to_le_bytes().to_vec();
        self.ready.extend_from_slice(&packed);
        self.at = 0;
        Ok(())
    }
}

impl<D: Disk> Read for StateFile<'_, D> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.at == self.ready.len() {
            if self.ordinals.is_empty() {
                return Ok(0);
            }
            self.next_batch()?;
        }
        let from = &self.ready[self.at..];
        let count = from.len().min(to.len());
        to[..count].copy_from_slice(&from[..count]);
        self.at += count;
        Ok(count)
    }
}

impl<D: Disk, C: Clock, L: Links> Driver<D, C, L> {
    /// Answers a newcomer that asks for the latest snapshot.
    pub(crate) fn make_state(&mut self, link: u64) -> Result<Input, DriverError> {
        let offer = match self.retained_snapshots()?.last().copied() {
            Some(snapshot) => self.state_offer(&snapshot.id, snapshot.ordinal)?,
            None => None,
        };
        Ok(Input::StateMade { link, offer })
    }

    fn state_offer(
        &mut self,
        snapshot: &EventId,
        ordinal: Ordinal,
    ) -> Result<Option<StateOffer>, DriverError> {
        if let Some((known, offer)) = &self.offered
            && known == snapshot
            && self.held().artifact_size(&offer.key)?.is_some()
        {
            return Ok(Some(offer.clone()));
        }
        let mut entries = self.asking(|driver| {
            let mut entries: Vec<((LogSeq, EventId), Ordinal)> = Vec::new();
            let view = driver.state_at(snapshot)?;
            view.visit(&mut |entry| entries.push((entry.order(), entry.ordinal)))?;
            Ok(entries)
        })?;
        entries.sort_unstable();
        let ordinals = entries.into_iter().map(|(_, ordinal)| ordinal).collect();
        let event = self.held().event(self.log(), ordinal)?;
        let Some(proof) = self.node().proof_of(event, self.held())? else { return Ok(None) };
        let proof = pack::encode(&proof, &mut Context::writer(), &Nothing);
        let log = self.log();
        let (store, artifacts) = self.held_mut().parts();
        let Some(store) = store else { return Ok(None) };
        let context = Context::writer();
        let mut file = StateFile { store, log, ordinals, context, ready: Vec::new(), at: 0 };
        let (key, size) = match artifacts.keep(&mut file) {
            Ok(kept) => kept,
            Err(error) => {
                // The newcomer gets the log instead.
                tracing::warn!(%error, "a snapshot's state cannot be put into an artifact");
                return Ok(None);
            }
        };
        let offer = StateOffer { proof, key, size };
        self.offered = Some((*snapshot, offer.clone()));
        Ok(Some(offer))
    }
}

/// A snapshot's state on a machine that does not have the log yet.
#[derive(Debug)]
pub struct Early {
    /// The snapshot.
    pub snapshot: EventId,
    /// What people call it.
    pub name: Option<String>,
    /// Who made it. Whether it may, only the log will tell.
    pub author: NodeKey,
    /// The winning events, in replay order.
    pub events: Vec<Event>,
    state: State,
}

/// Why a peer's offer of a state is not taken.
#[derive(Debug, thiserror::Error)]
pub enum EarlyError {
    /// It is not what it says.
    #[error("the state that the peer offered is wrong: {0}")]
    Wrong(String),
    /// Its file cannot be read.
    #[error("the state of the snapshot cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It cannot be put together.
    #[error(transparent)]
    State(#[from] StateError),
}

fn wrong(what: impl std::fmt::Display) -> EarlyError {
    EarlyError::Wrong(what.to_string())
}

impl Early {
    /// Reads and verifies a state: the snapshot's signature, every event's id, the root over all.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(proof: &[u8], mut file: impl Read, domain: &DomainId) -> Result<Self, EarlyError> {
        let event = snapshot_of(proof, domain)?;
        let Some(Statement::Snapshot { root, entries, name }) = Statement::of_event(&event) else {
            return Err(wrong("the event is no snapshot"));
        };
        let mut events = Vec::new();
        let mut context = Context::reader();
        while let Some(batch) = next_batch(&mut file)? {
            let batch = pack::decode(&batch, &mut context, &Nothing, domain).map_err(wrong)?;
            events.extend(batch);
            if events.len() as u64 > entries {
                return Err(wrong("it has more events than the snapshot says"));
            }
        }
        let state = State::of_events(*domain, Log::Internal, &events)?;
        if (state.root(), state.entries()) != (root, entries) {
            return Err(wrong("its root is not the one that the snapshot names"));
        }
        Ok(Self { snapshot: event.id, name, author: event.header.author, events, state })
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }
}

/// The snapshot event of a proof, authentic.
fn snapshot_of(proof: &[u8], domain: &DomainId) -> Result<Event, EarlyError> {
    let events = pack::decode(proof, &mut Context::reader(), &Nothing, domain).map_err(wrong)?;
    let first = events.first().map(|event| event.id).ok_or_else(|| wrong("it has no event"))?;
    let mut unsigned = Unsigned::default();
    for event in events {
        unsigned.push(event).map_err(wrong)?;
    }
    std::iter::from_fn(|| unsigned.pop())
        .map(quipu_core::event::VerifiedEvent::into_event)
        .find(|event| event.id == first)
        .ok_or_else(|| wrong("nobody has signed it"))
}

fn next_batch(file: &mut impl Read) -> Result<Option<Vec<u8>>, EarlyError> {
    let mut length = [0; 4];
    match file.read(&mut length[..1])? {
        0 => return Ok(None),
        _ => file.read_exact(&mut length[1..])?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > BATCH_BYTES_MAX {
        return Err(wrong("a batch is too long"));
    }
    // Grows with what is there, not with what is claimed.
    let mut batch = Vec::new();
    file.take(length as u64).read_to_end(&mut batch)?;
    if batch.len() < length {
        return Err(wrong("it is cut"));
    }
    Ok(Some(batch))
}
