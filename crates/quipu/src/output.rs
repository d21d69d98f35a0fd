//! What people and scripts see. Data goes to stdout, everything else to stderr.

use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use quipu_node::api::ApiError;
use serde_json::Value;

/// Prints an error: on stderr for people, and as JSON for scripts that asked for it.
#[expect(clippy::print_stderr, reason = "this is where errors go")]
pub(crate) fn error(error: &ApiError, json: bool) {
    if json {
        let object = serde_json::json!({
            "error": error.message,
            "code": u8::from(error.code),
            "hint": error.hint,
        });
        eprintln!("{object}");
        return;
    }
    eprintln!("error: {}", error.message);
    if let Some(hint) = &error.hint {
        eprintln!("hint: {hint}");
    }
}

/// Something for people, on stderr, unless they want quiet.
#[expect(clippy::print_stderr, reason = "this is where notes go")]
pub(crate) fn note(quiet: bool, text: &str) {
    if !quiet {
        eprintln!("{text}");
    }
}

/// A line on stdout.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")
}

/// One JSON object on a line.
pub(crate) fn json(value: &Value) -> io::Result<()> {
    line(&value.to_string())
}

/// A table that fits the terminal.
pub(crate) fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = terminal_width() {
        table.set_width(width);
    }
    table.set_header(columns.iter().copied());
    table
}

fn terminal_width() -> Option<u16> {
    if !io::stdout().is_terminal() {
        return None;
    }
    console_width()
}

fn console_width() -> Option<u16> {
    std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).or(Some(100))
}

/// `name: value` lines, aligned; lists below each other.
pub(crate) fn fields(value: &Value) -> io::Result<()> {
    let Some(object) = value.as_object() else { return line(&value.to_string()) };
    let width = object.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in object {
        match value {
            Value::Null => {}
            Value::Array(list) if list.is_empty() => line(&format!("{name:width$}  none"))?,
            Value::Array(list) => {
                for (index, item) in list.iter().enumerate() {
                    let label = if index == 0 { name } else { "" };
                    line(&format!("{label:width$}  {}", plain(item)))?;
                }
            }
            other => line(&format!("{name:width$}  {}", plain(other)))?,
        }
    }
    Ok(())
}

/// Text without quotes, everything else as JSON.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// That something is being done of which nobody knows how long it takes, on a terminal; nothing in a pipe.
pub(crate) fn working(quiet: bool, what: &str) -> indicatif::ProgressBar {
    let bar = progress(quiet, None, what);
    if let Ok(style) = indicatif::ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    if !bar.is_hidden() {
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
    }
    bar
}

/// A progress bar on a terminal; nothing in a pipe.
pub(crate) fn progress(quiet: bool, total: Option<u64>, what: &str) -> indicatif::ProgressBar {
    let known = "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}";
    bar(quiet, total, what, known, "{spinner} {msg} {human_pos} {per_sec} {elapsed}")
}

/// The same for bytes.
pub(crate) fn bytes_progress(
    quiet: bool,
    total: Option<u64>,
    what: &str,
) -> indicatif::ProgressBar {
    let known = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    bar(quiet, total, what, known, "{spinner} {msg} {bytes} {bytes_per_sec} {elapsed}")
}

fn bar(
    quiet: bool,
    total: Option<u64>,
    what: &str,
    known: &str,
    unknown: &str,
) -> indicatif::ProgressBar {
    use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
    if quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), known),
        None => (ProgressBar::new_spinner(), unknown),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}
