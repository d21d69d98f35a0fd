//! `quipu`: a federated, deterministic, append-only store. The command line.

mod car;
mod cli;
mod client;
mod commands;
mod daemon;
mod demo;
mod meshlog;
mod network;
mod output;
mod socket;
mod start;

use clap::Parser;
use quipu_node::api::{ApiError, ExitCode};

/// glibc gives memory back to the system and takes it again at every frame: a quarter of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives memory back to the system that was freed: the allocator keeps it until somebody allocates again.
#[expect(unsafe_code, reason = "a function of the allocator, which is a C library")]
fn give_back_memory() {
    // SAFETY: mimalloc.h declares it so. It takes no pointers, and any thread may call it at any time.
    unsafe extern "C" {
        safe fn mi_collect(force: bool);
    }
    mi_collect(true);
}

fn main() -> std::process::ExitCode {
    reset_broken_pipe();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::Usage } else { ExitCode::Done };
            if error.use_stderr() && wants_json(std::env::args_os().skip(1)) {
                output::error(&usage_error(&error), true);
            } else {
                drop(error.print());
            }
            return std::process::ExitCode::from(u8::from(code));
        }
    };
    start::logging(cli.global.verbose, cli.global.quiet);
    let json = cli.global.json;
    let code = match commands::run(cli) {
        Ok(code) => code,
        Err(error) => {
            if error.code != ExitCode::Done {
                output::error(&error, json);
            }
            error.code
        }
    };
    std::process::ExitCode::from(u8::from(code))
}

/// Whether `--json` was given, in arguments that could not be read.
fn wants_json(arguments: impl Iterator<Item = std::ffi::OsString>) -> bool {
    arguments.take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

/// What clap says, as an error like all others: its first paragraph is the message, the rest the hint.
fn usage_error(error: &clap::Error) -> ApiError {
    use clap::error::ErrorKind;
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return ApiError::misuse("a command is missing").hint("quipu --help");
    }
    let text = error.to_string();
    let mut paragraphs = text
        .trim()
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let first = paragraphs.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(&first);
    ApiError::misuse(message).hint(paragraphs.collect::<Vec<_>>().join("; "))
}

/// A closed pipe (`quipu log | head`) ends the program quietly, as people expect of a filter.
fn reset_broken_pipe() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        if text.contains("Broken pipe") {
            std::process::exit(0);
        }
        eprintln_bug(&text);
        std::process::exit(i32::from(u8::from(ExitCode::Bug)));
    }));
}

#[expect(clippy::print_stderr, reason = "the last words of the program")]
fn eprintln_bug(text: &str) {
    eprintln!("error: a bug in quipu: {text}");
    eprintln!("hint: what was acknowledged is safe; please report this with the command you ran");
}
