//! Errors as clients see them: what happened, to which object, and what to do.

use quipu_core::node::{CommandError, FetchFailure};
use quipu_core::sync::message::Refusal;
use quipu_state::StateError;
use quipu_store::StoreError;
use serde::{Deserialize, Serialize};

use crate::driver::DriverError;
use crate::home::HomeError;
use crate::service::ServiceError;

/// Exit codes of the command line. Scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum ExitCode {
    /// Done.
    Done = 0,
    /// A check found a problem.
    Problem = 1,
    /// The command was called wrongly.
    Usage = 2,
    /// Input was malformed, unauthentic or breaks a rule.
    Refused = 3,
    /// There is no such thing.
    NotFound = 4,
    /// The peer is not reachable or turned us away.
    Peer = 5,
    /// The disk is corrupt, full or locked.
    Storage = 6,
    /// Our bug.
    Bug = 70,
}

impl ExitCode {
    /// All codes with their meaning, for the documentation.
    pub const ALL: [(ExitCode, &'static str); 8] = [
        (ExitCode::Done, "done"),
        (ExitCode::Problem, "a check found a problem"),
        (ExitCode::Usage, "wrong usage"),
        (ExitCode::Refused, "refused input: malformed, unauthentic, or it breaks a rule"),
        (ExitCode::NotFound, "not found"),
        (ExitCode::Peer, "peer unreachable, or access refused"),
        (ExitCode::Storage, "storage: corrupt, full, or locked"),
        (ExitCode::Bug, "a bug in quipu"),
    ];
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> u8 {
        code as u8
    }
}

impl TryFrom<u8> for ExitCode {
    type Error = String;
    fn try_from(byte: u8) -> Result<Self, String> {
        let found = Self::ALL.into_iter().map(|(code, _)| code).find(|code| *code as u8 == byte);
        found.ok_or_else(|| format!("unknown exit code {byte}"))
    }
}

/// An error for people and scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Exit code.
    pub code: ExitCode,
    /// What happened, to which object.
    pub message: String,
    /// What to do about it, with a command where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ApiError {
    /// An error without a hint.
    pub fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The command was called wrongly.
    pub fn misuse(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ExitCode::NotFound, message)
    }

    /// Input is refused.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Refused, message)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Missing => ExitCode::NotFound,
            StoreError::OutOfRange { .. } | StoreError::Misuse(_) => ExitCode::Bug,
            _ => ExitCode::Storage,
        };
        let hint = error.hint().map(str::to_owned);
        Self { code, message: error.to_string(), hint }
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        let code = match &error {
            CommandError::Refused { .. } | CommandError::LinkLost(_) => ExitCode::Peer,
            CommandError::NotFetched { why, .. } => match why {
                FetchFailure::Lacking => ExitCode::NotFound,
                FetchFailure::NotKept(_) => ExitCode::Storage,
                FetchFailure::Busy => ExitCode::Refused,
                _ => ExitCode::Peer,
            },
            CommandError::NotMember(_) => ExitCode::NotFound,
            _ => ExitCode::Refused,
        };
        let hint = match &error {
            CommandError::ReservedKind(_) => Some("choose another kind, such as app.note"),
            CommandError::NotEntitled { .. } => {
                Some("an admin can change that: quipu member add KEY --role ROLE")
            }
            CommandError::Refused { refusal: Refusal::NotMember, .. } => {
                Some("ask an admin for a ticket (quipu invite) and use quipu join")
            }
            CommandError::Refused { refusal: Refusal::Invitation, .. } => {
                Some("ask an admin for a new ticket: quipu invite")
            }
            CommandError::Refused { refusal: Refusal::NotAdmin, .. } => {
                Some("use a ticket that was made on an admin's machine")
            }
            CommandError::Refused { refusal: Refusal::OtherDomain, .. } => {
                Some("check the ticket and the directory: quipu id")
            }
            CommandError::CannotErase(_) => {
                Some("its author or an admin can, and structural events stay: quipu show ID")
            }
            _ => None,
        };
        Self { code, message: error.to_string(), hint: hint.map(str::to_owned) }
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Command(error) => error.into(),
            ServiceError::Store(error) => error.into(),
            ServiceError::Artifact(error) => artifact_error(&error),
            ServiceError::Early(_) => Self::new(ExitCode::Refused, error.to_string())
                .hint("join without --snapshot-first, or through another machine"),
            ServiceError::Artifacts(_) => Self::new(ExitCode::Storage, error.to_string())
                .hint("check the disk and the permissions"),
            ServiceError::Unreachable { .. } => Self::new(ExitCode::Peer, error.to_string())
                .hint("is it running (quipu serve), and is the address in the ticket right?"),
            ServiceError::Stopped(_) => Self::new(ExitCode::Storage, error.to_string())
                .hint("quipu verify; what was acknowledged is safe"),
        }
    }
}

impl From<DriverError> for ApiError {
    fn from(error: DriverError) -> Self {
        match error {
            DriverError::Store(error) => error.into(),
            DriverError::State(error) => error.into(),
            DriverError::Root(_) => {
                Self::new(ExitCode::Storage, error.to_string()).hint("quipu verify --rebuild")
            }
        }
    }
}

/// What to do about damaged bytes.
const DAMAGED_HINT: &str =
    "quipu put FILE with the right bytes mends it; quipu verify lists all that are damaged";

/// An error of the files of artifacts.
pub fn artifact_error(error: &quipu_artifact::Error) -> ApiError {
    use quipu_artifact::Error;
    let (code, hint) = match error {
        Error::Sink { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe => {
            // Whoever read the bytes has seen enough.
            return ApiError::new(ExitCode::Done, String::new());
        }
        Error::Source(_) => (ExitCode::Refused, None),
        _ if error.is_full() => (ExitCode::Storage, Some("make room: quipu gc")),
        Error::Damaged { .. } => (ExitCode::Storage, Some(DAMAGED_HINT)),
        _ => (ExitCode::Storage, Some("quipu verify")),
    };
    ApiError { code, message: error.to_string(), hint: hint.map(str::to_owned) }
}

impl From<StateError> for ApiError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Store(error) => error.into(),
            StateError::NoEvent(_) => Self::not_found(error.to_string()).hint("quipu snapshots"),
            StateError::Damaged(_) => {
                Self::new(ExitCode::Storage, error.to_string()).hint("quipu verify --rebuild")
            }
            StateError::Io { .. } => Self::new(ExitCode::Storage, error.to_string())
                .hint("check the disk and the permissions"),
        }
    }
}

impl From<HomeError> for ApiError {
    fn from(error: HomeError) -> Self {
        let (code, hint) = match &error {
            HomeError::Missing(_) => (ExitCode::NotFound, Some("quipu init, or quipu join TICKET")),
            HomeError::Exists(_) => (ExitCode::Refused, Some("choose another directory")),
            HomeError::Damaged { .. } => (ExitCode::Storage, None),
            HomeError::Io { .. } => (ExitCode::Storage, Some("check the disk and the permissions")),
        };
        Self { code, message: error.to_string(), hint: hint.map(str::to_owned) }
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            // Whoever read our output has seen enough.
            return Self::new(ExitCode::Done, String::new());
        }
        Self::new(ExitCode::Storage, error.to_string())
    }
}
