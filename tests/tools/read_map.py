"""Opens a map as anybody would who uses GDAL: by its name. Prints which driver took it, then each feature, a line of JSON each."""

import json
import struct
import sys

import pyogrio


def wkt(wkb):
    """A point as text. GDAL gives well-known binary."""
    if wkb is None:
        return None
    order = "<" if wkb[0] == 1 else ">"
    (kind,) = struct.unpack_from(order + "I", wkb, 1)
    assert kind in (1, 1001, 0x80000001), f"geometry of type {kind}"
    size = 2 if kind == 1 else 3
    numbers = " ".join(format(number, "g") for number in struct.unpack_from(f"{order}{size}d", wkb, 5))
    return f"POINT ({numbers})" if size == 2 else f"POINT Z ({numbers})"


path = sys.argv[1]
info = pyogrio.read_info(path)
print(json.dumps({"driver": info["driver"], "features": int(info["features"]), "crs": info["crs"]}))
meta, _, geometry, columns = pyogrio.raw.read(path)
rows = dict(zip(meta["fields"], columns))
for at, wkb in enumerate(geometry):
    print(json.dumps({"id": rows["id"][at], "form": rows["form"][at], "wkt": wkt(wkb)}))
