//! `since` and `limit` of `events`, which are ends of Python's slices: truth values are numbers, and negative
//! numbers count from the end.

use super::answer::{Code, RpcError};
use crate::json::{Int, Value};

/// What a number stands for in a slice, if it is one.
fn whole(value: &Value) -> Option<Int> {
    match value {
        Value::Int(int) => Some(int.clone()),
        Value::Bool(truth) => Some(Int::Small(i64::from(*truth))),
        _ => None,
    }
}

/// The place in a list of this length: from the end if negative, never outside.
fn place(length: usize, at: &Int) -> usize {
    if !at.is_negative() {
        let at = at.as_u64().unwrap_or(u64::MAX);
        return length.min(usize::try_from(at).unwrap_or(usize::MAX));
    }
    let back = at.as_i64().unwrap_or(i64::MIN).unsigned_abs();
    length.saturating_sub(usize::try_from(back).unwrap_or(usize::MAX))
}

/// Where the events begin that a client lacks of a feed of this length; nothing if it lacks none.
pub(super) fn start(length: usize, have: Option<&Value>) -> Result<Option<usize>, RpcError> {
    let Some(have) = have else { return Ok((length > 0).then_some(0)) };
    if let Value::Float(float) = have {
        // A float compares with a length, but ends no slice.
        return if length as f64 > *float { Err(RpcError::internal()) } else { Ok(None) };
    }
    let have = whole(have).ok_or_else(RpcError::internal)?;
    let is_behind = Int::from(length as u64) > have;
    Ok(is_behind.then(|| place(length, &have)))
}

/// The limit, if there is one.
pub(super) fn limit(value: Option<&Value>) -> Result<Option<Int>, RpcError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match whole(value) {
            Some(limit) => Ok(Some(limit)),
            None => Err(RpcError::new(Code::InvalidParams, "'limit' must be an integer")),
        },
    }
}

/// How many events a limit leaves.
pub(super) fn end(length: usize, limit: Option<Int>) -> usize {
    limit.map_or(length, |limit| place(length, &limit))
}
