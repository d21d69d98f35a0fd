//! The control socket: requests and answers as lines of JSON. See `docs/formats/control-socket.md`.
//!
//! Clients that were written for `meshlogd serve` may connect here, too. They speak JSON-RPC, so their first line tells
//! them apart; and they may wait to be greeted, so whoever says nothing at first is.

use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quipu_node::api::{Api, ApiError, ExitCode, NewEvent, Request};
use quipu_node::service::Handle;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::meshlog::Door;

/// The longest request line, in bytes.
pub(crate) const REQUEST_BYTES_MAX: u64 = 32 << 20;
/// The most clients at once.
const CLIENTS_MAX: usize = 256;
/// Who says nothing for so long after connecting is greeted: it may be a client of meshlogd, which waits for that.
const GREET_AFTER: Duration = Duration::from_millis(100);

/// One line to the daemon.
#[derive(Debug, Serialize)]
pub(crate) struct RequestLine {
    /// Comes back in every answer.
    pub(crate) id: u64,
    #[serde(flatten)]
    pub(crate) request: Request,
}

/// The same as it is read: payloads must stay text until the strict reader sees them, and serde
/// only keeps text where it knows the type from the start.
#[derive(Debug, Deserialize)]
struct RawLine<'a> {
    #[serde(default)]
    id: u64,
    method: String,
    #[serde(default, borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct EmitParams {
    events: Vec<NewEvent>,
}

impl RawLine<'_> {
    fn request(&self) -> Result<Request, serde_json::Error> {
        let params = self.params.map_or("null", RawValue::get);
        if self.method == "emit" {
            let EmitParams { events } = serde_json::from_str(params)?;
            return Ok(Request::Emit { events });
        }
        let mut object = serde_json::json!({ "method": self.method });
        let bare = self.params.is_none() || params.trim() == "{}";
        // Without parameters, or with none in the braces: both ways of saying so are fine.
        if bare && let Ok(request) = serde_json::from_value(object.clone()) {
            return Ok(request);
        }
        object["params"] = serde_json::from_str(if bare { "{}" } else { params })?;
        serde_json::from_value(object)
    }
}

/// One line from the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AnswerLine {
    pub(crate) id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) item: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<ApiError>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) done: bool,
}

/// Whether a line is for clients of another protocol: the greeting of those who were silent at first.
pub(crate) fn is_greeting(line: &str) -> bool {
    is_json_rpc(line.as_bytes())
}

/// Says if a daemon answers there.
pub(crate) fn check_free(path: &Path) -> Result<(), ApiError> {
    if UnixStream::connect(path).is_ok() {
        let message = format!("a daemon already answers on {}", path.display());
        return Err(ApiError::new(ExitCode::Storage, message).hint("stop it first"));
    }
    Ok(())
}

/// Binds the socket, after clearing away one that nobody answers on.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, ApiError> {
    check_free(path)?;
    drop(std::fs::remove_file(path));
    let bound = UnixListener::bind(path).and_then(|listener| {
        // Whoever may write to the socket may write to the log.
        let only_owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, only_owner)?;
        Ok(listener)
    });
    bound.map_err(|error| {
        let message = format!("cannot put the control socket at {}: {error}", path.display());
        ApiError::new(ExitCode::Storage, message).hint("quipu serve --socket PATH")
    })
}

/// Serves clients until the listener fails; each has a thread of its own.
pub(crate) fn serve(
    listener: &UnixListener,
    handle: &Handle,
    door: &Door,
    shutdown: impl Fn() + Clone + Send + 'static,
) {
    let clients = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming().flatten() {
        if clients.fetch_add(1, Ordering::SeqCst) >= CLIENTS_MAX {
            clients.fetch_sub(1, Ordering::SeqCst);
            drop(answer_busy(&stream));
            continue;
        }
        let (handle, clients, shutdown) = (handle.clone(), clients.clone(), shutdown.clone());
        let door = door.clone();
        std::thread::spawn(move || {
            drop(client(stream, handle, &door, &shutdown));
            clients.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn answer_busy(mut stream: &UnixStream) -> io::Result<()> {
    let message = format!("more than {CLIENTS_MAX} clients at once");
    let error = Some(ApiError::new(ExitCode::Peer, message).hint("try again later"));
    write_line(&mut stream, &AnswerLine { id: 0, item: None, error, done: false })
}

fn write_line(out: &mut impl Write, line: &AnswerLine) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    out.write_all(&bytes)
}

/// Serves one client until it goes.
fn client(
    mut stream: UnixStream,
    handle: Handle,
    door: &Door,
    shutdown: &impl Fn(),
) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 << 10, stream.try_clone()?);
    stream.set_read_timeout(Some(GREET_AFTER))?;
    let is_silent = match reader.fill_buf() {
        Ok(_) => false,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => true,
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(None)?;
    if is_silent {
        // If it cannot be greeted, there are no meshlog clients; others need no greeting.
        match door.hello() {
            Ok(hello) => stream.write_all(&hello)?,
            Err(error) => tracing::debug!(%error, "no greeting"),
        }
    }
    let mut first = Vec::new();
    reader.by_ref().take(REQUEST_BYTES_MAX + 1).read_until(b'\n', &mut first)?;
    // A list of requests is refused in both protocols: who waited for the greeting means that one.
    let is_list = is_silent && first.trim_ascii_start().starts_with(b"[");
    if is_list || is_json_rpc(&first) {
        first.extend_from_slice(reader.buffer());
        drop(reader);
        door.serve(stream, &first, is_silent);
        return Ok(());
    }
    requests(&stream, io::Cursor::new(first).chain(reader), handle, door, shutdown)
}

/// Whether a line is of `meshlog.socket/1`.
fn is_json_rpc(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Tagged<'a> {
        #[serde(borrow)]
        jsonrpc: Option<&'a RawValue>,
    }
    let tagged = serde_json::from_slice::<Tagged<'_>>(line);
    tagged.is_ok_and(|tagged| tagged.jsonrpc.is_some())
}

/// Answers one client's requests, in order, until it goes.
fn requests(
    stream: &UnixStream,
    mut reader: impl BufRead,
    handle: Handle,
    door: &Door,
    shutdown: &impl Fn(),
) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(64 << 10, stream);
    let Ok(mut api) = Api::new(handle) else { return Ok(()) };
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(REQUEST_BYTES_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && read as u64 == REQUEST_BYTES_MAX {
            let error =
                ApiError::refused(format!("a request has at most {REQUEST_BYTES_MAX} bytes"));
            let answer = AnswerLine { id: 0, item: None, error: Some(error), done: false };
            write_line(&mut writer, &answer)?;
            return writer.flush();
        }
        let parsed: Result<RawLine<'_>, _> = serde_json::from_slice(&line);
        let id = parsed.as_ref().map_or(0, |line| line.id);
        let parsed = parsed.and_then(|line| Ok((line.id, line.request()?)));
        let (id, result) = match parsed {
            Err(error) => (id, Err(ApiError::refused(format!("not a request: {error}")))),
            Ok((id, Request::Shutdown)) => {
                write_line(&mut writer, &AnswerLine { id, item: None, error: None, done: true })?;
                writer.flush()?;
                shutdown();
                return Ok(());
            }
            Ok((id, request)) => {
                let names = matches!(request, Request::MeshIdentity { .. });
                let mut sink = |item| {
                    let line = AnswerLine { id, item: Some(item), error: None, done: false };
                    write_line(&mut writer, &line)
                };
                let answered = api.answer(request, &mut sink);
                // It may have a name in meshes now.
                (id, answered.and_then(|()| if names { door.appear() } else { Ok(()) }))
            }
        };
        let done = result.is_ok();
        write_line(&mut writer, &AnswerLine { id, item: None, error: result.err(), done })?;
        writer.flush()?;
    }
}
