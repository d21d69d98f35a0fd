//! The inputs of a run: what the caller gives, and what the snapshot answers.

use std::collections::BTreeMap;
use std::io;

use quipu_core::id::ArtifactId;

use super::RunError;
use crate::artifacts::Artifacts;
use crate::limits::OUTPUT_BYTES_DEFAULT;
use crate::operators::{Snapshot, SnapshotError};
use crate::program::Program;
use crate::spool::Spool;
use crate::step::Bounded;

/// Asks the snapshot for all that was not given, and keeps the answers. The result is what a run
/// takes.
pub fn resolve(
    program: &Program,
    given: &BTreeMap<String, ArtifactId>,
    snapshot: &dyn Snapshot,
    artifacts: &dyn Artifacts,
) -> Result<BTreeMap<String, ArtifactId>, RunError> {
    let names = program.run_inputs();
    let unknown: Vec<String> =
        given.keys().filter(|name| names.binary_search(name).is_err()).cloned().collect();
    if !unknown.is_empty() {
        return Err(RunError::InputsUnknown(unknown));
    }
    let queries = program.queries();
    let missing: Vec<String> = names
        .iter()
        .filter(|name| !given.contains_key(*name) && !queries.contains_key(*name))
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Err(RunError::InputsMissing(missing));
    }
    let mut inputs = given.clone();
    for (name, query) in queries {
        if inputs.contains_key(&name) {
            continue;
        }
        let refused = |error| RunError::Query { name: name.clone(), error };
        let spool = Spool::new(artifacts.work_dir());
        let mut out = Bounded { spool, max: OUTPUT_BYTES_DEFAULT, over: false };
        let answered = snapshot.answer(query, &mut out);
        if out.over {
            let what = format!("the answer has more than {OUTPUT_BYTES_DEFAULT} bytes");
            return Err(refused(SnapshotError::Refused(what)));
        }
        answered.map_err(refused)?;
        let io = |error: io::Error| refused(SnapshotError::Io(error));
        let key = out.spool.finish().and_then(|made| artifacts.put(made)).map_err(io)?;
        inputs.insert(name, key);
    }
    Ok(inputs)
}

/// Whether these are all inputs of the run, and no others.
pub(super) fn check_inputs(
    program: &Program,
    inputs: &BTreeMap<String, ArtifactId>,
) -> Result<(), RunError> {
    let names = program.run_inputs();
    let unknown: Vec<String> =
        inputs.keys().filter(|name| names.binary_search(name).is_err()).cloned().collect();
    if !unknown.is_empty() {
        return Err(RunError::InputsUnknown(unknown));
    }
    let missing: Vec<String> =
        names.into_iter().filter(|name| !inputs.contains_key(name)).collect();
    if missing.is_empty() { Ok(()) } else { Err(RunError::InputsMissing(missing)) }
}
