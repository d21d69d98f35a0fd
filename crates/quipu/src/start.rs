//! Finding and starting machines.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use quipu_core::event::Log;
use quipu_core::id::DomainId;
use quipu_node::Driver;
use quipu_node::api::{ApiError, ExitCode};
use quipu_node::home::{HOME_DIR, Home};
use quipu_node::service::{Mailbox, Network, Offline, Peers, Service, SystemClock};
use quipu_store::{RealDisk, StoreOptions};

use crate::cli::Global;

/// The driver as production runs it.
pub(crate) type RealDriver = Driver<RealDisk, SystemClock, Box<dyn Network>>;

pub(crate) fn logging(verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, _) => "debug",
    };
    let default =
        format!("error,quipu={level},quipu_node={level},quipu_net={level},quipu_radio={level}");
    let filter = tracing_subscriber::EnvFilter::try_from_env("QUIPU_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

pub(crate) fn random_bytes() -> Result<[u8; 32], ApiError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| ApiError::new(ExitCode::Storage, format!("no randomness: {error}")))?;
    Ok(bytes)
}

/// The directory of an existing machine.
pub(crate) fn find_home(global: &Global) -> Result<Home, ApiError> {
    if let Some(dir) = &global.dir {
        return Ok(Home::open(dir)?);
    }
    let here = std::env::current_dir()?;
    let nearest = here.ancestors().find(|dir| Home::open(dir).is_ok());
    match nearest.map(Path::to_owned).or_else(data_dir) {
        Some(dir) => Home::open(&dir).or_else(|_| Ok(Home::open(&here)?)),
        None => Ok(Home::open(&here)?),
    }
}

fn data_dir() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share"));
    Some(base.or_else(home)?.join("quipu"))
}

/// The directory for a new machine.
pub(crate) fn new_dir(global: &Global, target: Option<PathBuf>) -> Result<PathBuf, ApiError> {
    match target.or_else(|| global.dir.clone()) {
        Some(dir) => Ok(dir),
        None => Ok(std::env::current_dir()?),
    }
}

/// The store of a machine.
pub(crate) fn disk(home: &Home) -> Result<Arc<RealDisk>, ApiError> {
    disk_at(home.dir())
}

/// The disk at a directory.
pub(crate) fn disk_at(path: &Path) -> Result<Arc<RealDisk>, ApiError> {
    RealDisk::new(path).map(Arc::new).map_err(|error| {
        ApiError::new(ExitCode::Storage, format!("{}: {error}", path.display()))
            .hint("check the disk and the permissions")
    })
}

/// Opens a machine's driver.
pub(crate) fn driver(
    home: &Home,
    domain: DomainId,
    key: SigningKey,
    network: Box<dyn Network>,
) -> Result<RealDriver, ApiError> {
    let options = StoreOptions::default();
    let entropy = random_bytes()?;
    let disk = disk(home)?;
    let (driver, recovery) =
        Driver::open(disk, (domain, Log::Internal), key, entropy, SystemClock, network, options)?;
    for (file, bytes) in &recovery.truncated {
        tracing::warn!(file, bytes, "cut off an interrupted write: it was never acknowledged");
    }
    Ok(driver)
}

/// How often a locked store is tried again.
const LOCK_TRIES: u32 = 50;
/// Time between two tries.
const LOCK_WAIT: Duration = Duration::from_millis(100);

/// Tries to open a machine for as long as another command may need that has its store.
pub(crate) fn patiently<T>(mut open: impl FnMut() -> Result<T, ApiError>) -> Result<T, ApiError> {
    let mut tries = 0;
    loop {
        match open() {
            Err(error) if error.message.contains("in use by another") && tries < LOCK_TRIES => {
                tries += 1;
                std::thread::sleep(LOCK_WAIT);
            }
            result => return result,
        }
    }
}

/// Starts a machine without network, for one command.
pub(crate) fn offline(home: &Home) -> Result<Service, ApiError> {
    let mailbox = Mailbox::default();
    let driver = driver(home, home.domain()?, home.key()?, Box::new(Offline))?;
    Ok(Service::start(home.clone(), driver, mailbox, Peers::None))
}

/// Whether a directory already has a machine.
pub(crate) fn is_home(dir: &Path) -> bool {
    dir.join(HOME_DIR).join("config.json").exists()
}
