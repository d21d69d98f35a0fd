//! A git repository's history as events: one `git.commit` for each commit, parents first.
//!
//! Read through the `git` program, which everybody with a repository has.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use quipu_node::api::{ApiError, ExitCode, NewEvent, Request};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::client::Client;
use crate::output;

/// Fields of one record, separated by the unit separator; records end with the record separator.
const FORMAT: &str = "%H%x1f%P%x1f%an%x1f%ae%x1f%at%x1f%cn%x1f%ct%x1f%B%x1e";
const RECORD_END: u8 = 0x1e;
const FIELD_END: char = '\x1f';
/// Longer commit messages are cut: a payload has at most 64 KiB.
const MESSAGE_BYTES_MAX: usize = 32 << 10;
/// Events in one request.
const BATCH_EVENTS: usize = 500;

pub(crate) fn load(global: &Global, client: &mut Client, repo: &Path) -> Result<Value, ApiError> {
    if !repo.exists() {
        return Err(ApiError::not_found(format!("{}: no such directory", repo.display())));
    }
    let mut child = Command::new("git")
        .arg("-C")
        .arg(repo)
        .args(["log", "--reverse", "--topo-order", "--all", "--encoding=UTF-8"])
        .arg(format!("--format=tformat:{FORMAT}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            ApiError::new(ExitCode::NotFound, format!("cannot run git: {error}"))
                .hint("install git, or choose another format")
        })?;
    let bar = output::progress(global.quiet, None, "commits");
    let stdout = child.stdout.take().ok_or_else(|| ApiError::new(ExitCode::Bug, "no pipe"))?;
    let mut events = Vec::new();
    let mut count = 0u64;
    for record in BufReader::new(stdout).split(RECORD_END) {
        let record = record?;
        let text = String::from_utf8_lossy(&record);
        if let Some(payload) = commit(text.trim_start_matches('\n')) {
            events.push(event_of(&payload)?);
        }
        if events.len() >= BATCH_EVENTS {
            count += send(client, &mut events)?;
            bar.set_position(count);
        }
    }
    count += send(client, &mut events)?;
    bar.finish_and_clear();
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ApiError::refused(format!("git: {message}"))
            .hint("the argument is a git repository: quipu load --format git REPO"));
    }
    Ok(json!({ "events": count }))
}

fn commit(record: &str) -> Option<Value> {
    let fields: Vec<&str> = record.splitn(8, FIELD_END).collect();
    let [hash, parents, author, email, authored, committer, committed, message] = fields[..] else {
        return None;
    };
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    Some(json!({
        "commit": hash,
        "parents": parents.split_whitespace().collect::<Vec<_>>(),
        "author": author,
        "email": email,
        "authored_s": authored.parse::<i64>().ok()?,
        "committer": committer,
        "committed_s": committed.parse::<i64>().ok()?,
        "message": message[..end].trim_end(),
    }))
}

fn event_of(payload: &Value) -> Result<NewEvent, ApiError> {
    let raw = serde_json::value::to_raw_value(payload)
        .map_err(|error| ApiError::new(ExitCode::Bug, error.to_string()))?;
    Ok(NewEvent { kind: "git.commit".to_owned(), payload: Some(raw) })
}

fn send(client: &mut Client, events: &mut Vec<NewEvent>) -> Result<u64, ApiError> {
    if events.is_empty() {
        return Ok(0);
    }
    let mut stored = 0;
    client.ask(Request::Emit { events: std::mem::take(events) }, &mut |_| {
        stored += 1;
        Ok(())
    })?;
    Ok(stored)
}
