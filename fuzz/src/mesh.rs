//! What comes from meshes of meshlogd and from clients of its socket.

use std::sync::Arc;

use quipu_meshlog::clock::Stamp;
use quipu_meshlog::event::{Body, Event, ShapeError};
use quipu_meshlog::identity::{IDENTITY_BYTES, Identity};
use quipu_meshlog::ingest::{self, Heard};
use quipu_meshlog::json::{self, JsonRule, Object, Style, Value};
use quipu_meshlog::limits::SOCKET_UNREAD_BYTES_MAX;
use quipu_meshlog::log::Log;
use quipu_meshlog::message::{self, Message};
use quipu_meshlog::order::Ordered;
use quipu_meshlog::policy::{Judge, Policy};
use quipu_meshlog::records::Records;
use quipu_meshlog::socket::{ClientId, Host, HostFailed, Service};
use quipu_meshlog::text::Text;

const STYLES: [Style; 3] = [Style::Canonical, Style::Compact, Style::Spaced];

/// Texts as Python's `json` reads them, and as payloads, which are not made into values.
pub(crate) fn mesh_json(data: &[u8]) {
    if let Ok(value) = json::parse_detected(data) {
        assert!(json::to_bytes(&value, Style::Spaced).is_ascii());
    }
    let Ok(value) = json::parse(data) else { return };
    for style in STYLES {
        let text = json::to_bytes(&value, style);
        let again = json::parse(&text).expect("what is written can be read");
        assert_eq!(json::to_bytes(&again, style), text);
    }
    let id = "0".repeat(32);
    let around = format!(r#"","i":"{id}"}}"#);
    let event =
        [br#"{"a":"x","s":1,"h":[1,2],"k":"k","p":"#, data, br#","v":""#, around.as_bytes()];
    match Event::parse(&event.concat()) {
        Ok(event) => {
            for style in STYLES {
                let mut text = Vec::new();
                event.payload.write(style, &mut text);
                assert_eq!(text, json::to_bytes(&value, style));
            }
        }
        // One level more than alone.
        Err(error) => {
            assert!(matches!(error, ShapeError::Json(json) if json.rule == JsonRule::Depth));
        }
    }
}

/// Events as messages and data files carry them.
pub(crate) fn mesh_event(data: &[u8]) {
    let Ok(event) = Event::parse(data) else { return };
    let mut made = Records::default();
    made.apply(&Arc::new(event.clone()));
    for style in STYLES {
        let (mut text, value) = (Vec::new(), event.to_value());
        event.write_json(style, &mut text);
        assert_eq!(text, json::to_bytes(&value, style));
        let again = Event::parse(&text).expect("what is written can be read");
        // Sorted, the order of a payload's keys is lost.
        assert!(style == Style::Canonical || again.to_wire() == event.to_wire());
        assert_eq!(again.is_authentic(), event.is_authentic());
    }
}

fn judge() -> Judge {
    let mut judge = Judge::new(Policy::FirstUse);
    judge.learn(Identity::from_bytes(&[1; IDENTITY_BYTES]).public().clone());
    judge
}

/// Messages of other nodes: taken one by one and together it comes to the same.
pub(crate) fn mesh_message(data: &[u8]) {
    let parsed = message::parse(data);
    let (mut log, mut together) = (Log::default(), Log::default());
    let heard = ingest::take(&mut together, &mut judge(), &[data, data]);
    assert_eq!(heard.len(), 2);
    match parsed {
        Err(error) => assert_eq!(heard[0], Err(error)),
        Ok(Message::Frontier(lengths)) => assert_eq!(heard[0], Ok(Heard::Frontier(lengths))),
        Ok(Message::Events(events)) => {
            let mut judge = judge();
            for event in [events.clone(), events].concat().into_iter().flatten() {
                drop(log.take(event, &mut judge));
            }
            assert_eq!(log.frontier(), together.frontier());
            assert_eq!((log.len(), log.waiting()), (together.len(), together.waiting()));
            Records::of(log.arrived()).write_json(&mut Vec::new()).expect("memory takes all");
        }
    }
}

#[derive(Default)]
struct Node {
    log: Log,
    view: Ordered,
}

impl Host for Node {
    fn author(&self) -> Text {
        "me".into()
    }
    fn frontier(&self) -> Object {
        self.log.frontier()
    }
    fn events_after(&self, author: &Text, from: usize) -> Vec<Arc<Event>> {
        self.log.feed(author).get(from..).unwrap_or_default().to_vec()
    }
    fn emit(&mut self, kind: &Text, payload: &Value) -> Result<Arc<Event>, HostFailed> {
        let (author, (seq, prev)) = (self.author(), self.log.next_of(&self.author()));
        let (kind, payload) = (kind.clone(), payload.clone().into());
        let body = Body { author, seq, stamp: Stamp::new(seq as i64, 0), kind, payload, prev };
        let event = self.log.append_own(Event::new(body)).map_err(|_| HostFailed)?;
        self.view.apply(&event);
        Ok(event)
    }
    fn has_view(&self) -> bool {
        true
    }
    fn write_view(&self, out: &mut Vec<u8>) {
        self.view.write_json(Style::Compact, out);
    }
    fn peers(&self) -> Vec<Text> {
        vec!["you".into()]
    }
}

/// What a client of `meshlog.socket/1` says: each answer is a line of JSON.
pub(crate) fn mesh_lines(data: &[u8]) {
    let mut node = Node::default();
    let mut service = Service::new(&node);
    let id = ClientId(1);
    service.open(id, &node);
    // In two pieces, as sockets may give it.
    let (first, second) = data.split_at(data.len() / 2);
    for piece in [first, second] {
        service.receive(id, piece, &mut node);
        service.settle(&node);
    }
    service.end_of_input(id, &mut node);
    let out = service.take_output(id);
    assert!(out.len() <= SOCKET_UNREAD_BYTES_MAX);
    for line in out.split_inclusive(|byte| *byte == b'\n') {
        assert!(line.ends_with(b"\n") && line.is_ascii());
        json::parse(line).expect("an answer is JSON");
    }
}
