use proptest::prelude::*;

use super::*;
use crate::clock::Stamp;
use crate::event::Body;
use crate::log::Log;
use crate::order::Ordered;

#[derive(Default)]
struct Node {
    log: Log,
    view: Option<Ordered>,
    peers: Vec<Text>,
}

impl Host for Node {
    fn author(&self) -> Text {
        "me".into()
    }
    fn frontier(&self) -> Object {
        self.log.frontier()
    }
    fn events_after(&self, author: &Text, from: usize) -> Vec<Arc<Event>> {
        self.log.feed(author)[from..].to_vec()
    }
    fn emit(&mut self, kind: &Text, payload: &Value) -> Result<Arc<Event>, HostFailed> {
        let (seq, prev) = self.log.next_of(&self.author());
        let (kind, payload) = (kind.clone(), payload.clone().into());
        let stamp = Stamp::new(seq as i64, 0);
        let event = Event::new(Body { author: self.author(), seq, stamp, kind, payload, prev });
        let event = self.log.append_own(event).map_err(|_| HostFailed)?;
        self.view.iter_mut().for_each(|view| view.apply(&event));
        Ok(event)
    }
    fn has_view(&self) -> bool {
        self.view.is_some()
    }
    fn write_view(&self, out: &mut Vec<u8>) {
        let view = self.view.as_ref().expect("asked only if there is one");
        view.write_json(Style::Compact, out);
    }
    fn peers(&self) -> Vec<Text> {
        self.peers.clone()
    }
}

const A: ClientId = ClientId(1);
const B: ClientId = ClientId(2);

fn with_view() -> (Node, Service) {
    let node = Node { view: Some(Ordered::default()), ..Node::default() };
    let service = Service::new(&node);
    (node, service)
}

fn lines(service: &mut Service, id: ClientId) -> Vec<String> {
    let out = String::from_utf8(service.take_output(id)).unwrap();
    out.lines().map(str::to_owned).collect()
}

fn call(service: &mut Service, node: &mut Node, id: ClientId, request: &str) -> Vec<String> {
    service.receive(id, format!("{request}\n").as_bytes(), node);
    service.settle(node);
    lines(service, id)
}

const EMIT: &str = r#"{"jsonrpc":"2.0","id":1,"method":"emit","params":{"kind":"k","payload":{}}}"#;
const SUBSCRIBE: &str = r#"{"jsonrpc":"2.0","id":2,"method":"subscribe"}"#;

#[test]
fn pushes_go_to_those_who_subscribed() {
    let (mut node, mut service) = with_view();
    service.open(A, &node);
    service.open(B, &node);
    assert!(
        lines(&mut service, A)[0].starts_with(r#"{"jsonrpc":"2.0","method":"hello","params":"#)
    );
    lines(&mut service, B);
    let answer = call(&mut service, &mut node, A, SUBSCRIBE);
    assert_eq!(
        answer,
        [r#"{"jsonrpc":"2.0","id":2,"result":{"subscription":"s1","state":[],"frontier":{}}}"#]
    );
    // Two events in one turn: one push, to the subscriber only.
    service.receive(B, format!("{EMIT}\n{EMIT}\n").as_bytes(), &mut node);
    service.settle(&node);
    service.settle(&node);
    assert_eq!(lines(&mut service, B).len(), 2);
    let pushed = lines(&mut service, A);
    assert_eq!(pushed.len(), 1);
    assert!(pushed[0].ends_with(r#""frontier":{"me":2}}}"#), "{pushed:?}");
    let other = r#"{"jsonrpc":"2.0","id":3,"method":"unsubscribe","params":{"subscription":"s1"}}"#;
    assert!(call(&mut service, &mut node, B, other)[0].contains("unknown subscription: 's1'"));
    assert!(call(&mut service, &mut node, A, other)[0].contains(r#""result":{"ok":true}"#));
    assert_eq!(call(&mut service, &mut node, B, EMIT).len(), 1);
    assert!(lines(&mut service, A).is_empty());
    // Who is gone is not pushed to.
    call(&mut service, &mut node, A, SUBSCRIBE);
    service.close(A);
    call(&mut service, &mut node, B, EMIT);
    assert!(service.is_closed(A) && service.subscriptions.is_empty());
}

#[test]
fn presence_is_told_to_all() {
    let (mut node, mut service) = with_view();
    service.open(A, &node);
    lines(&mut service, A);
    node.peers = vec!["b".into(), "a".into()];
    service.poll_presence(&node);
    service.poll_presence(&node);
    let told = |peer: &str, reachable: bool| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"presence","params":{{"peer":"{peer}","reachable":{reachable}}}}}"#
        )
    };
    assert_eq!(lines(&mut service, A), [told("a", true), told("b", true)]);
    let peers = call(&mut service, &mut node, A, r#"{"jsonrpc":"2.0","id":1,"method":"peers"}"#);
    assert_eq!(peers, [r#"{"jsonrpc":"2.0","id":1,"result":{"peers":["b","a"]}}"#]);
    node.peers = vec!["c".into()];
    service.poll_presence(&node);
    assert_eq!(lines(&mut service, A), [told("c", true), told("a", false), told("b", false)]);
}

#[test]
fn lines_have_a_limit() {
    let (mut node, mut service) = with_view();
    service.open(A, &node);
    lines(&mut service, A);
    let padded = |length: usize| {
        let frontier = r#"{"jsonrpc":"2.0","id":1,"method":"frontier"}"#;
        format!("{frontier}{}", " ".repeat(length - frontier.len()))
    };
    assert_eq!(call(&mut service, &mut node, A, &padded(SOCKET_LINE_BYTES_MAX)).len(), 1);
    assert!(!service.is_closed(A));
    assert!(call(&mut service, &mut node, A, &padded(SOCKET_LINE_BYTES_MAX + 1)).is_empty());
    assert!(service.is_closed(A));
    service.open(B, &node);
    lines(&mut service, B);
    service.receive(B, &vec![b' '; SOCKET_LINE_BYTES_MAX + 1], &mut node);
    assert!(service.is_closed(B));
}

#[test]
fn the_last_line_needs_no_end() {
    let (mut node, mut service) = with_view();
    service.open(A, &node);
    lines(&mut service, A);
    for byte in EMIT.bytes() {
        service.receive(A, &[byte], &mut node);
    }
    assert!(lines(&mut service, A).is_empty());
    service.end_of_input(A, &mut node);
    assert_eq!(lines(&mut service, A).len(), 1);
    assert!(service.is_closed(A) && node.log.len() == 1);
}

#[test]
fn a_client_that_does_not_read_is_closed() {
    let mut node = Node { view: Some(Ordered::default()), ..Node::default() };
    let mut service = Service::new(&node);
    service.open(A, &node);
    let text = "x".repeat(60_000);
    let emit = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"emit","params":{{"kind":"k","payload":{{"t":"{text}"}}}}}}"#
    );
    service.receive(A, format!("{emit}\n").as_bytes(), &mut node);
    let view = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"view\"}\n";
    let enough = SOCKET_UNREAD_BYTES_MAX / text.len() + 2;
    (0..enough).for_each(|_| service.receive(A, view.as_bytes(), &mut node));
    assert!(service.is_closed(A));
    assert!(service.take_output(A).len() <= SOCKET_UNREAD_BYTES_MAX);
}

proptest! {
    #[test]
    fn bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (mut node, mut service) = with_view();
        service.open(A, &node);
        service.receive(A, &bytes, &mut node);
        service.end_of_input(A, &mut node);
        service.settle(&node);
        let answers = lines(&mut service, A);
        prop_assert!(answers.iter().all(|line| json::parse(line.as_bytes()).is_ok()));
    }

    #[test]
    fn requests_do_not_panic(
        method in prop_oneof![proptest::sample::select(VERBS.to_vec()).prop_map(|verb| format!("\"{verb}\"")), "[0-9]|\\[\\]|null"],
        key in proptest::sample::select(vec!["since", "limit", "subscription", "kind", "payload", "snapshot"]),
        value in r#"-?[0-9]{1,30}|-?1e[0-9]{1,3}|NaN|true|null|"s1"|\{\}|\{"me":(-?[0-9]{1,22}|NaN|"x"|true|-0\.5)\}|\[1\]"#,
    ) {
        let (mut node, mut service) = with_view();
        service.open(A, &node);
        call(&mut service, &mut node, A, EMIT);
        let request = format!(r#"{{"jsonrpc":"2.0","id":1,"method":{method},"params":{{"{key}":{value}}}}}"#);
        prop_assert_eq!(call(&mut service, &mut node, A, &request).len(), 1);
    }
}
