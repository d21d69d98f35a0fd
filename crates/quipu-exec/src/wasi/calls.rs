//! The calls of WASI preview 1: from the module's numbers and memory to [`Files`](super::Files) and
//! back. Each call costs fuel, so that nothing a module does is free.

use wasmtime::{Caller, Extern, Linker, Trap};

use super::abi::{Errno, FileStat, dirent};
use super::host::{Host, Stop};
use super::poll::{self, EVENT_BYTES, SUBSCRIPTION_BYTES, SUBSCRIPTIONS_MAX};
use super::time::{CLOCKS, Clocks};
use super::{Fail, Outcome};

/// The module that imports are from.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

/// Fuel of a call.
const CALL_FUEL: u64 = 100;
/// Bytes that are moved or listed for a unit of fuel.
const BYTES_PER_FUEL: u64 = 16;
/// Buffers of one call to read or write.
const BUFFERS_MAX: u32 = 1024;
/// Fuel of each entry of a directory that is listed, or passed over.
const ENTRY_FUEL: u64 = 16;

/// A module's memory during a call.
struct Guest<'m>(&'m mut [u8]);

impl Guest<'_> {
    fn range(&mut self, at: u32, length: u32) -> Outcome<&mut [u8]> {
        let start = at as usize;
        let end = start.checked_add(length as usize).ok_or(Errno::FAULT)?;
        self.0.get_mut(start..end).ok_or(Fail::Errno(Errno::FAULT))
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Outcome {
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::OVERFLOW)?;
        self.range(at, length)?.copy_from_slice(bytes);
        Ok(())
    }

    fn write_u32(&mut self, at: u32, number: u32) -> Outcome {
        self.write(at, &number.to_le_bytes())
    }

    fn write_u64(&mut self, at: u32, number: u64) -> Outcome {
        self.write(at, &number.to_le_bytes())
    }

    fn read_u32(&mut self, at: u32) -> Outcome<u32> {
        let bytes = self.range(at, 4)?;
        Ok(u32::from_le_bytes(std::array::from_fn(|n| bytes[n])))
    }

    fn text(&mut self, at: u32, length: u32) -> Outcome<String> {
        let bytes = self.range(at, length)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Errno::ILSEQ.into())
    }

    /// The buffers of a call to read or write: places and lengths.
    fn buffers(&mut self, at: u32, count: u32) -> Outcome<Vec<(u32, u32)>> {
        if count > BUFFERS_MAX {
            return Err(Errno::INVAL.into());
        }
        let one = |n: u32| {
            let at = at.checked_add(8 * n).ok_or(Errno::FAULT)?;
            let length_at = at.checked_add(4).ok_or(Errno::FAULT)?;
            Ok((self.read_u32(at)?, self.read_u32(length_at)?))
        };
        (0..count).map(one).collect()
    }
}

/// Does a call: takes its fuel, gives it the memory, and makes an error number of what it says. What
/// the call returns is how many bytes it moved.
fn call(
    caller: &mut Caller<'_, Host>,
    act: impl FnOnce(&mut Guest<'_>, &mut Host) -> Outcome<u64>,
) -> wasmtime::Result<i32> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Ok(i32::from(Errno::FAULT.0));
    };
    let (bytes, host) = memory.data_and_store_mut(&mut *caller);
    let outcome = act(&mut Guest(bytes), host);
    let moved = *outcome.as_ref().unwrap_or(&0);
    pay(caller, CALL_FUEL + moved / BYTES_PER_FUEL)?;
    match outcome {
        Ok(_) => Ok(0),
        Err(Fail::Errno(errno)) => Ok(i32::from(errno.0)),
        Err(Fail::Stop(stop)) => Err(wasmtime::Error::new(stop)),
    }
}

fn pay(caller: &mut Caller<'_, Host>, fuel: u64) -> wasmtime::Result<()> {
    let left = caller.get_fuel()?;
    let host = caller.data();
    if host.meter.is_killed() {
        return Err(wasmtime::Error::new(Stop::Killed));
    }
    host.meter.count(host.files.moved, host.meter.start().saturating_sub(left));
    match left.checked_sub(fuel) {
        Some(left) => caller.set_fuel(left),
        None => Err(wasmtime::Error::from(Trap::OutOfFuel)),
    }
}

/// Defines one call: its parameters, with `guest` and `host` for its body.
macro_rules! calls {
    ($linker:ident; $($name:ident($($arg:ident: $type:ty),*) |$guest:ident, $host:ident| $body:expr;)*) => {$(
        $linker.func_wrap(MODULE, stringify!($name), |mut caller: Caller<'_, Host>, $($arg: $type),*| {
            call(&mut caller, |$guest, $host| $body)
        })?;
    )*};
}

/// All calls of preview 1.
pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    link_process(linker)?;
    link_descriptors(linker)?;
    link_bytes(linker)?;
    link_paths(linker)?;
    link_sockets(linker)
}

fn link_process(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    calls! { linker;
        args_get(list: u32, bytes: u32) |guest, host| args(guest, &host.args, list, bytes);
        args_sizes_get(count: u32, bytes: u32) |guest, host| {
            let size: usize = host.args.iter().map(|arg| arg.len() + 1).sum();
            guest.write_u32(count, host.args.len() as u32)?;
            guest.write_u32(bytes, size as u32)?;
            Ok(0)
        };
        // There is no environment.
        environ_get(_list: u32, _bytes: u32) |_guest, _host| Ok(0);
        environ_sizes_get(count: u32, bytes: u32) |guest, _host| {
            guest.write_u32(count, 0)?;
            guest.write_u32(bytes, 0)?;
            Ok(0)
        };
        clock_res_get(clock: u32, at: u32) |guest, _host| {
            if clock >= CLOCKS { return Err(Errno::INVAL.into()); }
            guest.write_u64(at, Clocks::resolution())?;
            Ok(0)
        };
        clock_time_get(clock: u32, _precision: u64, at: u32) |guest, host| {
            if clock >= CLOCKS { return Err(Errno::INVAL.into()); }
            guest.write_u64(at, host.clocks.read(clock))?;
            Ok(0)
        };
        random_get(at: u32, length: u32) |guest, host| {
            host.random.fill(guest.range(at, length)?);
            Ok(u64::from(length))
        };
        poll_oneoff(from: u32, to: u32, count: u32, done: u32) |guest, host| {
            if count > SUBSCRIPTIONS_MAX { return Err(Errno::INVAL.into()); }
            let waits = guest.range(from, count * SUBSCRIPTION_BYTES as u32)?.to_vec();
            let events = poll::poll(host, &waits)?;
            guest.write(to, &events)?;
            guest.write_u32(done, (events.len() / EVENT_BYTES) as u32)?;
            Ok(waits.len() as u64)
        };
        sched_yield() |_guest, _host| Ok(0);
        proc_raise(_signal: u32) |_guest, _host| Err(Errno::NOTSUP.into());
    }
    linker.func_wrap(
        MODULE,
        "proc_exit",
        |_: Caller<'_, Host>, code: i32| -> wasmtime::Result<()> {
            Err(wasmtime::Error::new(Stop::Exit(code)))
        },
    )?;
    Ok(())
}

fn args(guest: &mut Guest<'_>, args: &[String], list: u32, bytes: u32) -> Outcome<u64> {
    let (mut pointer, mut at) = (list, bytes);
    for arg in args {
        guest.write_u32(pointer, at)?;
        guest.write(at, arg.as_bytes())?;
        let end = at.checked_add(arg.len() as u32).ok_or(Errno::FAULT)?;
        guest.write(end, &[0])?;
        at = end.checked_add(1).ok_or(Errno::FAULT)?;
        pointer = pointer.checked_add(4).ok_or(Errno::FAULT)?;
    }
    Ok(u64::from(at.wrapping_sub(bytes)))
}

fn link_descriptors(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    calls! { linker;
        fd_advise(fd: u32, _at: u64, _length: u64, advice: u32) |_guest, host| {
            if advice > 5 { return Err(Errno::INVAL.into()); }
            host.files.filestat(fd).map(|_| 0)
        };
        fd_allocate(fd: u32, at: u64, length: u64) |_guest, host| {
            host.files.allocate(fd, at, length).map(|()| 0)
        };
        fd_close(fd: u32) |_guest, host| host.files.close(fd).map(|()| 0);
        // What is written is kept when the step has ended well, not before.
        fd_datasync(fd: u32) |_guest, host| host.files.filestat(fd).map(|_| 0);
        fd_sync(fd: u32) |_guest, host| host.files.filestat(fd).map(|_| 0);
        fd_fdstat_get(fd: u32, at: u32) |guest, host| {
            guest.write(at, &host.files.fdstat(fd)?.to_bytes())?;
            Ok(0)
        };
        fd_fdstat_set_flags(fd: u32, flags: u32) |_guest, host| {
            let flags = u16::try_from(flags).map_err(|_| Errno::INVAL)?;
            host.files.set_flags(fd, flags).map(|()| 0)
        };
        fd_fdstat_set_rights(fd: u32, _rights: u64, _inheriting: u64) |_guest, host| {
            host.files.filestat(fd).map(|_| 0)
        };
        fd_filestat_get(fd: u32, at: u32) |guest, host| stat(guest, at, host.files.filestat(fd));
        fd_filestat_set_size(fd: u32, size: u64) |_guest, host| {
            host.files.set_size(fd, size).map(|()| 0)
        };
        // Files have no times.
        fd_filestat_set_times(fd: u32, _atim: u64, _mtim: u64, _flags: u32) |_guest, host| {
            host.files.filestat(fd).map(|_| 0)
        };
        fd_prestat_get(fd: u32, at: u32) |guest, host| {
            let name = host.files.preopened(fd)?;
            guest.write_u32(at, 0)?;
            guest.write_u32(at.checked_add(4).ok_or(Errno::FAULT)?, name.len() as u32)?;
            Ok(0)
        };
        fd_prestat_dir_name(fd: u32, at: u32, length: u32) |guest, host| {
            let name = host.files.preopened(fd)?;
            if (length as usize) < name.len() { return Err(Errno::NAMETOOLONG.into()); }
            guest.write(at, name.as_bytes())?;
            Ok(0)
        };
        fd_readdir(fd: u32, at: u32, length: u32, cookie: u64, used: u32) |guest, host| {
            list(guest, host, fd, (at, length), cookie, used)
        };
        fd_renumber(from: u32, to: u32) |_guest, host| host.files.renumber(from, to).map(|()| 0);
        fd_seek(fd: u32, by: i64, whence: u32, at: u32) |guest, host| {
            guest.write_u64(at, host.files.seek(fd, by, whence)?)?;
            Ok(0)
        };
        fd_tell(fd: u32, at: u32) |guest, host| {
            guest.write_u64(at, host.files.seek(fd, 0, 1)?)?;
            Ok(0)
        };
    }
    Ok(())
}

fn stat(guest: &mut Guest<'_>, at: u32, stat: Outcome<FileStat>) -> Outcome<u64> {
    guest.write(at, &stat?.to_bytes())?;
    Ok(0)
}

/// Lists a directory from an entry on, as much as fits; the last entry may be cut off.
fn list(
    guest: &mut Guest<'_>,
    host: &mut Host,
    fd: u32,
    (at, length): (u32, u32),
    cookie: u64,
    used: u32,
) -> Outcome<u64> {
    let entries = host.files.list(fd)?;
    let mut bytes = Vec::new();
    let skip = usize::try_from(cookie).unwrap_or(usize::MAX);
    for (number, (name, kind, inode)) in entries.iter().enumerate().skip(skip) {
        if bytes.len() >= length as usize {
            break;
        }
        bytes.extend_from_slice(&dirent(number as u64 + 1, *inode, *kind, name));
    }
    bytes.truncate(length as usize);
    guest.write(at, &bytes)?;
    guest.write_u32(used, bytes.len() as u32)?;
    Ok(bytes.len() as u64 + entries.len() as u64 * BYTES_PER_FUEL * ENTRY_FUEL)
}

fn link_bytes(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    calls! { linker;
        fd_read(fd: u32, buffers: u32, count: u32, done: u32) |guest, host| {
            read(guest, (buffers, count), done, |_, into| host.files.read(fd, into))
        };
        fd_pread(fd: u32, buffers: u32, count: u32, from: u64, done: u32) |guest, host| {
            read(guest, (buffers, count), done, |before, into| {
                let from = from.checked_add(before).ok_or(Errno::OVERFLOW)?;
                host.files.read_at(fd, into, from)
            })
        };
        fd_write(fd: u32, buffers: u32, count: u32, done: u32) |guest, host| {
            write(guest, (buffers, count), done, |_, from| host.files.write(fd, from))
        };
        fd_pwrite(fd: u32, buffers: u32, count: u32, to: u64, done: u32) |guest, host| {
            write(guest, (buffers, count), done, |before, from| {
                let to = to.checked_add(before).ok_or(Errno::OVERFLOW)?;
                host.files.write_at(fd, from, to)
            })
        };
    }
    Ok(())
}

/// Fills buffers one after the other, until one could not be filled.
fn read(
    guest: &mut Guest<'_>,
    (buffers, count): (u32, u32),
    done: u32,
    mut read: impl FnMut(u64, &mut [u8]) -> Outcome<usize>,
) -> Outcome<u64> {
    let mut sum = 0u64;
    let buffers = guest.buffers(buffers, count)?;
    if buffers.is_empty() {
        // The descriptor is looked at all the same.
        read(0, &mut [])?;
    }
    for (at, length) in buffers {
        let into = guest.range(at, length)?;
        let got = read(sum, into)?;
        sum += got as u64;
        if got < into.len() {
            break;
        }
    }
    guest.write_u32(done, u32::try_from(sum).map_err(|_| Errno::OVERFLOW)?)?;
    Ok(sum)
}

fn write(
    guest: &mut Guest<'_>,
    (buffers, count): (u32, u32),
    done: u32,
    mut write: impl FnMut(u64, &[u8]) -> Outcome<usize>,
) -> Outcome<u64> {
    let mut sum = 0u64;
    let buffers = guest.buffers(buffers, count)?;
    if buffers.is_empty() {
        write(0, &[])?;
    }
    for (at, length) in buffers {
        sum += write(sum, guest.range(at, length)?)? as u64;
    }
    guest.write_u32(done, u32::try_from(sum).map_err(|_| Errno::OVERFLOW)?)?;
    Ok(sum)
}

fn link_paths(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    calls! { linker;
        path_create_directory(fd: u32, path: u32, length: u32) |guest, host| {
            host.files.make_directory(fd, &guest.text(path, length)?).map(|()| 0)
        };
        path_filestat_get(fd: u32, _flags: u32, path: u32, length: u32, at: u32) |guest, host| {
            let path = guest.text(path, length)?;
            stat(guest, at, host.files.stat(fd, &path))
        };
        path_filestat_set_times(
            fd: u32, _flags: u32, path: u32, length: u32, _atim: u64, _mtim: u64, _fst: u32
        ) |guest, host| host.files.stat(fd, &guest.text(path, length)?).map(|_| 0);
        // There are no links of any kind.
        path_link(
            _fd: u32, _flags: u32, _path: u32, _length: u32, _to: u32, _new: u32, _new_length: u32
        ) |_guest, _host| Err(Errno::NOTSUP.into());
        path_symlink(_path: u32, _length: u32, _fd: u32, _new: u32, _new_length: u32)
            |_guest, _host| Err(Errno::NOTSUP.into());
        path_readlink(fd: u32, path: u32, length: u32, _at: u32, _room: u32, _used: u32)
            |guest, host| {
            host.files.stat(fd, &guest.text(path, length)?)?;
            Err(Errno::INVAL.into())
        };
        path_open(
            fd: u32, _lookup: u32, path: u32, length: u32, how: u32, rights: u64,
            _inheriting: u64, flags: u32, at: u32
        ) |guest, host| {
            let path = guest.text(path, length)?;
            // Before anything is opened or made: a bad pointer has no effect.
            guest.range(at, 4)?;
            let flags = u16::try_from(flags).map_err(|_| Errno::INVAL)?;
            let opened = host.files.open(fd, &path, how, rights, flags)?;
            guest.write_u32(at, opened)?;
            Ok(0)
        };
        path_remove_directory(fd: u32, path: u32, length: u32) |guest, host| {
            host.files.remove(fd, &guest.text(path, length)?, true).map(|()| 0)
        };
        path_unlink_file(fd: u32, path: u32, length: u32) |guest, host| {
            host.files.remove(fd, &guest.text(path, length)?, false).map(|()| 0)
        };
        path_rename(fd: u32, path: u32, length: u32, to_fd: u32, to: u32, to_length: u32)
            |guest, host| {
            let (path, to) = (guest.text(path, length)?, guest.text(to, to_length)?);
            host.files.rename(fd, &path, to_fd, &to).map(|()| 0)
        };
    }
    Ok(())
}

fn link_sockets(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    calls! { linker;
        sock_accept(_fd: u32, _flags: u32, _at: u32) |_guest, _host| Err(Errno::NOTSOCK.into());
        sock_recv(_fd: u32, _data: u32, _count: u32, _flags: u32, _done: u32, _out: u32)
            |_guest, _host| Err(Errno::NOTSOCK.into());
        sock_send(_fd: u32, _data: u32, _count: u32, _flags: u32, _done: u32)
            |_guest, _host| Err(Errno::NOTSOCK.into());
        sock_shutdown(_fd: u32, _how: u32) |_guest, _host| Err(Errno::NOTSOCK.into());
    }
    Ok(())
}
