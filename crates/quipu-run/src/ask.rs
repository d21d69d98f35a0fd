//! Who answers requests about the log.

use quipu_node::api::{Api, ApiError, ExitCode, Request, Sink};
use serde_json::Value;

/// Somebody who answers requests: a machine in this process, or its daemon.
pub trait Ask: Send {
    /// Answers a request; every item of the answer goes to the sink.
    ///
    /// # Errors
    /// Why there is no (complete) answer.
    fn ask(&mut self, request: Request, sink: Sink<'_>) -> Result<(), ApiError>;

    /// All items of an answer.
    ///
    /// # Errors
    /// Why there is none.
    fn all(&mut self, request: Request) -> Result<Vec<Value>, ApiError> {
        let mut items = Vec::new();
        self.ask(request, &mut |item| {
            items.push(item);
            Ok(())
        })?;
        Ok(items)
    }

    /// The one item of an answer.
    ///
    /// # Errors
    /// Why there is none.
    fn one(&mut self, request: Request) -> Result<Value, ApiError> {
        let bug = || ApiError::new(ExitCode::Bug, "the machine gave no answer");
        self.all(request)?.into_iter().next().ok_or_else(bug)
    }
}

impl Ask for Api {
    fn ask(&mut self, request: Request, sink: Sink<'_>) -> Result<(), ApiError> {
        self.answer(request, sink)
    }
}
