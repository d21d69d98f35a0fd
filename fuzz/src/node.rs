//! A whole node with a small log gets arbitrary frames from a member, after a valid hello.

use std::sync::LazyLock;

use ed25519_dalek::SigningKey;
use quipu_core::artifact::group_count;
use quipu_core::domain::{Decision, Parameters, Role};
use quipu_core::event::{Log, LogSeq, sign_own, verify_run};
use quipu_core::id::{ArtifactId, DomainId, NodeKey};
use quipu_core::node::{Command, Effect, Input, LinkRole, Node, PartOutcome};
use quipu_core::sync::message::{Message, PROTOCOL_VERSION};

use crate::history::{HELD, HELD_BYTES, Memory};
use crate::pieces;

const NOW: u64 = 1_767_225_600_000;
const LINK: u64 = 1;
/// Frames after which a target stops, so that an input has an end.
const FRAMES_MAX: usize = 64;

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn node_key(n: u8) -> NodeKey {
    NodeKey(key(n).verifying_key().to_bytes())
}

/// A log of R, a member and a few notes.
static LOG: LazyLock<(DomainId, Memory)> = LazyLock::new(|| {
    let parameters = Parameters { name: "fuzz".to_owned(), ..Parameters::default() };
    let root = parameters.root(node_key(1), LogSeq::from_ms(NOW), &[0; 8]);
    let domain = DomainId::from(root.id);
    let root = sign_own(vec![root], &key(1)).remove(0);
    let mut machine = Machine::over(domain, Memory(vec![root.into_event()]));
    let add = Decision::Add { node: node_key(2), role: Role::Writer, invite: None };
    machine.step(Input::Local { request: 1, command: Command::Decide(add) });
    let hello = bytes::Bytes::from_static(b"\x65hello");
    let notes = vec![("note".into(), hello); 5];
    machine.step(Input::Local { request: 2, command: Command::Emit(notes) });
    assert_eq!(machine.memory.0.len(), 7);
    (domain, machine.memory)
});

/// A node, what it holds, and a driver that does as it says.
struct Machine {
    node: Node,
    memory: Memory,
    sent: Vec<Vec<u8>>,
    closed: bool,
    now: u64,
}

impl Machine {
    fn over(domain: DomainId, memory: Memory) -> Self {
        let mut node = Node::new(domain, Log::Internal, key(1), [9; 32]);
        let Ok(opened) = node.open(&memory);
        opened.expect("the log begins with a root event");
        Self { node, memory, sent: Vec::new(), closed: false, now: NOW }
    }

    /// One turn of the driver.
    fn step(&mut self, input: Input) {
        self.handle(input);
        self.handle(Input::TurnEnd);
        self.handle(Input::Committed);
    }

    fn handle(&mut self, input: Input) {
        let mut inputs = vec![input];
        for turn in 0.. {
            assert!(turn < 10_000, "the node asks to go on for ever");
            let Some(input) = inputs.pop() else { return };
            let mut out = Vec::new();
            let Ok(()) = self.node.handle(self.now, &self.memory, input, &mut out);
            for effect in out {
                match effect {
                    Effect::Prove { end, proof, .. } => {
                        assert_eq!(proof.first().and_then(|first| first.header.prev), Some(end));
                        assert!(verify_run(proof, true).is_ok());
                    }
                    Effect::Append { log, events } => {
                        assert_eq!(log, Log::Internal);
                        self.memory.0.extend(events.into_iter().map(|event| event.into_event()));
                    }
                    Effect::Erase { ordinal, .. } => self.memory.0[ordinal as usize].payload = None,
                    Effect::Continue => inputs.push(Input::Continue),
                    Effect::MakeState { link } => {
                        inputs.push(Input::StateMade { link, offer: None });
                    }
                    Effect::StorePart { link, key, groups, bytes, .. } => {
                        let outcome = match bytes.first().copied().unwrap_or(0) % 4 {
                            0 | 1 => PartOutcome::Good,
                            2 => PartOutcome::Complete,
                            _ => PartOutcome::Bad("as the input says".to_owned()),
                        };
                        inputs.insert(0, Input::PartStored { link, key, groups, outcome });
                    }
                    Effect::Send { bytes, .. } => self.sent.push(bytes),
                    Effect::Close { .. } => self.closed = true,
                    Effect::Reply { .. }
                    | Effect::Remember { .. }
                    | Effect::TakeState { .. }
                    | Effect::Notify(_) => {}
                }
            }
        }
    }

    fn link_up(&mut self, peer: NodeKey, role: LinkRole) {
        self.step(Input::LinkUp { link: LINK, peer, role });
    }
}

/// The first byte says who speaks and who opened the link; each piece is a frame.
pub(crate) fn node_frames(data: &[u8]) {
    let Some((flags, rest)) = data.split_first() else { return };
    run(*flags, pieces(rest).into_iter().map(<[u8]>::to_vec));
}

/// The same, but frames are mended so that they pass the outer checks: the first byte of a piece
/// chooses a message type, and `Events` frames get the index that is due.
pub(crate) fn node_messages(data: &[u8]) {
    let Some((flags, rest)) = data.split_first() else { return };
    let mut index = 0;
    let frames = pieces(rest).into_iter().map(|piece| {
        let Some((kind, fields)) = piece.split_first() else { return vec![14] };
        let kind = 2 + kind % 21;
        if let Some(message) = about_artifacts(kind, fields) {
            return message.encode();
        }
        if kind == 10 {
            let packed = fields.get(1..).unwrap_or_default().to_vec();
            let flags = fields.first().copied().unwrap_or(0);
            let message =
                Message::Events { index, restart: flags & 1 == 0, live: flags & 2 != 0, packed };
            index += 1;
            return message.encode();
        }
        [&[kind][..], fields].concat()
    });
    run(*flags, frames);
}

/// Artifacts that the node wants.
const WANTED: [ArtifactId; 2] = [ArtifactId([2; 32]), ArtifactId([3; 32])];

/// A message about artifacts that the node holds or wants, with numbers that it may have said itself.
fn about_artifacts(kind: u8, fields: &[u8]) -> Option<Message> {
    let field = |n: usize| fields.get(n).copied().unwrap_or(0);
    let number = |n: usize| u64::from(field(n));
    let key = [HELD, WANTED[0], WANTED[1]][usize::from(field(0) % 3)];
    let size = [5, 300_000, HELD_BYTES, 1 << 40][usize::from(field(1) % 4)];
    let count = group_count(size);
    let last = (count - 1) / 16 * 16..count;
    let part = number(2) * 16..(number(2) * 16 + 16).min(count);
    Some(match kind {
        17 => Message::Ask { ask: 1 + u32::from(field(1)), keys: vec![key] },
        18 => Message::Offer { ask: u32::from(field(2) % 3), entries: vec![(key, size)] },
        19 => Message::Get { key, groups: number(1)..number(1) + 1 + number(2) % 16 },
        20 => {
            let groups = if field(2) == 0 || part.is_empty() { last } else { part };
            let bytes = fields.get(3..).unwrap_or_default().to_vec().into();
            Message::Part { key, size, groups, bytes }
        }
        21 => Message::Lack { key },
        _ => return None,
    })
}

fn run(flags: u8, frames: impl Iterator<Item = Vec<u8>>) {
    let (domain, memory) = &*LOG;
    let mut machine = Machine::over(*domain, memory.clone());
    let initiator = flags & 1 != 0;
    if initiator {
        let (live, only_state) = (flags & 2 == 0, flags & 64 != 0);
        let role = LinkRole::Initiator { live, request: Some(1), invite: None, only_state };
        machine.link_up(node_key(2), role);
        machine.step(Input::Frame { link: LINK, bytes: Message::Welcome.encode() });
    } else {
        machine.link_up(node_key(2), LinkRole::Responder);
        let hello = Message::Hello {
            version: PROTOCOL_VERSION,
            domain: *domain,
            log: Log::Internal,
            live: flags & 2 == 0,
            invite: None,
        };
        machine.step(Input::Frame { link: LINK, bytes: hello.encode() });
    }
    assert!(!machine.closed, "a valid hello is accepted");
    if flags & 16 != 0 {
        WANTED.iter().for_each(|key| machine.step(Input::Want { key: *key, missing: None }));
    }
    if flags & 32 != 0 {
        machine.node.await_wants();
    }
    for bytes in frames.take(FRAMES_MAX) {
        if machine.closed {
            break;
        }
        machine.step(Input::Frame { link: LINK, bytes });
        if flags & 4 != 0 {
            machine.step(Input::Writable { link: LINK, written: u64::MAX });
        }
        if flags & 8 != 0 {
            machine.now += if flags & 64 != 0 { 21_000 } else { 300 };
            machine.step(Input::Tick);
        }
    }
    machine.step(Input::LinkDown { link: LINK, reason: "over".to_owned() });
    assert!(machine.node.is_idle());
    check_still_whole(&mut machine);
}

/// Whatever came: the log opens again and has the same digest, and the node can still write.
fn check_still_whole(machine: &mut Machine) {
    let digest = machine.node.digest();
    let mut again = Machine::over(machine.node.domain(), machine.memory.clone());
    assert_eq!(again.node.digest(), digest);
    let held = machine.memory.0.len();
    let note = vec![("note".into(), bytes::Bytes::from_static(b"\xf6"))];
    machine.step(Input::Local { request: 3, command: Command::Emit(note) });
    assert_eq!(machine.memory.0.len(), held + 1, "the node can still write");
}
