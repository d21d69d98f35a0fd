//! The directory of a machine: its key, its domain, its address book, its socket.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use quipu_core::id::{DomainId, LogDigest, NodeKey};
use quipu_core::node::Met;
use serde::{Deserialize, Serialize};

use crate::artifacts::ArtifactPolicy;

/// The directory inside the user's directory.
pub const HOME_DIR: &str = ".quipu";
/// The identity in a Reticulum network.
const RETICULUM_FILE: &str = "reticulum-identity";
const KEY_FILE: &str = "node.key";
const NEXT_KEY_FILE: &str = "node.key.next";
const CONFIG_FILE: &str = "config.json";
const BOOK_FILE: &str = "peers.json";
const EARLY_FILE: &str = "early-state.json";
const POLICY_FILE: &str = "artifact-policy.json";
const ARTIFACTS_DIR: &str = "artifacts";
/// The index of artifacts: whose they are.
pub(crate) const ARTIFACT_INDEX_FILE: &str = "artifact-index";
const DOMAINS_DIR: &str = "domains";
const PORT_FILE: &str = "port.json";
const INVITATION_FILE: &str = "invitation.json";
const PUBLICATION_FILE: &str = "publication.json";
const MESH_IDENTITY_FILE: &str = "mesh.identity";
/// Bytes of an identity of Reticulum: a key for encryption, then one for signatures.
const MESH_IDENTITY_BYTES: usize = 64;
const SOCKET_FILE: &str = "control.sock";
/// Longer paths do not fit into a socket address on Linux (108 bytes with the final zero).
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// Why the directory of a machine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// There is no machine here.
    #[error("no quipu store in {0}")]
    Missing(PathBuf),
    /// There is one already.
    #[error("there is a quipu store in {0} already")]
    Exists(PathBuf),
    /// A file is not what quipu wrote.
    #[error("{path} is damaged: {detail}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The disk refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What a machine is, besides what it holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// The domain, as text.
    pub domain: String,
}

#[derive(Deserialize)]
struct Invitation {
    seed: String,
    expires_ms: u64,
}

/// Where a snapshot's state is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EarlyState {
    /// The artifact that holds the winning events.
    pub key: String,
    /// The snapshot event and what proves it, as a packed batch.
    #[serde(with = "base64")]
    pub proof: Vec<u8>,
}

/// Bytes as text in JSON.
mod base64 {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        BASE64.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}

/// A machine's directory.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> HomeError + '_ {
    move |source| HomeError::Io { path: path.to_owned(), source }
}

/// What is to be remembered of a publication that is on its way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublicationIntent {
    /// The keys of what is published.
    pub keys: Vec<String>,
    /// What its commitments stand for.
    pub openings: Vec<OpeningText>,
}

/// What opens a commitment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OpeningText {
    /// What it stands for.
    pub end: String,
    /// Its random key, 64 hexadecimal digits.
    pub nonce: String,
    /// The blinded receipt in which its commitment stands, if that is at no edge.
    #[serde(default)]
    pub receipt: Option<String>,
}

impl Home {
    /// The machine in `dir/.quipu`.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(dir: &Path) -> Result<Self, HomeError> {
        let home = Self { dir: dir.join(HOME_DIR) };
        if home.dir.join(CONFIG_FILE).exists() {
            Ok(home)
        } else {
            Err(HomeError::Missing(dir.to_owned()))
        }
    }

    /// Makes the directory of a new machine, with a key (an interrupted attempt keeps its key). It
    /// is no machine before [`Self::set_domain`].
    ///
    /// # Errors
    /// If there is a machine already, or the disk refuses.
    pub fn create(dir: &Path, key: &SigningKey) -> Result<Self, HomeError> {
        let home = Self { dir: dir.join(HOME_DIR) };
        if home.dir.join(CONFIG_FILE).exists() {
            return Err(HomeError::Exists(dir.to_owned()));
        }
        fs::create_dir_all(&home.dir).map_err(io_error(&home.dir))?;
        let path = home.dir.join(KEY_FILE);
        if path.exists() {
            // An interrupted join: its key may be a member already, so it goes on with that one.
            return Ok(home);
        }
        write_secret(&path, key_text(key).as_bytes()).map_err(io_error(&path))?;
        Ok(home)
    }

    /// Says which domain the machine belongs to. The last step of making one.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn set_domain(&self, domain: DomainId) -> Result<(), HomeError> {
        self.replace(CONFIG_FILE, &Config { domain: domain.to_string() })
    }

    /// Removes what [`Self::create`] made, after a failed join.
    pub fn discard(self) {
        drop(fs::remove_dir_all(&self.dir));
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The machine's key.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn key(&self) -> Result<SigningKey, HomeError> {
        self.key_in(KEY_FILE)
    }

    /// The secret of this machine's identity in meshes, as Reticulum keeps it in a file; nothing if there is none.
    ///
    /// # Errors
    /// If it cannot be read, or is not of that form.
    pub fn mesh_identity(&self) -> Result<Option<[u8; MESH_IDENTITY_BYTES]>, HomeError> {
        let path = self.mesh_identity_path();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&path)(error)),
        };
        let detail = format!("it does not hold {MESH_IDENTITY_BYTES} bytes");
        bytes.try_into().map(Some).map_err(|_| HomeError::Damaged { path, detail })
    }

    /// Where that secret is: programs of Reticulum can read it.
    pub fn mesh_identity_path(&self) -> PathBuf {
        self.dir.join(MESH_IDENTITY_FILE)
    }

    /// Keeps a fresh secret, unless there is one. Gives the one that is kept.
    ///
    /// # Errors
    /// If it cannot be written, or the one that is there cannot be read.
    pub fn keep_mesh_identity(
        &self,
        fresh: &[u8; MESH_IDENTITY_BYTES],
    ) -> Result<[u8; MESH_IDENTITY_BYTES], HomeError> {
        if let Some(kept) = self.mesh_identity()? {
            return Ok(kept);
        }
        let path = self.mesh_identity_path();
        let aside = self.dir.join(format!("{MESH_IDENTITY_FILE}.new"));
        let write = || {
            write_secret(&aside, fresh)?;
            fs::rename(&aside, &path)?;
            fs::File::open(&self.dir)?.sync_all()
        };
        write().map_err(io_error(&path))?;
        Ok(*fresh)
    }

    fn key_in(&self, file: &str) -> Result<SigningKey, HomeError> {
        let path = self.dir.join(file);
        let text = fs::read_to_string(&path).map_err(io_error(&path))?;
        let bytes = data_encoding::HEXLOWER.decode(text.trim_end().as_bytes()).ok();
        let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
        let detail = "it does not hold 64 hexadecimal digits".to_owned();
        let seed = bytes.ok_or(HomeError::Damaged { path, detail })?;
        Ok(SigningKey::from_bytes(&seed))
    }

    /// The key that is to take the place of the machine's: made at the first question.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn next_key(&self, fresh: &SigningKey) -> Result<SigningKey, HomeError> {
        let path = self.dir.join(NEXT_KEY_FILE);
        if !path.exists() {
            write_secret(&path, key_text(fresh).as_bytes()).map_err(io_error(&path))?;
        }
        self.key_in(NEXT_KEY_FILE)
    }

    /// From now on the next key is the machine's. The old one is gone for good.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn take_next_key(&self) -> Result<(), HomeError> {
        let (next, path) = (self.dir.join(NEXT_KEY_FILE), self.dir.join(KEY_FILE));
        fs::rename(&next, &path).map_err(io_error(&path))?;
        fs::File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(io_error(&self.dir))
    }

    /// The machine's domain.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn domain(&self) -> Result<DomainId, HomeError> {
        let path = self.dir.join(CONFIG_FILE);
        let config: Config = self.read(CONFIG_FILE)?;
        let detail = format!("{:?} is no domain id", config.domain);
        config.domain.parse().map_err(|_| HomeError::Damaged { path, detail })
    }

    /// The port that the daemon had last, so that others find it again.
    pub fn port(&self) -> Option<u16> {
        self.read(PORT_FILE).ok()
    }

    /// Remembers the daemon's port.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn set_port(&self, port: u16) -> Result<(), HomeError> {
        if self.port() == Some(port) { Ok(()) } else { self.replace(PORT_FILE, &port) }
    }

    /// The seed of the daemon's standing invitation, if it is valid for at least another day.
    pub fn invitation(&self, now_ms: u64) -> Option<[u8; 32]> {
        let kept: Invitation = self.read(INVITATION_FILE).ok()?;
        let day_ms = 86_400_000;
        let bytes = data_encoding::HEXLOWER.decode(kept.seed.as_bytes()).ok()?;
        (kept.expires_ms > now_ms + day_ms).then_some(bytes.try_into().ok()?)
    }

    /// Keeps the seed of the daemon's standing invitation.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn set_invitation(&self, seed: &[u8; 32], expires_ms: u64) -> Result<(), HomeError> {
        let seed = data_encoding::HEXLOWER.encode(seed);
        let text = serde_json::json!({ "seed": seed, "expires_ms": expires_ms }).to_string();
        let path = self.dir.join(INVITATION_FILE);
        write_secret(&path, text.as_bytes()).map_err(io_error(&path))
    }

    /// The machine's identity in a Reticulum network, as Reticulum writes it: made from these bytes if there is
    /// none yet.
    ///
    /// # Errors
    /// If the disk refuses, or the file is something else.
    pub fn reticulum_identity(&self, fresh: [u8; 64]) -> Result<[u8; 64], HomeError> {
        let path = self.dir.join(RETICULUM_FILE);
        if !path.exists() {
            write_secret(&path, &fresh).map_err(io_error(&path))?;
        }
        let bytes = fs::read(&path).map_err(io_error(&path))?;
        let detail = format!("{} bytes are no identity", bytes.len());
        bytes.try_into().map_err(|_| HomeError::Damaged { path, detail })
    }

    /// The state of a snapshot that this machine answers from while it has no log.
    pub fn early(&self) -> Option<EarlyState> {
        self.read(EARLY_FILE).ok()
    }

    /// Remembers such a state.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn set_early(&self, early: &EarlyState) -> Result<(), HomeError> {
        self.replace(EARLY_FILE, early)
    }

    /// The log is here: the state is not needed any more.
    pub fn forget_early(&self) {
        drop(fs::remove_file(self.dir.join(EARLY_FILE)));
    }

    /// Where the bytes of artifacts are.
    pub fn artifacts_dir(&self) -> PathBuf {
        self.dir.join(ARTIFACTS_DIR)
    }

    /// Which artifacts this machine fetches by itself.
    pub fn artifact_policy(&self) -> ArtifactPolicy {
        let text: Option<String> = self.read(POLICY_FILE).ok();
        text.and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// Remembers which artifacts this machine fetches by itself.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn set_artifact_policy(&self, policy: ArtifactPolicy) -> Result<(), HomeError> {
        self.replace(POLICY_FILE, &policy.to_string())
    }

    /// The address book. An unreadable one counts as empty: it is only a convenience.
    pub fn book(&self) -> Book {
        self.book_in(&self.dir)
    }

    pub(crate) fn book_in(&self, dir: &Path) -> Book {
        Self { dir: dir.to_owned() }.read(BOOK_FILE).unwrap_or_default()
    }

    /// Where the published log of a domain is.
    pub fn published_dir(&self, domain: &DomainId) -> PathBuf {
        self.dir.join(DOMAINS_DIR).join(domain.to_string())
    }

    /// Makes that directory.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn make_published_dir(&self, domain: &DomainId) -> Result<(), HomeError> {
        let (dir, parent) = (self.published_dir(domain), self.dir.join(DOMAINS_DIR));
        fs::create_dir_all(&dir).map_err(io_error(&dir))?;
        for made in [&self.dir, &parent] {
            fs::File::open(made).and_then(|dir| dir.sync_all()).map_err(io_error(made))?;
        }
        Ok(())
    }

    /// The domains whose published logs are kept here.
    pub fn published_domains(&self) -> Vec<DomainId> {
        let entries = fs::read_dir(self.dir.join(DOMAINS_DIR)).into_iter().flatten().flatten();
        let mut domains: Vec<DomainId> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        domains.sort_unstable();
        domains
    }

    /// Stores the address book of a published log.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn set_published_book(&self, domain: &DomainId, book: &Book) -> Result<(), HomeError> {
        Self { dir: self.published_dir(domain) }.replace(BOOK_FILE, book)
    }

    /// Stores the address book.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn set_book(&self, book: &Book) -> Result<(), HomeError> {
        self.replace(BOOK_FILE, book)
    }

    /// Where the daemon listens for commands: in the directory, or, if that path is too long for a
    /// socket, in the user's runtime directory under a hash of it.
    pub fn socket(&self) -> PathBuf {
        let dir = fs::canonicalize(&self.dir).unwrap_or_else(|_| self.dir.clone());
        let path = dir.join(SOCKET_FILE);
        if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            return path;
        }
        let hash = quipu_core::id::EventId::of(path.as_os_str().as_encoded_bytes());
        let name = format!("quipu-{}.sock", data_encoding::HEXLOWER.encode(&hash.0[..12]));
        std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, Into::into).join(name)
    }

    fn read<T: for<'a> Deserialize<'a>>(&self, file: &str) -> Result<T, HomeError> {
        let path = self.dir.join(file);
        let text = fs::read(&path).map_err(io_error(&path))?;
        serde_json::from_slice(&text)
            .map_err(|error| HomeError::Damaged { path, detail: error.to_string() })
    }

    /// A publication that was begun and not remembered in the log, if there is one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn publication(&self) -> Result<Option<PublicationIntent>, HomeError> {
        if !self.dir.join(PUBLICATION_FILE).exists() {
            return Ok(None);
        }
        self.read(PUBLICATION_FILE).map(Some)
    }

    /// Notes a publication that is about to begin, durably.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn set_publication(&self, intent: &PublicationIntent) -> Result<(), HomeError> {
        self.replace(PUBLICATION_FILE, intent)
    }

    /// Forgets it.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn forget_publication(&self) -> Result<(), HomeError> {
        let path = self.dir.join(PUBLICATION_FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&path)(error)),
            _ => Ok(()),
        }
    }

    /// Writes a file aside and renames it, so that it is never half there.
    fn replace<T: Serialize>(&self, file: &str, value: &T) -> Result<(), HomeError> {
        let path = self.dir.join(file);
        let aside = self.dir.join(format!("{file}.new"));
        let write = || {
            let mut out = fs::File::create(&aside)?;
            serde_json::to_writer_pretty(&mut out, value)?;
            out.write_all(b"\n")?;
            out.sync_all()?;
            fs::rename(&aside, &path)?;
            fs::File::open(&self.dir)?.sync_all()
        };
        write().map_err(io_error(&path))
    }
}

fn key_text(key: &SigningKey) -> String {
    format!("{}\n", data_encoding::HEXLOWER.encode(&key.to_bytes()))
}

fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// What is known of other machines: where they were, and where this one was level with them. All
/// of it may be lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// By node key.
    pub peers: BTreeMap<String, BookEntry>,
}

/// One machine in the address book.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookEntry {
    /// Where it was reached, the latest first.
    #[serde(default)]
    pub addrs: Vec<SocketAddr>,
    /// Digest at which both were level.
    #[serde(default)]
    pub met_digest: Option<String>,
    /// This machine's count of events then.
    #[serde(default)]
    pub met_ordinal: u64,
}

/// Addresses kept for one machine.
const ADDRS_KEPT: usize = 8;

impl Book {
    /// Notes addresses at which a peer can be reached. Answers whether they were news.
    pub fn note_addrs(&mut self, peer: &NodeKey, addrs: &[SocketAddr]) -> bool {
        let entry = self.peers.entry(peer.to_string()).or_default();
        let before = entry.addrs.clone();
        entry.addrs.retain(|addr| !addrs.contains(addr));
        entry.addrs.splice(0..0, addrs.iter().copied());
        entry.addrs.truncate(ADDRS_KEPT);
        entry.addrs != before
    }

    /// Notes where a peer and this machine were level.
    pub fn note_met(&mut self, peer: &NodeKey, met: &Met) {
        let entry = self.peers.entry(peer.to_string()).or_default();
        entry.met_digest = Some(met.digest.to_string());
        entry.met_ordinal = met.ordinal;
    }

    /// All peers with known addresses.
    pub fn reachable(&self) -> Vec<(NodeKey, Vec<SocketAddr>)> {
        let known = self.peers.iter().filter(|(_, entry)| !entry.addrs.is_empty());
        known.filter_map(|(key, entry)| Some((key.parse().ok()?, entry.addrs.clone()))).collect()
    }

    /// Where this machine was level with others.
    pub fn met(&self) -> Vec<(NodeKey, Met)> {
        let met = |(key, entry): (&String, &BookEntry)| {
            let digest: LogDigest = entry.met_digest.as_ref()?.parse().ok()?;
            Some((key.parse().ok()?, Met { digest, ordinal: entry.met_ordinal }))
        };
        self.peers.iter().filter_map(met).collect()
    }
}
