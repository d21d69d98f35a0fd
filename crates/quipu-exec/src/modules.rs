//! Compiled modules: in memory, and in files beside.
//!
//! wasmtime trusts what it is told to be compiled code: it runs it. So a file is used only if its
//! keyed checksum fits, under a key that the caller keeps to itself; everything else (cut off, damaged,
//! made by somebody else or by another version) is thrown away and compiled again.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quipu_core::id::ArtifactId;
use wasmtime::{Engine, Module};

/// Compiled modules that are kept in memory.
const IN_MEMORY_MAX: usize = 64;
/// Bytes of the checksum at the end of a file.
const CHECKSUM_BYTES: usize = 32;
/// Bytes of a file that is read: compiled code is larger than the module, by a bounded factor.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Where compiled modules are kept in files, and what proves that they are ours.
#[derive(Clone)]
pub struct CacheDir {
    /// The directory. It is made if it is not there.
    pub dir: PathBuf,
    /// A secret of this machine.
    pub key: [u8; 32],
}

/// The compiled modules of one engine.
pub(crate) struct Modules {
    dir: Option<CacheDir>,
    /// Of the engine: version, processor, settings.
    engine: [u8; 32],
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    modules: BTreeMap<ArtifactId, (u64, Module)>,
    /// Counts uses, to find the module that was not used for the longest time.
    uses: u64,
    compiled: u64,
}

/// A hasher that hands what is hashed to BLAKE3: the standard one has 64 bits only.
#[derive(Default)]
struct Digest(blake3::Hasher);

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    fn finish(&self) -> u64 {
        let digest = self.0.finalize();
        u64::from_le_bytes(std::array::from_fn(|at| digest.as_bytes()[at]))
    }
}

impl Modules {
    pub(crate) fn new(engine: &Engine, dir: Option<CacheDir>) -> Self {
        let mut digest = Digest::default();
        engine.precompile_compatibility_hash().hash(&mut digest);
        let engine = *digest.0.finalize().as_bytes();
        Self { dir, engine, kept: Mutex::new(Kept::default()) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A map of modules is whole between any two statements that change it.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often a module was compiled.
    pub(crate) fn compiled(&self) -> u64 {
        self.kept().compiled
    }

    /// A compiled module. `bytes` reads the module, if it has to be compiled.
    pub(crate) fn load<E: From<wasmtime::Error>>(
        &self,
        engine: &Engine,
        key: ArtifactId,
        bytes: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Module, E> {
        {
            let mut kept = self.kept();
            kept.uses += 1;
            let now = kept.uses;
            if let Some((used, module)) = kept.modules.get_mut(&key) {
                *used = now;
                return Ok(module.clone());
            }
        }
        let module = match self.read(engine, key) {
            Some(module) => module,
            None => {
                let module = Module::from_binary(engine, &bytes()?)?;
                self.kept().compiled += 1;
                // Without the file, the next process compiles again: no reason to fail.
                let _ = self.write(key, &module);
                module
            }
        };
        self.keep(key, module.clone());
        Ok(module)
    }

    fn keep(&self, key: ArtifactId, module: Module) {
        let mut kept = self.kept();
        let now = kept.uses;
        kept.modules.insert(key, (now, module));
        if kept.modules.len() > IN_MEMORY_MAX {
            let oldest =
                kept.modules.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                kept.modules.remove(&oldest);
            }
        }
    }

    /// The file of a module: named by module and engine.
    fn path(&self, dir: &Path, key: ArtifactId) -> PathBuf {
        let mut hasher = blake3::Hasher::new_derive_key("quipu compiled module v1");
        hasher.update(key.as_bytes()).update(&self.engine);
        dir.join(hasher.finalize().to_hex().as_str())
    }

    /// Over the name too, so that no file passes for another module's.
    fn checksum(&self, cache: &CacheDir, key: ArtifactId, code: &[u8]) -> blake3::Hash {
        let secret = blake3::derive_key("quipu compiled module checksum v1", &cache.key);
        let mut hasher = blake3::Hasher::new_keyed(&secret);
        hasher.update(key.as_bytes()).update(&self.engine).update(code);
        hasher.finalize()
    }

    fn read(&self, engine: &Engine, key: ArtifactId) -> Option<Module> {
        let cache = self.dir.as_ref()?;
        let path = self.path(&cache.dir, key);
        if fs::metadata(&path).ok()?.len() > FILE_BYTES_MAX {
            return None;
        }
        let mut bytes = fs::read(&path).ok()?;
        let code = bytes.len().checked_sub(CHECKSUM_BYTES)?;
        let given: [u8; CHECKSUM_BYTES] = bytes[code..].try_into().ok()?;
        bytes.truncate(code);
        if self.checksum(cache, key, &bytes) != given {
            // Written anew below; if that fails, it is found damaged again.
            let _ = fs::remove_file(&path);
            return None;
        }
        deserialize(engine, &bytes)
    }

    /// Written aside and renamed, so that nobody reads a part of it.
    fn write(&self, key: ArtifactId, module: &Module) -> std::io::Result<()> {
        let Some(cache) = &self.dir else { return Ok(()) };
        let code = module.serialize().map_err(std::io::Error::other)?;
        fs::create_dir_all(&cache.dir)?;
        let mut file = tempfile::NamedTempFile::new_in(&cache.dir)?;
        file.write_all(&code)?;
        file.write_all(self.checksum(cache, key, &code).as_bytes())?;
        file.persist(self.path(&cache.dir, key)).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Takes compiled code over.
#[expect(unsafe_code, reason = "code of our own making, proven by a checksum under a secret key")]
fn deserialize(engine: &Engine, code: &[u8]) -> Option<Module> {
    // SAFETY: the bytes were made by `Module::serialize` of an engine with the same compatibility hash,
    // by a process that has this machine's secret: the caller has verified a keyed checksum over these
    // very bytes in memory, so nothing can have changed them since.
    unsafe { Module::deserialize(engine, code) }.ok()
}
