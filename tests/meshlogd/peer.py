"""A real node of meshlogd, whose transport is this script's input and output.

The first argument is its author. Lines of input: `up PEER`, `down PEER`, `key HEX` (a public identity that it
learns), `recv PEER HEX` (a message), `emit KIND JSON`, `gossip`, `frontier`, `view`, `write HEX` (an event put into its
store, as only a liar would). For each it prints what it sends, `send PEER HEX`, and what was asked for, then a line with a dot.
"""

import json
import sys

import meshlog
from meshlog.event import Event
from meshlog.node import Node


class Lines:
    def __init__(self, node_id):
        self.node_id = node_id
        self.linked = []

    def set_receive(self, callback):
        self.receive = callback

    def reachable_peers(self):
        return list(self.linked)

    def send(self, peer, message):
        if peer in self.linked:
            print("send", peer, message.hex())


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def fold(events):
    if meshlog.__version__ == "0.1.0":
        return meshlog.materialize(events)
    return meshlog.materialize(events, meshlog.RawReducer())


transport = Lines(sys.argv[1])
more, known = {}, {}
if meshlog.__version__ != "0.1.0":
    from meshlog.rns_transport import RNSVerifier

    more["verifier"] = RNSVerifier(known.get)
node = Node(sys.argv[1], transport, **more)

for line in sys.stdin:
    word, *rest = line.split(maxsplit=2)
    if word == "up":
        transport.linked.append(rest[0])
    elif word == "down":
        transport.linked.remove(rest[0])
    elif word == "key":
        import RNS

        identity = RNS.Identity(create_keys=False)
        identity.load_public_key(bytes.fromhex(rest[0]))
        known[identity.hash.hex()] = identity
    elif word == "recv":
        transport.receive(rest[0], bytes.fromhex(rest[1]))
    elif word == "emit":
        node.emit(rest[0], json.loads(rest[1]))
    elif word == "write":
        node.store.append_local(Event.from_wire(json.loads(bytes.fromhex(rest[0]))))
    elif word == "gossip":
        node.gossip_round()
    elif word == "frontier":
        print(canonical({author: length for author, length in node.frontier().items() if length}))
    elif word == "view":
        print(canonical(fold(node.store.all_events())))
    print(".", flush=True)
