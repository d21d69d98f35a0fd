//! `meshlog.socket/1`: the JSON-RPC 2.0 over lines of JSON that `meshlogd serve` speaks, as a state
//! machine. Bytes of clients go in, bytes for clients come out; what it is about, it asks its [`Host`].
//!
//! It answers as meshlogd 0.5.0 does, also where that is odd: an error is answered even if the request had
//! no id, a batch is an invalid request, `since` and `limit` are Python's slices, a line
//! beyond 64 KiB ends the connection.
//!
//! A driver calls [`Service::open`], then [`Service::receive`] with what it reads, [`Service::settle`] when it has
//! handled what was there to read or when events came from elsewhere, and writes what
//! [`Service::take_output`] gives.

mod answer;
mod slice;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::event::Event;
use crate::json::{self, Object, Style, Value};
use crate::limits::{SOCKET_LINE_BYTES_MAX, SOCKET_UNREAD_BYTES_MAX};
use crate::text::Text;
use answer::{Code, RpcError, error_line, notification, result_line};

/// The name of the protocol.
pub const PROTOCOL: &str = "meshlog.socket/1";

/// What everybody can ask.
const VERBS: [&str; 8] =
    ["emit", "events", "frontier", "peers", "status", "subscribe", "unsubscribe", "view"];

/// The host could not do what was asked. Clients hear of an internal error only, as from meshlogd; the rest is
/// for the host's own log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the host failed")]
pub struct HostFailed;

/// What the socket is about: a node with its log.
pub trait Host {
    /// The author that this node writes as.
    fn author(&self) -> Text;
    /// How long each feed is, in the order in which the authors were first heard of.
    fn frontier(&self) -> Object;
    /// The events of an author after the first `from` of its feed.
    fn events_after(&self, author: &Text, from: usize) -> Vec<Arc<Event>>;
    /// Writes an event of this node.
    fn emit(&mut self, kind: &Text, payload: &Value) -> Result<Arc<Event>, HostFailed>;
    /// Whether there is a view.
    fn has_view(&self) -> bool;
    /// Appends the view as JSON without spaces.
    fn write_view(&self, out: &mut Vec<u8>);
    /// Who can be reached now.
    fn peers(&self) -> Vec<Text>;
    /// What the host tells of itself to every client.
    fn info(&self) -> Value {
        Value::Null
    }
}

/// A client, numbered by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(pub u64);

#[derive(Debug, Default)]
struct Client {
    /// The line that has not ended yet.
    partial: Vec<u8>,
    out: Vec<u8>,
    is_closed: bool,
}

/// What a client is greeted with: a line.
pub fn hello(author: Text, has_view: bool, info: Value) -> Vec<u8> {
    let verbs = VERBS.iter().map(|verb| Value::from(*verb)).collect();
    let params = Value::object([
        ("protocol", PROTOCOL.into()),
        ("node", author.into()),
        ("reducer", has_view.into()),
        ("verbs", Value::List(verbs)),
        ("host", info),
    ]);
    notification("hello", &json::to_bytes(&params, Style::Compact))
}

/// The service for all clients.
#[derive(Debug)]
pub struct Service {
    clients: BTreeMap<ClientId, Client>,
    /// Subscriptions by number, each with its client.
    subscriptions: BTreeMap<u64, ClientId>,
    subscriptions_made: u64,
    frontier_pushed: BTreeMap<Text, Value>,
    peers_told: BTreeSet<Text>,
}

impl Service {
    /// A service that starts where the host stands: what is there already is not pushed.
    pub fn new(host: &impl Host) -> Self {
        Self {
            clients: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            subscriptions_made: 0,
            frontier_pushed: host.frontier().into_iter().collect(),
            peers_told: host.peers().into_iter().collect(),
        }
    }

    /// A client has come: it is greeted.
    pub fn open(&mut self, id: ClientId, host: &impl Host) {
        self.clients.insert(id, Client::default());
        self.send(id, &hello(host.author(), host.has_view(), host.info()));
    }

    /// Bytes of a client have come. Afterwards [`Service::settle`] is due.
    pub fn receive(&mut self, id: ClientId, bytes: &[u8], host: &mut impl Host) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(client) = self.clients.get_mut(&id).filter(|client| !client.is_closed) else {
                return;
            };
            let is_ended = piece.ends_with(b"\n");
            let length = client.partial.len() + piece.len() - usize::from(is_ended);
            if length > SOCKET_LINE_BYTES_MAX {
                client.partial = Vec::new();
                client.is_closed = true;
                return self.forget_subscriptions(id);
            }
            client.partial.extend_from_slice(piece);
            if is_ended {
                let line = std::mem::take(&mut client.partial);
                self.line(id, &line, host);
            }
        }
    }

    /// The client sends no more. A line that it did not end is answered all the same.
    pub fn end_of_input(&mut self, id: ClientId, host: &mut impl Host) {
        let Some(client) = self.clients.get_mut(&id).filter(|client| !client.is_closed) else {
            return;
        };
        let line = std::mem::take(&mut client.partial);
        if !line.is_empty() {
            self.line(id, &line, host);
        }
        if let Some(client) = self.clients.get_mut(&id) {
            client.is_closed = true;
        }
        self.forget_subscriptions(id);
    }

    /// The client is gone.
    pub fn close(&mut self, id: ClientId) {
        self.clients.remove(&id);
        self.forget_subscriptions(id);
    }

    /// What is to be written to a client, once.
    pub fn take_output(&mut self, id: ClientId) -> Vec<u8> {
        self.clients.get_mut(&id).map(|client| std::mem::take(&mut client.out)).unwrap_or_default()
    }

    /// Whether the connection is to be closed once its output is written.
    pub fn is_closed(&self, id: ClientId) -> bool {
        self.clients.get(&id).is_none_or(|client| client.is_closed)
    }

    /// Pushes the state to all who subscribed, if events came since the last time.
    pub fn settle(&mut self, host: &impl Host) {
        let frontier = host.frontier();
        let lengths: BTreeMap<Text, Value> = frontier.iter().cloned().collect();
        if lengths == self.frontier_pushed {
            return;
        }
        self.frontier_pushed = lengths;
        if self.subscriptions.is_empty() || !host.has_view() {
            return;
        }
        let mut state = Vec::new();
        host.write_view(&mut state);
        let frontier = json::to_bytes(&frontier.into(), Style::Compact);
        let subscriptions: Vec<(u64, ClientId)> =
            self.subscriptions.iter().map(|(number, id)| (*number, *id)).collect();
        for (number, id) in subscriptions {
            let name = format!("{{\"subscription\":\"s{number}\",\"state\":");
            let params = [name.as_bytes(), &state, b",\"frontier\":", &frontier, b"}"].concat();
            self.send(id, &notification("state", &params));
        }
    }

    /// Tells all clients who has come within reach, and who is not any more. A driver calls it every few seconds.
    pub fn poll_presence(&mut self, host: &impl Host) {
        let now: BTreeSet<Text> = host.peers().into_iter().collect();
        let before = std::mem::replace(&mut self.peers_told, now.clone());
        let came = now.difference(&before).map(|peer| (peer, true));
        let went = before.difference(&now).map(|peer| (peer, false));
        for (peer, is_reachable) in came.chain(went) {
            let params = Value::object([("peer", peer.into()), ("reachable", is_reachable.into())]);
            let line = notification("presence", &json::to_bytes(&params, Style::Compact));
            let all: Vec<ClientId> = self.clients.keys().copied().collect();
            all.into_iter().for_each(|id| self.send(id, &line));
        }
    }

    fn send(&mut self, id: ClientId, line: &[u8]) {
        let Some(client) = self.clients.get_mut(&id).filter(|client| !client.is_closed) else {
            return;
        };
        if client.out.len() + line.len() > SOCKET_UNREAD_BYTES_MAX && !client.out.is_empty() {
            client.is_closed = true;
            return self.forget_subscriptions(id);
        }
        client.out.extend_from_slice(line);
    }

    fn forget_subscriptions(&mut self, id: ClientId) {
        self.subscriptions.retain(|_, owner| *owner != id);
    }

    fn line(&mut self, id: ClientId, line: &[u8], host: &mut impl Host) {
        let answer = match json::parse_detected(line) {
            Ok(request) => self.request(id, &request, host),
            Err(_) => Some(error_line(&Value::Null, &RpcError::new(Code::Parse, "parse error"))),
        };
        if let Some(answer) = answer {
            self.send(id, &answer);
        }
    }

    fn request(&mut self, id: ClientId, request: &Value, host: &mut impl Host) -> Option<Vec<u8>> {
        let request_id = request.get("id").cloned().unwrap_or_default();
        let version = request.get("jsonrpc").and_then(Value::as_text);
        let (Some(method), true) = (request.get("method"), version.is_some_and(|v| *v == "2.0"))
        else {
            let error = RpcError::new(Code::InvalidRequest, "invalid request");
            return Some(error_line(&request_id, &error));
        };
        let none = Object::default();
        let params = match request.get("params") {
            None | Some(Value::Null) => &none,
            Some(Value::Object(params)) => params,
            Some(_) => {
                let error = RpcError::new(Code::InvalidParams, "params must be an object");
                return Some(error_line(&request_id, &error));
            }
        };
        match self.call(id, method, params, host) {
            Err(error) => Some(error_line(&request_id, &error)),
            Ok(_) if request_id == Value::Null => None,
            Ok(result) => Some(result_line(&request_id, &result)),
        }
    }

    fn call(
        &mut self,
        id: ClientId,
        method: &Value,
        params: &Object,
        host: &mut impl Host,
    ) -> Result<Vec<u8>, RpcError> {
        let name = method.as_text().and_then(Text::as_str).unwrap_or_default();
        match name {
            "emit" => emit(params, host),
            "view" => view(host),
            "subscribe" => self.subscribe(id, params, host),
            "unsubscribe" => self.unsubscribe(id, params),
            "events" => events(params, host),
            "frontier" => Ok(encode(Value::object([("frontier", host.frontier().into())]))),
            "peers" => Ok(encode(Value::object([("peers", peers(host))]))),
            "status" => Ok(encode(status(host))),
            _ => Err(RpcError::no_method(method)),
        }
    }

    fn subscribe(
        &mut self,
        id: ClientId,
        params: &Object,
        host: &impl Host,
    ) -> Result<Vec<u8>, RpcError> {
        require_view(host)?;
        self.subscriptions_made += 1;
        let number = self.subscriptions_made;
        self.subscriptions.insert(number, id);
        let mut out = format!("{{\"subscription\":\"s{number}\"").into_bytes();
        if params.get("snapshot").is_none_or(Value::is_truthy) {
            out.push(b',');
            write_state(host, &mut out);
        }
        out.push(b'}');
        Ok(out)
    }

    fn unsubscribe(&mut self, id: ClientId, params: &Object) -> Result<Vec<u8>, RpcError> {
        let named = params.get("subscription").unwrap_or(&Value::Null);
        let number = named.as_text().and_then(Text::as_str).and_then(subscription_number);
        let own = number.filter(|number| self.subscriptions.get(number) == Some(&id));
        let Some(number) = own else { return Err(RpcError::no_subscription(named)) };
        self.subscriptions.remove(&number);
        Ok(encode(Value::object([("ok", true.into())])))
    }
}

/// The number in `s7`, if it is spelled as we spell it.
fn subscription_number(name: &str) -> Option<u64> {
    let number: u64 = name.strip_prefix('s')?.parse().ok()?;
    (format!("s{number}") == name).then_some(number)
}

fn encode(value: Value) -> Vec<u8> {
    json::to_bytes(&value, Style::Compact)
}

fn require_view(host: &impl Host) -> Result<(), RpcError> {
    if host.has_view() {
        return Ok(());
    }
    Err(RpcError::new(Code::NoReducer, "no reducer configured for this node"))
}

/// `"state":..,"frontier":..`
fn write_state(host: &impl Host, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"state\":");
    host.write_view(out);
    out.extend_from_slice(b",\"frontier\":");
    json::write(&host.frontier().into(), Style::Compact, out);
}

fn view(host: &impl Host) -> Result<Vec<u8>, RpcError> {
    require_view(host)?;
    let mut out = b"{".to_vec();
    write_state(host, &mut out);
    out.push(b'}');
    Ok(out)
}

fn emit(params: &Object, host: &mut impl Host) -> Result<Vec<u8>, RpcError> {
    let Some(Value::Text(kind)) = params.get("kind") else {
        return Err(RpcError::new(Code::InvalidParams, "emit requires 'kind' (string)"));
    };
    let Some(payload @ Value::Object(_)) = params.get("payload") else {
        return Err(RpcError::new(Code::InvalidParams, "emit requires 'payload' (object)"));
    };
    let event = host.emit(kind, payload).map_err(|_| RpcError::internal())?;
    Ok(encode(Value::object([("event", event.to_shown())])))
}

fn events(params: &Object, host: &impl Host) -> Result<Vec<u8>, RpcError> {
    let since = match params.get("since") {
        Some(Value::Object(since)) => since.clone(),
        Some(other) if other.is_truthy() => {
            return Err(RpcError::new(Code::InvalidParams, "'since' must be a frontier object"));
        }
        _ => Object::default(),
    };
    let limit = slice::limit(params.get("limit"))?;
    let frontier = host.frontier();
    let mut found: Vec<Arc<Event>> = Vec::new();
    let mut authors: Vec<&(Text, Value)> = frontier.iter().collect();
    authors.sort_by(|a, b| a.0.cmp(&b.0));
    let known: BTreeMap<&Text, &Value> =
        since.iter().map(|(author, have)| (author, have)).collect();
    for (author, length) in authors {
        let length = length.as_int().and_then(|length| length.as_u64()).unwrap_or(0) as usize;
        if let Some(from) = slice::start(length, known.get(author).copied())? {
            found.extend(host.events_after(author, from));
        }
    }
    let shown =
        found[..slice::end(found.len(), limit)].iter().map(|event| event.to_shown()).collect();
    Ok(encode(Value::object([("events", Value::List(shown)), ("frontier", frontier.into())])))
}

fn peers(host: &impl Host) -> Value {
    Value::List(host.peers().into_iter().map(Value::Text).collect())
}

fn status(host: &impl Host) -> Value {
    let frontier = host.frontier();
    let lengths = frontier.iter().filter_map(|(_, length)| length.as_int()?.as_u64());
    Value::object([
        ("protocol", PROTOCOL.into()),
        ("node", host.author().into()),
        ("reducer", host.has_view().into()),
        ("event_count", lengths.sum::<u64>().into()),
        ("frontier", frontier.into()),
        ("reachable_peers", peers(host)),
        ("host", host.info()),
    ])
}
