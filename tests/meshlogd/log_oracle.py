"""What the real meshlogd makes of data files and of single events.

`views DIR`: for every file in it, in order of name: the view as canonical JSON (version 0.1.0: records;
0.5.0: the events in order), the frontier, and the file as it writes it again, each in hexadecimal.
`write DIR COUNT SEED`: writes data files by emitting random events, signed if it can.
`judge KEYS`: each line of input is an event; prints whether it is taken, then the frontier. KEYS are public
identities in hexadecimal, separated by commas, that it knows.
"""

import json
import os
import random
import sys

import meshlog
from meshlog.event import Event
from meshlog.feedstore import FeedStore
from meshlog.hlc import HLC
from meshlog.node import Node
from meshlog.transport import SimNetwork, SimTransport


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode().hex()


def fold(events):
    if meshlog.__version__ == "0.1.0":
        return meshlog.materialize(events)
    return meshlog.materialize(events, meshlog.RawReducer())


def views(directory):
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        store = FeedStore(path)
        events = store.all_events()
        assert all(event.is_authentic() for event in events), path
        with open(path) as lines:
            again = [Event.from_wire(json.loads(line)) for line in lines]
        again = "".join(json.dumps(event.to_wire()) + "\n" for event in again)
        print(canonical(fold(events)), canonical(store.frontier()), again.encode().hex())


def value(rng, depth=0):
    made = (
        lambda: rng.randrange(-10, 10**30),
        lambda: rng.random() * 10 ** rng.randrange(-9, 22),
        lambda: float("nan"),
        lambda: "é\ud800\U0001f600\x7f\n" * rng.randrange(3),
        lambda: [value(rng, depth + 1) for _ in range(rng.randrange(3))],
        lambda: {chr(rng.randrange(97, 123)): value(rng, depth + 1) for _ in range(4)},
    )
    return made[rng.randrange(6 if depth < 3 else 4)]()


def write(directory, count, seed):
    rng = random.Random(seed)
    signers = [None, None]
    if meshlog.__version__ != "0.1.0":
        import RNS
        from meshlog.rns_transport import RNSSigner

        identities = [RNS.Identity() for _ in range(2)]
        signers += [RNSSigner(identity) for identity in identities]
        print(",".join(identity.get_public_key().hex() for identity in identities))
    for number in range(count):
        path = os.path.join(directory, f"{number:04}.jsonl")
        store = FeedStore(path)
        nodes = []
        for signer in signers:
            author = getattr(signer, "author", "n\u00f6de\ud800" + str(len(nodes)))
            more = {"signer": signer} if signer else {}
            node = Node(author, SimTransport(author, SimNetwork()), hlc=HLC(_phys=lambda: 1000), **more)
            node.store = store
            nodes.append(node)
        for _ in range(rng.randrange(1, 30)):
            rng.choice(nodes).emit(rng.choice(("field.set", "é")), {"record_id": "R", "field": "f", "value": value(rng)})


def judge(keys):
    verify = None
    if meshlog.__version__ != "0.1.0":
        import RNS
        from meshlog.rns_transport import RNSVerifier

        known = {}
        for key in filter(None, keys.split(",")):
            identity = RNS.Identity(create_keys=False)
            identity.load_public_key(bytes.fromhex(key))
            known[identity.hash.hex()] = identity
        verifier = RNSVerifier(known.get)
        store = FeedStore(verify=lambda event: verifier.verify(event.author, event.signing_bytes(), event.sig))
    else:
        store = FeedStore()
    for line in sys.stdin:
        try:
            taken = store.ingest(Event.from_wire(json.loads(line)))
        except (ValueError, KeyError, TypeError):
            taken = False
        print("taken" if taken else "no")
    print(canonical({author: length for author, length in store.frontier().items() if length}))


command, *arguments = sys.argv[1:]
if command == "views":
    views(arguments[0])
elif command == "write":
    write(arguments[0], int(arguments[1]), int(arguments[2]))
else:
    judge(arguments[0])
