//! Keys of steps and runs: what was asked for, hashed. Equal keys mean equal results.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use quipu_core::value::{self, Value};

macro_rules! key_type {
    ($(#[$doc:meta])* $name:ident, $context:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Hashes what is asked for.
            pub(crate) fn of(what: &Value) -> Self {
                let mut bytes = Vec::new();
                value::encode(what, &mut bytes);
                Self(blake3::derive_key($context, &bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = KeyError;
            fn from_str(text: &str) -> Result<Self, KeyError> {
                let digits = HEXLOWER.decode(text.as_bytes()).ok();
                let key = digits.and_then(|digits| digits.try_into().ok());
                key.map(Self).ok_or(KeyError { what: stringify!($name) })
            }
        }
    };
}

/// Text that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {what}: it has 64 hexadecimal digits in lower case")]
pub struct KeyError {
    what: &'static str,
}

key_type!(
    /// A step with all that decides its outputs: profile, module or operator, arguments, inputs,
    /// names of outputs, limits. Its id and its program are no part of it, so that equal work in
    /// two programs is done once.
    StepKey, "quipu step key v1"
);
key_type!(
    /// A run: profile, program and inputs.
    RunKey, "quipu run key v1"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let run = RunKey::of(&Value::Null);
        assert_eq!(run.to_string().parse(), Ok(run));
        assert_ne!(run.0, StepKey::of(&Value::Null).0, "contexts differ");
        assert!(run.to_string().to_uppercase().parse::<RunKey>().is_err());
        assert!("00".parse::<StepKey>().is_err());
    }
}
