"""How fast the real meshlogd is on a data file: `bench.py FILE [PUBLIC IDENTITIES]`, two figures per line: what,
events per second, and events per second of processor time. With identities it checks signatures, which are by them.
"""

import json
import sys
import time

import meshlog
from meshlog.event import Event
from meshlog.feedstore import FeedStore

path, keys = sys.argv[1], sys.argv[2:]


def rate(what, count, work):
    start, processor = time.perf_counter(), time.process_time()
    result = work()
    taken = time.perf_counter() - start, time.process_time() - processor
    print(what, *(f"{count / seconds:.0f}" for seconds in taken), flush=True)
    return result


def messages():
    with open(path) as lines:
        events = [json.loads(line) for line in lines]
    for at in range(0, len(events), 32):
        yield json.dumps({"t": "events", "e": events[at : at + 32]}, separators=(",", ":")).encode()


def verifier():
    if not keys:
        return None
    import RNS
    from meshlog.rns_transport import RNSVerifier

    known = {}
    for key in keys[0].split(","):
        identity = RNS.Identity(create_keys=False)
        identity.load_public_key(bytes.fromhex(key))
        known[identity.hash.hex()] = identity
    real = RNSVerifier(known.get)
    return lambda event: real.verify(event.author, event.signing_bytes(), event.sig)


def ingest():
    store = FeedStore(verify=verifier()) if keys else FeedStore()
    for raw in received:
        message = json.loads(raw.decode("utf-8"))
        store.ingest_many([Event.from_wire(event) for event in message["e"]])
    return store


def view():
    if meshlog.__version__ == "0.1.0":
        state = meshlog.materialize(store.all_events())
    else:
        state = meshlog.materialize(store.all_events(), meshlog.RawReducer())
    return json.dumps(state, sort_keys=True, separators=(",", ":"))


received = list(messages())
count = sum(1 for _ in open(path))
store = rate("ingest", count, ingest)
assert store.event_count() == count, store.event_count()
if not keys:
    rate("view", count, view)
    rate("reload", count, lambda: FeedStore(path))
