//! Bytes in and out.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use quipu_artifact::ArtifactStore;
use quipu_core::id::ArtifactId;
use quipu_node::api::{ApiError, ExitCode, Request, artifact_error};
use quipu_node::home::Home;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::client::Client;
use crate::output::{self, plain};
use crate::start;

pub(crate) fn store(home: &Home) -> Result<ArtifactStore, ApiError> {
    ArtifactStore::open(&home.artifacts_dir()).map_err(|error| artifact_error(&error))
}

/// An error with the name of the file that it is about.
fn about(name: &str, error: ApiError) -> ApiError {
    match error.code {
        // No error: nobody reads on.
        ExitCode::Done => error,
        code => ApiError { code, message: format!("{name}: {}", error.message), hint: error.hint },
    }
}

pub(crate) fn put(
    global: &Global,
    files: &[PathBuf],
    type_tag: Option<&str>,
) -> Result<ExitCode, ApiError> {
    let home = start::find_home(global)?;
    let store = store(&home)?;
    // The bytes are copied, hashed and synced here; the machine only moves them to their place.
    let mut client = Client::open(&home)?;
    for path in files {
        let row = put_one(global, &mut client, &store, path, type_tag)?;
        if global.json {
            output::json(&row)?;
        } else {
            output::line(&format!("{}  {}", plain(&row["key"]), path.display()))?;
        }
        if row["conflict"] == true {
            output::note(global.quiet, "note: claims about it disagree: quipu conflicts");
        }
    }
    Ok(ExitCode::Done)
}

/// Puts one file, and gives what is known of the artifact then.
pub(crate) fn put_one(
    global: &Global,
    client: &mut Client,
    store: &ArtifactStore,
    path: &Path,
    type_tag: Option<&str>,
) -> Result<Value, ApiError> {
    let from = super::simple::open(path)?;
    let length = std::fs::metadata(path).ok().filter(|meta| meta.is_file()).map(|meta| meta.len());
    let bar = output::bytes_progress(global.quiet, length, &path.display().to_string());
    let imported = store
        .import(from, &mut |bytes| bar.set_position(bytes))
        .map_err(|error| about(&path.display().to_string(), artifact_error(&error)))?;
    bar.finish_and_clear();
    let request = Request::Put {
        import: imported.name.clone(),
        key: imported.key.to_string(),
        size: imported.size,
        type_tag: type_tag.map(str::to_owned),
    };
    let result = client.one(request);
    if result.is_err() {
        store.discard(imported);
    }
    result
}

pub(crate) fn get(
    global: &Global,
    key: String,
    output: Option<PathBuf>,
) -> Result<ExitCode, ApiError> {
    let home = start::find_home(global)?;
    let found = Client::about(global)?.one(Request::Locate { key })?;
    let key = plain(&found["key"]);
    let found = if found["have"] == true {
        found
    } else {
        output::note(global.quiet, &format!("{key} is not here: asking peers"));
        let client = Client::open_with(&home, true)?;
        client.of(global.of.clone()).one(Request::Fetch { key: key.clone() })?
    };
    let key: ArtifactId =
        key.parse().map_err(|error| ApiError::new(ExitCode::Bug, format!("{error}")))?;
    let store = store(&home)?;
    let length = found["size"].as_u64();
    let quiet = global.quiet || (output.is_none() && io::stdout().is_terminal());
    let bar = output::bytes_progress(quiet, length, "bytes");
    let Some(path) = output.filter(|path| path.as_os_str() != "-") else {
        copy(&store, &key, &mut io::stdout().lock(), &bar, "standard output")?;
        return Ok(ExitCode::Done);
    };
    let size = write_file(&store, &key, &path, &bar)?;
    let mut row = found;
    row["size"] = size.into();
    row["have"] = true.into();
    row["file"] = json!(path);
    if global.json {
        output::json(&row)?;
    } else {
        output::note(global.quiet, &format!("{size} bytes in {}", path.display()));
    }
    Ok(ExitCode::Done)
}

/// Writes aside and renames: a file with that name is whole. What is there and no file, such as a
/// pipe, is written to as it is.
fn write_file(
    store: &ArtifactStore,
    key: &ArtifactId,
    path: &Path,
    bar: &ProgressBar,
) -> Result<u64, ApiError> {
    let name = path.display().to_string();
    let storage = |error: io::Error| ApiError::new(ExitCode::Storage, format!("{name}: {error}"));
    if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        let mut out = File::options().write(true).open(path).map_err(storage)?;
        return copy(store, key, &mut out, bar, &name);
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.part", std::process::id()));
    let aside = PathBuf::from(aside);
    let result = (|| {
        let file = File::create_new(&aside).map_err(storage)?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let size = copy(store, key, &mut out, bar, &name)?;
        let file = out.into_inner().map_err(|error| storage(error.into_error()))?;
        file.sync_all().map_err(storage)?;
        std::fs::rename(&aside, path).map_err(storage)?;
        Ok(size)
    })();
    if result.is_err() {
        drop(std::fs::remove_file(&aside));
    }
    result
}

fn copy(
    store: &ArtifactStore,
    key: &ArtifactId,
    out: &mut dyn Write,
    bar: &ProgressBar,
    name: &str,
) -> Result<u64, ApiError> {
    let copied = store.copy_to(key, out, &mut |bytes| bar.set_position(bytes));
    let size = copied.map_err(|error| about(name, artifact_error(&error)))?;
    out.flush().map_err(|error| ApiError::new(ExitCode::Storage, format!("{name}: {error}")))?;
    bar.finish_and_clear();
    Ok(size)
}
