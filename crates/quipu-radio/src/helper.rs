//! The helper's process: started, listened to, and started again when it ends.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use quipu_helper::limits::VERSION;
use quipu_helper::{Frames, FromHelper, ToHelper, frame};

/// Names another program in place of the one beside this one.
pub const HELPER_VAR: &str = "QUIPU_RETICULUM";
/// The helper for Reticulum.
const HELPER_NAME: &str = "quipu-reticulum";
/// Bytes read from a helper at once.
const READ_BYTES: usize = 64 << 10;

/// Why there is no helper.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// There is no such program.
    #[error("no link helper at {}", .0.display())]
    Missing(PathBuf),
    /// It does not start.
    #[error("the link helper {} does not start: {error}", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// Where the helper is: where the environment says, else beside this program.
///
/// # Errors
/// If there is nothing.
pub fn find() -> Result<PathBuf, HelperError> {
    let path = match std::env::var_os(HELPER_VAR) {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe().unwrap_or_default().with_file_name(HELPER_NAME),
    };
    if path.is_file() { Ok(path) } else { Err(HelperError::Missing(path)) }
}

/// What a helper's process tells.
#[derive(Debug)]
pub(crate) enum Told {
    /// It says something.
    Said(FromHelper),
    /// It says nothing more.
    Ended(String),
}

/// A running helper. It is ended with this.
#[derive(Debug)]
pub(crate) struct Helper {
    child: Child,
    say: Option<Sender<Vec<u8>>>,
}

impl Helper {
    /// Starts a helper. What it tells goes to `sink`, on a thread of its own.
    pub(crate) fn start(
        program: &Path,
        config: Option<&Path>,
        sink: impl Fn(Told) + Send + 'static,
    ) -> Result<Self, HelperError> {
        let mut arguments = Vec::<OsString>::new();
        if let Some(config) = config {
            arguments.extend(["--config".into(), config.into()]);
        }
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| HelperError::Start { path: program.to_owned(), error })?;
        let (say, said) = channel();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        if let (Some(stdin), Some(stdout)) = (stdin, stdout) {
            std::thread::spawn(move || write_all(stdin, &said));
            std::thread::spawn(move || {
                let end = listen(stdout, &sink);
                sink(Told::Ended(end));
            });
        }
        Ok(Self { child, say: Some(say) })
    }

    /// Tells it something. If it is gone, its end was told or will be.
    pub(crate) fn say(&self, message: &ToHelper) {
        if let Some(say) = &self.say {
            drop(say.send(frame(&message.encode())));
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it end in good order, for a while.
    pub(crate) fn end(mut self) {
        self.say(&ToHelper::Bye {});
        // Closes its input when all is written.
        self.say = None;
        for _ in 0..END_LOOKS {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(END_LOOK);
        }
    }
}

/// How often, and how many times, it is looked whether a helper has ended.
const END_LOOK: std::time::Duration = std::time::Duration::from_millis(20);
const END_LOOKS: u32 = 100;

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn write_all(mut stdin: ChildStdin, said: &Receiver<Vec<u8>>) {
    for bytes in said {
        if stdin.write_all(&bytes).and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}

/// Listens until there is no more. Answers why.
fn listen(mut stdout: ChildStdout, sink: &impl Fn(Told)) -> String {
    let mut frames = Frames::default();
    let mut piece = vec![0; READ_BYTES];
    let mut last = "it ended".to_owned();
    loop {
        let read = match stdout.read(&mut piece) {
            Ok(0) => return last,
            Ok(read) => read,
            Err(error) => return error.to_string(),
        };
        frames.push(&piece[..read]);
        loop {
            let bytes = match frames.pop() {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break,
                Err(error) => return error.to_string(),
            };
            match FromHelper::decode(bytes) {
                Ok(FromHelper::Hello { version, name }) if version != VERSION => {
                    return format!("{name} speaks version {version}, not {VERSION}");
                }
                Ok(message) => {
                    if let FromHelper::Bye { reason } = &message {
                        last.clone_from(reason);
                    }
                    sink(Told::Said(message));
                }
                Err(error) => return error.to_string(),
            }
        }
    }
}
