//! Lines for clients.

use crate::json::{self, Style, Value};
use crate::repr::{repr_of, str_of};
use crate::text::Text;

/// The codes of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i64)]
pub(super) enum Code {
    Parse = -32700,
    InvalidRequest = -32600,
    MethodNotFound = -32601,
    InvalidParams = -32602,
    Internal = -32603,
    NoReducer = -32000,
    UnknownSubscription = -32002,
}

/// An error as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RpcError {
    code: Code,
    message: Text,
}

impl RpcError {
    pub(super) fn new(code: Code, message: impl Into<Text>) -> Self {
        Self { code, message: message.into() }
    }

    /// Something that meshlogd does not expect either.
    pub(super) fn internal() -> Self {
        Self::new(Code::Internal, "internal error")
    }

    /// There is no such method. One that is a list or an object is more than meshlogd can look up.
    pub(super) fn no_method(method: &Value) -> Self {
        let Some(name) = str_of(method) else { return Self::internal() };
        Self::new(Code::MethodNotFound, joined("method not found: ", &name))
    }

    /// There is no such subscription. The same holds here.
    pub(super) fn no_subscription(named: &Value) -> Self {
        let Some(name) = repr_of(named) else { return Self::internal() };
        Self::new(Code::UnknownSubscription, joined("unknown subscription: ", &name))
    }
}

fn joined(before: &str, name: &Text) -> Text {
    Text::from_checked([before.as_bytes(), name.as_bytes()].concat())
}

pub(super) fn error_line(id: &Value, error: &RpcError) -> Vec<u8> {
    let shown =
        Value::object([("code", (error.code as i64).into()), ("message", (&error.message).into())]);
    line(id, b"error", &json::to_bytes(&shown, Style::Compact))
}

pub(super) fn result_line(id: &Value, result: &[u8]) -> Vec<u8> {
    line(id, b"result", result)
}

fn line(id: &Value, name: &[u8], shown: &[u8]) -> Vec<u8> {
    let mut out = b"{\"jsonrpc\":\"2.0\",\"id\":".to_vec();
    json::write(id, Style::Compact, &mut out);
    for part in [b",\"", name, b"\":", shown, b"}\n"] {
        out.extend_from_slice(part);
    }
    out
}

pub(super) fn notification(method: &str, params: &[u8]) -> Vec<u8> {
    let head = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":");
    [head.as_bytes(), params, b"}\n"].concat()
}
