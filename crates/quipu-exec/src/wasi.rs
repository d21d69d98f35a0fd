//! The world that a module sees: WASI preview 1, all of it virtual.
//!
//! There is nothing behind it but the inputs of the step (`/in`, read only, and standard input), what
//! it makes (`/out`, standard output) and its step key, from which clocks and randomness follow. Every
//! answer is a function of these and of the calls before. Where the host fails (a disk that is full,
//! an input that is damaged) the step is stopped, so that a module never sees an answer that another
//! machine would not have given.

mod abi;
mod calls;
mod files;
mod host;
mod poll;
mod time;

pub(crate) use calls::{MODULE, link};
pub(crate) use files::{Files, Opener};
pub(crate) use host::{Host, Stop};

/// What a call answers instead of success.
#[derive(Debug)]
pub(crate) enum Fail {
    /// The module is told.
    Errno(abi::Errno),
    /// The step ends.
    Stop(Stop),
}

impl From<abi::Errno> for Fail {
    fn from(errno: abi::Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Stop> for Fail {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

type Outcome<T = ()> = Result<T, Fail>;
