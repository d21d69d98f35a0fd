//! What went wrong, as people are told.

use quipu_exec::receipt::Difference;
use quipu_exec::run::RunError;
use quipu_exec::verify::VerifyError;
use quipu_node::api::{ApiError, ExitCode};
use serde_json::{Value, json};

pub(crate) fn run_error(error: &RunError) -> ApiError {
    let code = match error {
        RunError::ProgramBytes { .. } => ExitCode::NotFound,
        RunError::InputsMissing(_) | RunError::InputsUnknown(_) => ExitCode::Usage,
        RunError::Io { .. } => ExitCode::Storage,
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
