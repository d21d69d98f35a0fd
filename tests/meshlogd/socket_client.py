"""Says the same things to any daemon that speaks meshlog.socket/1, and prints what it answers.

The first argument is the path of a Unix socket, or HOST:PORT. Each line of input is a step: bytes to send, in
hexadecimal, or `end` and such bytes: the last that this client sends, which then connects again. Ids and
clocks are blotted out.
"""

import json
import os
import re
import socket
import sys
import time


class Client:
    def __init__(self, address):
        self.address = address
        self.connect()

    def connect(self):
        if os.path.exists(self.address):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(self.address)
        else:
            host, _, port = self.address.partition(":")
            self.sock = socket.create_connection((host, int(port)))
        self.sock.settimeout(30)
        self.lines = self.sock.makefile("rb")
        show(self.lines.readline())

    def again(self):
        print("closed")
        self.lines.close()
        self.sock.close()
        self.connect()

    def until_barrier(self, name):
        """Prints all lines up to the answer of a request that nobody else makes. Whether there was one."""
        request = {"jsonrpc": "2.0", "id": name, "method": "frontier"}
        self.sock.sendall(json.dumps(request).encode() + b"\n")
        for line in iter(self.lines.readline, b""):
            if json.loads(line).get("id") == name:
                return True
            show(line)
        return False

    def step(self, line):
        try:
            word, _, last = line.partition(" ")
            if word == "end":
                self.sock.sendall(bytes.fromhex(last))
                self.sock.shutdown(socket.SHUT_WR)
                for answer in iter(self.lines.readline, b""):
                    show(answer)
                self.again()
                return
            self.sock.sendall(bytes.fromhex(line))
            # What is pushed for this step comes after its answer: a second barrier is behind it.
            time.sleep(0.005)
            if not (self.until_barrier("barrier 1") and self.until_barrier("barrier 2")):
                self.again()
        except ConnectionError:
            self.again()


def show(line):
    text = re.sub(r'"[0-9a-f]{32}"', '"ID"', line.decode("ascii").rstrip("\n"))
    print(re.sub(r'"(h|hlc)":\[\d+,\d+\]', r'"\1":CLOCK', text))


client = Client(sys.argv[1])
for number, line in enumerate(sys.stdin):
    print(f"step {number}")
    client.step(line.strip())
