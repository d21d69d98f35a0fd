"""What Python's json makes of texts, for the differential test of the json module.

`read`: each line of input is a text in hexadecimal, each line of output what it means: `no`, or the text
written again in three styles, in hexadecimal.
`make COUNT SEED`: writes random values in the same three styles.
"""

import json
import random
import struct
import sys

STYLES = (
    {"sort_keys": True, "separators": (",", ":")},
    {"separators": (",", ":")},
    {},
)


def styles(value):
    return " ".join(json.dumps(value, **style).encode().hex() for style in STYLES)


def read():
    for line in sys.stdin:
        try:
            print(styles(json.loads(bytes.fromhex(line))))
        except (ValueError, RecursionError):
            print("no")


def text(rng):
    points = (
        lambda: rng.randrange(0x20, 0x7F),
        lambda: rng.randrange(0x20),
        lambda: rng.randrange(0x7F, 0x800),
        lambda: rng.randrange(0xD800, 0xE000),
        lambda: rng.randrange(0x110000),
    )
    return "".join(chr(rng.choice(points)()) for _ in range(rng.choice((0, 1, 2, 5, 9))))


def number(rng):
    which = rng.randrange(6)
    if which == 5:
        # Half way between two decimals of the shortest length.
        return rng.randrange(2 ** rng.randrange(40, 55)) / rng.choice((2, 4, 8, 16))
    if which == 0:
        return struct.unpack("<d", rng.randbytes(8))[0]
    if which == 1:
        return rng.choice((-1, 1)) * rng.randrange(10 ** rng.randrange(1, 60))
    if which == 2:
        return rng.choice((-1, 1)) * rng.random() * 10.0 ** rng.randrange(-8, 20)
    if which == 3:
        return round(rng.random() * 1000, rng.randrange(4))
    return rng.choice((0, -0.0, 1e16, 1e-4, 1e-5, 5e-324, 2.0**53, 2**63, -(2**63), 2**64, float("inf")))


def value(rng, depth=0):
    which = rng.randrange(8 if depth < 4 else 6)
    if which == 6:
        return [value(rng, depth + 1) for _ in range(rng.randrange(5))]
    if which == 7:
        return {text(rng): value(rng, depth + 1) for _ in range(rng.choice((0, 1, 3, 12)))}
    if which < 2:
        return text(rng)
    return number(rng) if which < 5 else rng.choice((None, True, False))


def make(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        # A pair of lone halves reads back as one character: what Python can hold after reading is what counts.
        print(styles(json.loads(json.dumps(value(rng)))))


if sys.argv[1] == "read":
    read()
else:
    make(int(sys.argv[2]), int(sys.argv[3]))
