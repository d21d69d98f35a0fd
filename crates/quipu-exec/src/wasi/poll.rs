//! `poll_oneoff`: waiting, which takes no time here.

use super::abi::Errno;
use super::host::Host;
use super::time::CLOCKS;
use super::{Fail, Outcome};

/// Bytes of a subscription and of an event.
pub(super) const SUBSCRIPTION_BYTES: usize = 48;
pub(super) const EVENT_BYTES: usize = 32;
/// Subscriptions of one call.
pub(super) const SUBSCRIPTIONS_MAX: u32 = 4096;

/// The timeout is a time, not a length.
const CLOCK_ABSTIME: u16 = 1;

/// What somebody waits for.
enum Wait {
    Clock { clock: u32, timeout: u64, absolute: bool },
    File,
}

/// Answers: all files are ready at once; if there are none, the clock that is due first, and time has
/// passed until then.
pub(super) fn poll(host: &mut Host, subscriptions: &[u8]) -> Outcome<Vec<u8>> {
    let (items, _) = subscriptions.as_chunks::<SUBSCRIPTION_BYTES>();
    if items.is_empty() {
        return Err(Errno::INVAL.into());
    }
    let mut files = Vec::new();
    let mut first: Option<(u64, &[u8; SUBSCRIPTION_BYTES], Wait)> = None;
    for item in items {
        match read(item)? {
            Wait::File => files.extend_from_slice(&event(host, item)),
            Wait::Clock { clock, timeout, absolute } => {
                let due = if absolute {
                    let now = host.clocks.read(clock);
                    timeout.saturating_sub(now)
                } else {
                    timeout
                };
                if first.as_ref().is_none_or(|(earliest, ..)| due < *earliest) {
                    first = Some((due, item, Wait::Clock { clock, timeout, absolute }));
                }
            }
        }
    }
    if !files.is_empty() {
        return Ok(files);
    }
    let Some((_, item, Wait::Clock { clock, timeout, absolute })) = first else {
        return Err(Errno::INVAL.into());
    };
    if absolute {
        host.clocks.sleep_until(clock, timeout);
    } else {
        host.clocks.sleep(timeout);
    }
    Ok(event(host, item).to_vec())
}

fn read(item: &[u8; SUBSCRIPTION_BYTES]) -> Result<Wait, Fail> {
    let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| item[at + n]));
    match item[8] {
        0 => {
            let clock = u64_at(16) as u32;
            if clock >= CLOCKS {
                return Err(Errno::INVAL.into());
            }
            let flags = u16::from_le_bytes([item[40], item[41]]);
            Ok(Wait::Clock { clock, timeout: u64_at(24), absolute: flags & CLOCK_ABSTIME != 0 })
        }
        1 | 2 => Ok(Wait::File),
        _ => Err(Errno::INVAL.into()),
    }
}

fn event(host: &mut Host, item: &[u8; SUBSCRIPTION_BYTES]) -> [u8; EVENT_BYTES] {
    let mut event = [0; EVENT_BYTES];
    event[..8].copy_from_slice(&item[..8]);
    event[10] = item[8];
    if item[8] != 0 {
        let fd = u32::from_le_bytes([item[16], item[17], item[18], item[19]]);
        match host.files.filestat(fd) {
            Ok(stat) => event[16..24].copy_from_slice(&stat.size.to_le_bytes()),
            Err(_) => event[8..10].copy_from_slice(&Errno::BADF.0.to_le_bytes()),
        }
    }
    event
}
