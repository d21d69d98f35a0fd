//! Replaces files by new ones so that a crash at any moment can be mended by doing it again.
//!
//! New files are prepared in `rebuild/`. A marker file then lists the old ones; while it is there,
//! they are moved to `damaged/`. When all are gone the marker is renamed; while it has its second
//! name, the new files are moved to their places.

use crate::block::{BlockInfo, file_names};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::store::REBUILD_DIR;

/// Where damaged files go.
const DAMAGED_DIR: &str = "damaged";
/// The marker's names. They contain no dash, unlike the files that are prepared.
const CLEAR_MARKER: &str = "rebuild/clear";
const PLACE_MARKER: &str = "rebuild/place";

/// Moves that are planned.
#[derive(Debug, Default)]
pub(super) struct Swap {
    away: Vec<String>,
    prepared: bool,
}

fn io(action: &'static str, path: &str) -> impl FnOnce(std::io::Error) -> StoreError {
    move |error| StoreError::io(action, path, error)
}

fn sync<D: Disk>(disk: &D, dirs: &[&str]) -> Result<(), StoreError> {
    dirs.iter().try_for_each(|dir| disk.sync_dir(dir).map_err(io("sync", dir)))
}

const ALL_DIRS: [&str; 5] = ["internal", "published", REBUILD_DIR, DAMAGED_DIR, ""];

impl Swap {
    /// Ends what an interrupted rebuild began.
    pub(super) fn resume<D: Disk>(disk: &D) -> Result<Self, StoreError> {
        for dir in ALL_DIRS.iter().filter(|dir| !dir.is_empty()) {
            disk.create_dir(dir).map_err(io("create", dir))?;
        }
        let names = disk.list(REBUILD_DIR).map_err(io("list", REBUILD_DIR))?;
        let has = |marker: &str| names.iter().any(|name| marker.ends_with(&format!("/{name}")));
        if has(PLACE_MARKER) {
            place(disk)?;
        } else if has(CLEAR_MARKER) {
            let list = disk.read(CLEAR_MARKER).map_err(io("read", CLEAR_MARKER))?;
            let list = String::from_utf8_lossy(&list).into_owned();
            clear(disk, list.lines())?;
            place(disk)?;
        } else {
            for name in names {
                let path = format!("{REBUILD_DIR}/{name}");
                disk.remove(&path).map_err(io("remove", &path))?;
            }
        }
        Ok(Self::default())
    }

    /// Plans to move a file out of the way.
    pub(super) fn move_away(&mut self, path: String) {
        self.away.push(path);
    }

    /// Writes a block that will take its place later.
    pub(super) fn prepare<D: Disk>(
        &mut self,
        disk: &D,
        info: &BlockInfo,
        block: &[u8],
        payload: &[u8],
    ) -> Result<(), StoreError> {
        let (block_path, payload_path) = file_names(info);
        for (path, bytes) in [(payload_path, payload), (block_path, block)] {
            let aside = format!("{REBUILD_DIR}/{}", path.replace('/', "-"));
            disk.write_new(&aside, bytes).map_err(io("write", &aside))?;
        }
        self.prepared = true;
        Ok(())
    }

    /// Carries the plan out.
    pub(super) fn finish<D: Disk>(self, disk: &D) -> Result<(), StoreError> {
        if self.away.is_empty() && !self.prepared {
            return Ok(());
        }
        // The marker must not appear before the files are there, nor half of it.
        let aside = format!("{CLEAR_MARKER}.tmp");
        disk.write_new(&aside, self.away.join("\n").as_bytes()).map_err(io("write", &aside))?;
        sync(disk, &[REBUILD_DIR, ""])?;
        disk.rename(&aside, CLEAR_MARKER).map_err(io("rename", &aside))?;
        sync(disk, &[REBUILD_DIR])?;
        clear(disk, self.away.iter().map(String::as_str))?;
        place(disk)
    }
}

/// Moves old files to a name of their own in `damaged/`.
fn clear<'a, D: Disk>(disk: &D, paths: impl Iterator<Item = &'a str>) -> Result<(), StoreError> {
    for path in paths.filter(|path| disk.size(path).is_ok()) {
        let flat = format!("{DAMAGED_DIR}/{}", path.replace('/', "-"));
        let is_free = |name: &String| disk.size(name).is_err();
        let numbered = (1u32..).map(|n| format!("{flat}.{n}"));
        if let Some(name) = std::iter::once(flat.clone()).chain(numbered).find(is_free) {
            disk.rename(path, &name).map_err(io("rename", path))?;
        }
    }
    sync(disk, &ALL_DIRS)?;
    disk.rename(CLEAR_MARKER, PLACE_MARKER).map_err(io("rename", CLEAR_MARKER))?;
    sync(disk, &[REBUILD_DIR])
}

/// Moves new files to their places.
fn place<D: Disk>(disk: &D) -> Result<(), StoreError> {
    for name in disk.list(REBUILD_DIR).map_err(io("list", REBUILD_DIR))? {
        let from = format!("{REBUILD_DIR}/{name}");
        if let Some((dir, file)) = name.split_once('-') {
            disk.rename(&from, &format!("{dir}/{file}")).map_err(io("rename", &from))?;
        }
    }
    sync(disk, &ALL_DIRS)?;
    disk.remove(PLACE_MARKER).map_err(io("remove", PLACE_MARKER))?;
    sync(disk, &[REBUILD_DIR])
}
