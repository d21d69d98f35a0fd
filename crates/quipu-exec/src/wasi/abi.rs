//! Numbers and layouts of WASI preview 1.

/// An error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) u16);

impl Errno {
    pub(crate) const BADF: Self = Self(8);
    pub(crate) const EXIST: Self = Self(20);
    pub(crate) const FAULT: Self = Self(21);
    pub(crate) const ILSEQ: Self = Self(25);
    pub(crate) const INVAL: Self = Self(28);
    pub(crate) const ISDIR: Self = Self(31);
    pub(crate) const MFILE: Self = Self(33);
    pub(crate) const NAMETOOLONG: Self = Self(37);
    pub(crate) const NOENT: Self = Self(44);
    pub(crate) const NOTDIR: Self = Self(54);
    pub(crate) const NOTEMPTY: Self = Self(55);
    pub(crate) const NOTSOCK: Self = Self(57);
    pub(crate) const NOTSUP: Self = Self(58);
    pub(crate) const OVERFLOW: Self = Self(61);
    pub(crate) const PERM: Self = Self(63);
    pub(crate) const ROFS: Self = Self(69);
    pub(crate) const SPIPE: Self = Self(70);
    pub(crate) const XDEV: Self = Self(75);
    pub(crate) const NOTCAPABLE: Self = Self(76);
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FileType {
    Directory = 3,
    Regular = 4,
}

/// Opening: the file is made if it is not there.
pub(crate) const O_CREAT: u32 = 1;
/// Opening: it has to be a directory.
pub(crate) const O_DIRECTORY: u32 = 2;
/// Opening: it must not be there.
pub(crate) const O_EXCL: u32 = 4;
/// Opening: it is emptied.
pub(crate) const O_TRUNC: u32 = 8;

/// Descriptor flag: every write goes to the end.
pub(crate) const FDFLAGS_APPEND: u16 = 1;
/// The flags of a descriptor that have no effect here: there is nothing to wait for.
pub(crate) const FDFLAGS_WITHOUT_EFFECT: u16 = 2 | 4 | 8 | 16;

pub(crate) const RIGHTS_READ: u64 = 1 << 1;
pub(crate) const RIGHTS_SEEK: u64 = 1 << 2;
pub(crate) const RIGHTS_TELL: u64 = 1 << 5;
pub(crate) const RIGHTS_WRITE: u64 = 1 << 6;
/// All rights that preview 1 defines.
pub(crate) const RIGHTS_ALL: u64 = (1 << 30) - 1;

/// What `fd_filestat_get` and `path_filestat_get` tell. All times are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileStat {
    pub(crate) inode: u64,
    pub(crate) kind: FileType,
    pub(crate) size: u64,
}

impl FileStat {
    pub(crate) fn to_bytes(self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[8..16].copy_from_slice(&self.inode.to_le_bytes());
        bytes[16] = self.kind as u8;
        bytes[24..32].copy_from_slice(&1u64.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.size.to_le_bytes());
        bytes
    }
}

/// What `fd_fdstat_get` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FdStat {
    pub(crate) kind: FileType,
    pub(crate) flags: u16,
    pub(crate) rights: u64,
    pub(crate) inheriting: u64,
}

impl FdStat {
    pub(crate) fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[0] = self.kind as u8;
        bytes[2..4].copy_from_slice(&self.flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.rights.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.inheriting.to_le_bytes());
        bytes
    }
}

/// Bytes of an entry of a directory, before its name.
const DIRENT_BYTES: usize = 24;

/// An entry of a directory, with its name.
pub(crate) fn dirent(next: u64, inode: u64, kind: FileType, name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(DIRENT_BYTES + name.len());
    bytes.extend_from_slice(&next.to_le_bytes());
    bytes.extend_from_slice(&inode.to_le_bytes());
    // Names are bounded far below.
    bytes.extend_from_slice(&(name.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[kind as u8, 0, 0, 0]);
    bytes.extend_from_slice(name.as_bytes());
    bytes
}
