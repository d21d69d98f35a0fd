"""Reads lineage that quipu has written, with other people's tools, which tests/tools/setup installs.

    target/attest/bin/python tests/attest/check.py DIRECTORY RECORDS

The directory has prov.json, envelope.json and key.txt (64 hexadecimal digits); the document has so many records.
"""

import json
import pathlib
import sys

from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from prov.model import ProvDocument
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

out = pathlib.Path(sys.argv[1])

document = ProvDocument.deserialize(out / "prov.json", format="json")
records = document.get_records()
again = ProvDocument.deserialize(content=document.serialize(format="json"), format="json")
assert document == again and len(records) == int(sys.argv[2]), len(records)
document.get_provn()
print("prov: a document with", len(records), "records")

envelope = Envelope.from_dict(json.loads((out / "envelope.json").read_text()))
text = envelope.payload.decode()
statement = json_format.Parse(text, statement_pb2.Statement())
Statement.copy_from_pb(statement).validate()
predicate = json_format.ParseDict(json.loads(text)["predicate"], provenance_pb2.Provenance())
assert predicate.build_definition.build_type and predicate.run_details.builder.id
print("in-toto-attestation: a valid statement about", statement.subject[0].name)

public = (out / "key.txt").read_text()
key = SSlibKey(public, "ed25519", "ed25519", {"public": public})
assert list(envelope.verify([key], 1)) == [public]
envelope.payload += b" "
try:
    envelope.verify([key], 1)
except VerificationError:
    print("securesystemslib: the signature is good, and fails on anything else")
else:
    sys.exit("a signature over something else was accepted")
