//! A link helper for Reticulum: see `docs/formats/link-helper.md`.

mod attach;
mod callbacks;
mod hub;
mod link;
mod retry;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};

use quipu_helper::limits::VERSION;
use quipu_helper::{Frames, FromHelper, ToHelper, frame};

use crate::callbacks::Happening;
use crate::hub::Hub;

/// Bytes read from the daemon at once.
const READ_BYTES: usize = 64 << 10;

const HELP: &str = "\
The link helper for Reticulum. It is started by `quipu serve --reticulum [CONFIGDIR]`.

Usage: quipu-reticulum [--config DIR]

  --config DIR   where Reticulum's `config` is; default: where Reticulum looks for it
";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("QUIPU_RETICULUM_LOG", "error"))
        .init();
    let config = match arguments() {
        Ok(Some(config)) => config,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            return ExitCode::from(2);
        }
    };
    let (sender, happenings) = channel();
    say(&FromHelper::Hello { version: VERSION, name: name() });
    match run(config.directory.as_deref(), sender, &happenings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            log::error!("{reason}");
            say(&FromHelper::Bye { reason });
            ExitCode::FAILURE
        }
    }
}

/// What the command line says.
struct Arguments {
    directory: Option<PathBuf>,
}

fn arguments() -> Result<Option<Arguments>, lexopt::Error> {
    let mut parser = lexopt::Parser::from_env();
    let mut directory = None;
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("config") => directory = Some(parser.value()?.into()),
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => {
                write_out(HELP.as_bytes());
                return Ok(None);
            }
            lexopt::Arg::Long("version") => {
                write_out(format!("{}\n", name()).as_bytes());
                return Ok(None);
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(Arguments { directory }))
}

fn name() -> String {
    format!("quipu-reticulum {}", env!("CARGO_PKG_VERSION"))
}

fn run(
    config: Option<&std::path::Path>,
    sender: Sender<Happening>,
    happenings: &Receiver<Happening>,
) -> Result<(), String> {
    let node = attach::attach(config, sender.clone())?;
    let input = sender.clone();
    std::thread::spawn(move || {
        let wrong = listen(&input).err();
        drop(input.send(Happening::InputEnd { wrong }));
    });
    Hub::new(node, sender).run(happenings)
}

/// Reads what the daemon says until there is no more.
fn listen(hub: &Sender<Happening>) -> Result<(), String> {
    let mut stdin = std::io::stdin().lock();
    let mut frames = Frames::default();
    let mut piece = vec![0; READ_BYTES];
    loop {
        let read = stdin.read(&mut piece).map_err(|error| error.to_string())?;
        if read == 0 {
            return Ok(());
        }
        frames.push(&piece[..read]);
        while let Some(bytes) = frames.pop().map_err(|error| error.to_string())? {
            let message = ToHelper::decode(bytes).map_err(|error| error.to_string())?;
            if hub.send(Happening::Said(message)).is_err() {
                return Ok(());
            }
        }
    }
}

/// Says something to the daemon. If it is gone, the end of the input tells.
fn say(message: &FromHelper) {
    write_out(&frame(&message.encode()));
}

fn write_out(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        log::debug!("nobody listens: {error}");
    }
}
