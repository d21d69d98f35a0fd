"""What the real meshlogd sends for batches of events: `air.py < EVENTS`, one `[author, ms, payload]` a line and an empty
line after each batch. For each message that it sends: bytes of JSON, and bytes as Reticulum compresses them.
"""

import bz2
import dataclasses
import json
import sys

import RNS
from meshlog.event import Event
from meshlog.feedstore import FeedStore
from meshlog.node import MAX_EVENTS_PER_MSG
from meshlog.rns_transport import RNSSigner

identities = {}
store = FeedStore()


def written(line):
    who, ms, payload = json.loads(line)
    if who not in identities:
        identities[who] = RNS.Identity()
    identity = identities[who]
    author = identity.hash.hex()
    place = (author, store.next_seq(author), (ms, 0), "field.set", payload, store.last_id(author))
    event = Event.from_parts(*place)
    event = dataclasses.replace(event, sig=RNSSigner(identity).sign(event.signing_bytes()))
    store.append_local(event)
    return event


def send(batch):
    batch.sort(key=lambda event: (event.author, event.seq))
    for at in range(0, len(batch), MAX_EVENTS_PER_MSG):
        chunk = [event.to_wire() for event in batch[at : at + MAX_EVENTS_PER_MSG]]
        message = json.dumps({"t": "events", "e": chunk}, separators=(",", ":")).encode()
        print(len(message), min(len(message), len(bz2.compress(message))))


batch = []
for line in sys.stdin:
    if line.strip():
        batch.append(written(line))
    else:
        send(batch)
        batch = []
