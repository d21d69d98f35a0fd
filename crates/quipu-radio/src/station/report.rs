//! What people can be told of a station.

use serde_json::{Value, json};

use super::Station;
use crate::airtime::Meter;
use crate::association::Association;
use crate::beacon::BEACON_BYTES_MAX;
use crate::neighbours::{Digest, LogTag};

/// What a share is shown in: thousandths of a percent.
fn percent(part: u64, whole: u64) -> Value {
    let thousandths = (part * 100_000).checked_div(whole).unwrap_or(0);
    json!(format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000))
}

impl Station {
    /// Interfaces, peers and queues, for `mesh status`.
    pub fn report(&self, now: u64) -> Value {
        let queue: usize = self.associations.values().map(|a| a.stream.queued()).sum();
        json!({
            "helper": self.helper,
            "trouble": self.trouble,
            "address": self.address.map(hex),
            "digest": self.own_digest().map(hex),
            "announces": self.announces,
            "announce_bytes_max": BEACON_BYTES_MAX,
            "queue_bytes": queue,
            "guest_queue_bytes": self.guests.queued(),
            "interfaces": self.meters.iter().map(|(_, meter)| interface(now, meter)).collect::<Vec<_>>(),
            "peers": self.peers(now),
        })
    }

    fn own_digest(&self) -> Option<Digest> {
        self.standing.as_ref().and_then(|standing| standing.digest(LogTag::Own))
    }

    fn peers(&self, now: u64) -> Vec<Value> {
        let heard = self.neighbours.iter().map(|(address, neighbour)| {
            let stream = self.associations.values().find(|a| a.address == *address);
            let theirs = neighbour.logs.get(&LogTag::Own).map(|meeting| meeting.digest);
            let equal = theirs.map(|theirs| self.own_digest() == Some(theirs));
            json!({
                "address": hex(*address),
                "node": neighbour.node.map(|node| node.to_string()),
                "hops": neighbour.hops,
                "heard_s": now.saturating_sub(neighbour.heard_at) / 1_000,
                "rssi": neighbour.rssi,
                "snr": neighbour.snr.map(|tenths| json!(format!("{:.1}", f64::from(tenths) / 10.0))),
                "equal": equal,
                "by_wire": self.is_wired(&neighbour.tag),
                "link": stream.map_or("none", state),
                "queue_bytes": stream.map_or(0, |a| a.stream.queued()),
            })
        });
        let unheard =
            self.associations.values().filter(|a| self.neighbours.get(&a.address).is_none());
        let unheard = unheard.map(|association| {
            json!({
                "address": hex(association.address),
                "node": association.peer.map(|node| node.to_string()),
                "hops": Value::Null,
                "heard_s": Value::Null,
                "rssi": Value::Null,
                "snr": Value::Null,
                "equal": Value::Null,
                "by_wire": false,
                "link": state(association),
                "queue_bytes": association.stream.queued(),
            })
        });
        heard.chain(unheard).collect()
    }
}

fn state(association: &Association) -> &'static str {
    match (association.ready().is_some(), association.up) {
        (true, _) => "up",
        (false, true) => "lost",
        (false, false) => "opening",
    }
}

fn interface(now: u64, meter: &Meter) -> Value {
    let told = &meter.interface;
    let hour = crate::airtime::HOUR_MS * 1_000;
    let used = meter.airtime.as_ref().map(|airtime| airtime.used_us(now));
    let limit = meter.airtime.as_ref().map(crate::airtime::Airtime::limit_us);
    json!({
        "name": told.name,
        "kind": told.kind,
        "up": told.up,
        "mtu": told.mtu,
        "bitrate": told.bitrate,
        "sent_bytes": told.sent_bytes,
        "received_bytes": told.received_bytes,
        "rssi": told.rssi,
        "snr": told.snr,
        "airtime_percent": used.map(|used| percent(used, hour)),
        "airtime_limit_percent": limit.map(|limit| percent(limit, hour)),
    })
}

fn hex<const N: usize>(bytes: [u8; N]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
