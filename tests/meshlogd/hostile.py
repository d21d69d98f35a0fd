"""An unfriendly node of a mesh of meshlogd: the real transport of meshlogd 0.5.0 over the real Reticulum, and lies.

The first argument is a Reticulum configuration directory, the second a file for its identity. It takes words on its standard
input and prints a line of JSON for each. `peers` tells whom it can reach. The others are attacks, each of them on all of these;
what they tell is how many messages went out.
"""

import json
import sys
import threading
import time

import RNS
from dataclasses import replace
from meshlog.event import Event
from meshlog.rns_transport import RNSTransport

# How often something old is said again.
REPLAYS = 300
# More than a domain wraps, less than what a message may have.
LARGE_BYTES = 200_000
# More than any message may have.
FLOOD_BYTES = 17 << 20


class Unfriendly:
    def __init__(self, configdir, identity):
        self.transport = RNSTransport(configdir, identity, announce_interval=2.0)
        self.transport.set_receive(self.heard)
        self.signer = self.transport.signer()
        self.author = self.transport.node_id
        self.feed = []
        # What is said again and again: a message may be lost, and honest nodes repeat themselves, too.
        self.said = []
        # What honest nodes said, by id.
        self.events = {}
        self.messages = []
        self.sent = 0

    def heard(self, peer, raw):
        message = json.loads(raw)
        self.messages.append(raw)
        for wire in message.get("e", []):
            event = Event.from_wire(wire)
            self.events[event.id] = event

    def gossip(self):
        """Asks everybody for everything, all the time: it has nothing, it says. And offers what it stands by."""
        while True:
            self.send({"t": "frontier", "f": {}})
            self.offer(self.said)
            time.sleep(2)

    def send(self, message, to=None):
        raw = message if isinstance(message, bytes) else json.dumps(message).encode()
        for peer in self.transport.reachable_peers() if to is None else [to]:
            self.transport.send(peer, raw)
            self.sent += 1

    def offer(self, events, to=None):
        wires = [event if isinstance(event, dict) else event.to_wire() for event in events]
        self.send({"t": "events", "e": wires}, to)

    def sign(self, event):
        return replace(event, sig=self.signer.sign(event.signing_bytes()))

    def make(self, author, seq, prev, record, value):
        payload = {"record_id": record, "field": "said", "value": value}
        clock = (int(time.time() * 1000), seq)
        return Event.from_parts(author, seq, clock, "field.set", payload, prev)

    def own(self, record, value):
        """The next event of its own feed, signed as it should be."""
        prev = self.feed[-1].id if self.feed else ""
        event = self.sign(self.make(self.author, len(self.feed) + 1, prev, record, value))
        self.feed.append(event)
        return event

    def ends(self):
        """The last event of each honest feed."""
        last = {}
        for event in list(self.events.values()):
            if event.author != self.author and event.seq >= last.get(event.author, event).seq:
                last[event.author] = event
        return list(last.values())

    def honest(self):
        """A beginning that nobody can object to."""
        self.said.append(self.own("R-hostile", "hello"))
        self.offer(self.said)

    def forged(self):
        """Events under the names of others, and changes of what they wrote."""
        for end in self.ends():
            for author_seq in (end.seq + 1, end.seq + 3):
                fake = self.make(end.author, author_seq, end.id, "R-forged", "forged")
                garbage = replace(fake, sig="00" * 64)
                torn = replace(fake, sig=end.sig[:-2])
                lies = [fake, self.sign(fake), garbage, torn, replace(fake, sig=end.sig)]
                for peer in self.transport.reachable_peers():
                    # meshlogd 0.5.0 does not know its own key: under its own name it believes anybody.
                    if peer != end.author:
                        self.offer(lies, to=peer)
        for event in list(self.events.values()):
            wire = event.to_wire()
            # Other content under the id and the signature of the true one.
            self.offer([wire | {"p": {"record_id": "R-forged", "field": "x", "value": 1}}])
            # The true content with another signature.
            self.offer([wire | {"g": self.signer.sign(event.signing_bytes())}, wire | {"g": "zz"}])

    def replayed(self):
        """What was said already, hundreds of times, in another order."""
        known = sorted(self.events.values(), key=lambda event: event.id) + self.feed
        for _ in range(REPLAYS // 20):
            for at in range(20):
                self.offer(known[at % len(known):] + known[: at % len(known)])
            # Nobody's queue of packets is the subject here.
            time.sleep(0.2)

    def truncated(self):
        """Messages that end in the middle, at many places."""
        whole = json.dumps({"t": "events", "e": [self.feed[0].to_wire()]}).encode()
        for at in range(0, len(whole), 7):
            self.send(whole[:at])
        for raw in self.messages[:5]:
            self.send(raw[: len(raw) // 2])

    def unfitting(self):
        """Signed events of its own, of which id, place or predecessor does not fit."""
        prev, next_seq = self.feed[-1].id, len(self.feed) + 1
        good = self.sign(self.make(self.author, next_seq, prev, "R-unfitting", "no"))
        self.offer([good.to_wire() | {"i": "0" * 32}, good.to_wire() | {"i": "short"}])
        for wrong in ("", "f" * 32, self.feed[0].prev or "e" * 32):
            self.offer([self.sign(self.make(self.author, next_seq, wrong, "R-unfitting", "no"))])
        for seq in (0, -1, 2**63, 2**64, 10**30):
            self.offer([self.sign(self.make(self.author, seq, prev, "R-unfitting", "no"))])

    def forked(self):
        """Another event at the same place for each peer, and then all of them for everybody."""
        prev, seq = self.feed[-1].id, len(self.feed) + 1
        branches = []
        for number, peer in enumerate(sorted(self.transport.reachable_peers())):
            branch = self.sign(self.make(self.author, seq, prev, f"R-fork-{number}", "fork"))
            branches.append(branch)
            self.offer([branch], to=peer)
        self.feed.append(branches[0])
        time.sleep(2)
        self.said += branches
        self.offer(branches)

    def oversize(self):
        """A large event that is good, and a message that is larger than any may be."""
        large = Event.from_parts(
            "large", 1, (int(time.time() * 1000), 0), "note.add",
            {"record_id": "R-large", "text": "x" * LARGE_BYTES}, "",
        )
        self.said.append(large)
        self.offer([large])
        self.send(b'{"t":"events","e":["' + b"x" * FLOOD_BYTES + b'"]}')

    def garbage(self):
        """What is no message at all, or one of strange values."""
        deep = b"[" * 100_000
        for raw in (b"", b"\0" * 200, bytes(range(256)), deep, b"{}", b"[]", b"null", b'{"t":1}',
                    b'{"t":"frontier","f":{"a":-1,"b":1e400,"c":null}}', b'{"t":"events","e":{}}',
                    b'{"t":"frontier","f":[]}', b'{"t":"events","e":[1,null,[],{"a":1}]}',
                    b'{"t":"frontier","f":{"\\ud800":99999999999999999999999}}',
                    b'{"t":"events","e":[{"a":"x","s":"1","h":0,"k":[],"p":0,"v":0,"i":0}]}'):
            self.send(raw)


RNS.loglevel = RNS.LOG_CRITICAL
node = Unfriendly(sys.argv[1], sys.argv[2])
threading.Thread(target=node.gossip, daemon=True).start()
for line in sys.stdin:
    word = line.strip()
    if word == "peers":
        known = dict(node.transport._peer_identities)
        keys = {author: identity.get_public_key().hex() for author, identity in known.items()}
        print(json.dumps({"author": node.author, "peers": node.transport.reachable_peers(),
                          "events": len(node.events), "keys": keys}), flush=True)
        continue
    before = node.sent
    getattr(node, word)()
    print(json.dumps({"sent": node.sent - before}), flush=True)
