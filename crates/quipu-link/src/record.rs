//! Frames written down as they are before the link encrypts them: for people who look for a fault, and
//! for tests that ask what has left a machine.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::BASE64;
use quipu_core::id::NodeKey;
use quipu_core::node::LinkId;

/// A file that gets a line of JSON for each frame: `link`, `peer` (its key), `way` (`in` or `out`) and
/// `bytes` (base64). It holds what the peers told each other, in the clear, and it grows without a limit.
#[derive(Debug, Clone)]
pub struct FrameRecord {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    /// Nothing after an error, which is reported once.
    file: Option<File>,
    peers: BTreeMap<LinkId, NodeKey>,
}

impl FrameRecord {
    /// Appends to this file, which is made if need be.
    ///
    /// # Errors
    /// If it cannot be opened for writing.
    pub fn append_to(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let inner = Inner { file: Some(file), peers: BTreeMap::new() };
        Ok(Self { inner: Arc::new(Mutex::new(inner)) })
    }

    pub(crate) fn up(&self, link: LinkId, peer: NodeKey) {
        self.with(|inner| {
            inner.peers.insert(link, peer);
        });
    }

    pub(crate) fn down(&self, link: LinkId) {
        self.with(|inner| {
            inner.peers.remove(&link);
        });
    }

    pub(crate) fn frame(&self, link: LinkId, way: &str, bytes: &[u8]) {
        self.with(|inner| {
            let peer = inner.peers.get(&link).map(ToString::to_string).unwrap_or_default();
            let bytes = BASE64.encode(bytes);
            let line = format!(
                "{{\"link\":{link},\"peer\":\"{peer}\",\"way\":\"{way}\",\"bytes\":\"{bytes}\"}}\n"
            );
            let Some(file) = &mut inner.file else { return };
            if let Err(error) = file.write_all(line.as_bytes()) {
                tracing::warn!(%error, "frames are not written down any more");
                inner.file = None;
            }
        });
    }

    fn with(&self, action: impl FnOnce(&mut Inner)) {
        action(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
