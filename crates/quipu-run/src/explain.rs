//! What went wrong, as people are told.

use quipu_exec::StepError;
use quipu_exec::receipt::Difference;
use quipu_exec::run::RunError;
use quipu_exec::verify::VerifyError;
use quipu_node::api::{ApiError, ExitCode};
use serde_json::{Value, json};

pub(crate) fn run_error(error: &RunError) -> ApiError {
    let code = match error {
        RunError::ProgramBytes { .. } | RunError::Step { error: StepError::Missing { .. }, .. } => {
            ExitCode::NotFound
        }
        RunError::InputsMissing(_) | RunError::InputsUnknown(_) => ExitCode::Usage,
        RunError::Io { .. } | RunError::Step { error: StepError::Io { .. }, .. } => {
            ExitCode::Storage
        }
        RunError::Diverged(_) | RunError::Stopped => ExitCode::Problem,
        RunError::Program { .. } | RunError::Query { .. } | RunError::Step { .. } => {
            ExitCode::Refused
        }
    };
    ApiError::new(code, error.to_string()).hint(error.hint())
}

pub(crate) fn verify_error(error: &VerifyError) -> ApiError {
    match error {
        VerifyError::Run(error) => run_error(error),
        VerifyError::Profile(_) | VerifyError::Receipt(_) => ApiError::refused(error.to_string()),
    }
}

pub(crate) fn difference_json(difference: &Difference) -> Value {
    let kept = |kept: &Option<quipu_exec::receipt::Kept>| {
        kept.map(|kept| json!({ "key": kept.key.to_string(), "size": kept.size }))
    };
    json!({
        "step": difference.step,
        "output": difference.output,
        "recorded": kept(&difference.a),
        "found": kept(&difference.b),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine says for good that a step fails there only if it would fail again.
    #[test]
    fn a_full_disk_is_no_fault_of_the_program() {
        let of = |error| run_error(&RunError::Step { step: "first".to_owned(), error }).code;
        let what = || "its output".to_owned();
        let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(of(StepError::Io { what: what(), error }), ExitCode::Storage);
        let key = quipu_core::id::ArtifactId::default();
        assert_eq!(of(StepError::Missing { what: what(), key }), ExitCode::NotFound);
        assert_eq!(of(StepError::OutputMissing("x".to_owned())), ExitCode::Refused);
    }
}
