//! A small file system of its own, to be filled.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Mounts a small file system at `disk`; none if that is not possible here.
pub(crate) fn with_small_disk(root: &Path, kilobytes: u32) -> Option<SmallDisk> {
    let disk = root.join("disk");
    std::fs::create_dir_all(&disk).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={kilobytes}k"), "tmpfs"])
        .arg(&disk)
        .stderr(Stdio::null())
        .status();
    mounted.is_ok_and(|status| status.success()).then_some(SmallDisk(disk))
}

/// Where it is. Unmounted in the end.
pub(crate) struct SmallDisk(pub(crate) PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}
