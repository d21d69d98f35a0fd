// node vectors.mjs [DIRECTORY]: checks test-vectors/ with other people's libraries.
import * as dagCbor from '@ipld/dag-cbor'
import { ed25519 } from '@noble/curves/ed25519.js'
import { blake3 } from '@noble/hashes/blake3.js'
import { CID } from 'multiformats/cid'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  canonical, check, checkFields, checkLink, cidOf, concat, dagJson, decodeBody, decodeCanonical, equal, hex,
  signingMessage, splitPayload, unhex, verifySignature
} from './lib.mjs'

const directory = process.argv[2] ?? new URL('../../test-vectors', import.meta.url).pathname
const file = (name) => JSON.parse(readFileSync(join(directory, name), 'utf8'))
const text = (text) => new TextEncoder().encode(text)
const counts = {}
let problems = 0

function each (what, vectors, test) {
  counts[what] = vectors.length
  check(vectors.length > 0, `${what}: no vectors`)
  for (const vector of vectors) {
    try {
      test(vector)
    } catch (error) {
      problems += 1
      console.error(`${what}: ${vector.name ?? vector.meaning ?? ''}: ${error.message}`)
    }
  }
}

function checkEvent ({ body: bytes, event, payload_json: payload, signing_message: message }) {
  const block = unhex(bytes)
  const body = decodeBody(block)
  equal(cidOf(block), event.uuid, 'uuid')
  checkFields(body, event)
  const signed = signingMessage(CID.parse(event.uuid))
  equal(hex(signed), message, 'signing message')
  if (event.signature !== null) {
    check(verifySignature(unhex(event.signature), signed, body.author), 'signature')
  }
  if (event.payload_block !== null) {
    const block = unhex(event.payload_block)
    equal(cidOf(block), event.payload_cid, 'payload_cid')
    equal(block.length, event.size, 'size')
    equal(canonical(dagJson(splitPayload(block)[1])), canonical(JSON.parse(payload)), 'payload')
  }
}

each('events', file('event-v1.json').vectors, checkEvent)

each('payload blocks', file('payload-v1.json').good, (vector) => {
  const block = unhex(vector.block)
  const [salt, value] = splitPayload(block)
  equal(hex(salt), vector.salt, 'salt')
  equal(cidOf(block), vector.payload_cid, 'payload_cid')
  equal(canonical(dagJson(value)), canonical(JSON.parse(vector.value_json)), 'value')
})

each('values', file('value.json').good, (vector) => {
  const value = decodeCanonical(unhex(vector.cbor), 'value')
  equal(canonical(dagJson(value)), canonical(JSON.parse(vector.json)), 'value')
})

// What we refuse and the library accepts are the rules that quipu adds to DAG-CBOR.
const stricter = new Set(file('value.json').refused.filter(({ cbor }) => {
  try {
    decodeCanonical(unhex(cbor), 'value')
    return true
  } catch {
    return false
  }
}).map(({ name }) => name))
// Integral floats: dag-cbor writes 1.0 as the integer 1, so it takes them for not canonical; floats
// with 2^53 and more are written as floats by both.
each('refused values that plain DAG-CBOR allows', [...stricter].map((name) => ({ name })), ({ name }) => {
  check(['key-slash', '65-deep', 'link-varint-long', 'below-minus-2^63'].includes(name), 'is refused by us alone')
})

each('event ids', file('ids.json').good.filter(({ what }) => what !== 'node'), ({ what, text, bytes }) => {
  const cid = CID.parse(text)
  equal(cid.toString(), text, 'text')
  equal(hex(cid.multihash.digest), bytes, 'digest')
  equal(cid.code, what === 'artifact' ? 0x55 : dagCbor.code, 'codec')
})

const signatures = file('signatures.json')
each('signatures', signatures.vectors, (vector) => {
  const message = signingMessage(CID.parse(vector.uuid))
  equal(hex(message), vector.message, 'message')
  const verifies = verifySignature(unhex(vector.signature), message, unhex(vector.author))
  equal(verifies, vector.verifies, 'verifies')
})

const subjects = file('subjects.json')
// What a part of a fold key is, or undefined if it is none.
const name = (part) => typeof part === 'string' || part instanceof Uint8Array ? part : undefined
const optional = (part) => part === undefined ? null : typeof part === 'string' ? part : undefined
const link = (part) => part instanceof CID ? part : undefined
const number = (part) => {
  return typeof part === 'bigint' || Number.isInteger(part) ? (part >= 0 ? part : undefined) : undefined
}
const ends = (part) => {
  if (!Array.isArray(part) || part.length === 0) return undefined
  if (!part.every((end) => end instanceof CID || end instanceof Uint8Array)) return undefined
  const bytes = part.map((end) => hex(dagCbor.encode(end)))
  return bytes.every((end, at) => at === 0 || bytes[at - 1] < end) ? part : undefined
}
const edge = ['edge', ['from', ends], ['to', ends], ['type', name]]
const classes = {
  'field.set': ['cell', ['record_id', name], ['field', name]],
  'record.create': ['record', ['record_id', name]],
  'record.set': ['cell', ['record_id', name], ['field', name]],
  'record.note': ['record-note', ['record_id', name], ['text', name]],
  'record.attach': ['record-attachment', ['record_id', name], ['field', name], ['artifact', link]],
  'mesh.identity': ['mesh-identity', ['identity', name]],
  'mesh.event': ['mesh-event', ['id', name]],
  'mesh.policy': ['mesh-policy'],
  'mesh.trust': ['mesh-trust', ['author', name]],
  'member.add': ['member', ['node', name]],
  'member.remove': ['member', ['node', name]],
  'member.replace': ['member', ['node', name]],
  'member.readmit': ['readmission', ['node', name], ['upto', link]],
  'publisher.add': ['publisher', ['node', name]],
  'publisher.remove': ['publisher', ['node', name]],
  'publisher.replace': ['publisher', ['node', name]],
  'publisher.readmit': ['publisher-readmission', ['node', name], ['upto', link]],
  'publisher.access': ['access'],
  'invite.create': ['invite', ['key', name]],
  'artifact.put': ['artifact', ['key', link], ['size', number], ['type_tag', optional]],
  'artifact.import': ['import', ['key', link], ['domain', link]],
  'artifact.publish': ['published', ['key', link]],
  'artifact.tombstone': ['artifact-tombstone', ['key', link]],
  'artifact.pin': ['pin', ['key', link]],
  'artifact.unpin': ['pin', ['key', link]],
  'edge.add': edge,
  'edge.tombstone': edge,
  'conflict.resolve': ['resolution', ['key', link]],
  'snapshot.drop': ['snapshot-drop', ['snapshot', link]],
  'publication.record': ['publication', ['snapshot', link], ['part', number]],
  'domain.follow': ['follow', ['domain', link]],
  'receipt.announce': ['receipt', ['run', name], ['receipt', link], ['node', name]],
  'receipt.roster': ['roster'],
  'run.request': ['run', ['run', name], ['node', name]],
  'run.claim': ['claim', ['step', name], ['node', name]],
  'run.offer': ['offer', ['node', name]]
}
/** The fold key, or null. */
function foldKey (kind, bytes) {
  const value = decodeCanonical(unhex(bytes), 'payload')
  const [name, ...fields] = classes[kind] ?? []
  const parts = fields.map(([field, part]) => part(value?.[field]))
  return name === undefined || parts.includes(undefined) ? null : dagCbor.encode([name, ...parts])
}
const keyed = (bytes, context) => hex(blake3(bytes, { key: blake3(text(context)) }))
const subjectOf = (key) => key === null ? null : keyed(key, subjects.context)
each('subjects', [...subjects.vectors, ...file('subjects-records.json').vectors], (vector) => {
  equal(subjectOf(foldKey(vector.kind, vector.value)), vector.subject, 'subject')
})

const statements = file('statements.json')
equal(statements.context, subjects.context, 'context')
const said = [...statements.good, ...statements.silent]
each('statements and payloads that say nothing', said, (vector) => {
  const value = dagCbor.decode(unhex(vector.value))
  equal(canonical(dagJson(value)), canonical(JSON.parse(vector.value_json)), 'value')
  const key = foldKey(vector.kind, vector.value)
  if ('fold_key' in vector) equal(key === null ? null : hex(key), vector.fold_key, 'fold key')
  equal(subjectOf(key), vector.subject, 'subject')
})

each('artifact keys', statements.artifacts, (vector) => {
  const bytes = Uint8Array.from({ length: vector.length }, (_, n) => n % 251)
  equal(cidOf(bytes, 0x55), vector.key, 'key')
})

const state = file('state.json')
const uint32 = (n) => { const bytes = Buffer.alloc(4); bytes.writeUInt32LE(n); return bytes }
/** The entries of a tree by the rule: key and event digest in one. */
function entriesOf ({ count, zero_bytes: zeroBytes }) {
  const entries = Array.from({ length: count }, (_, n) => {
    const key = blake3(concat(text('key'), uint32(n)))
    key.fill(0, 0, zeroBytes)
    return hex(key) + hex(blake3(concat(text('event'), uint32(n))))
  })
  return entries.sort()
}
/** The hash of the subtree of entries that share the first `depth` digits. */
function subtree (entries, depth) {
  if (entries.length <= 32) return keyed(unhex(entries.join('')), state.leaf_context)
  const children = [...'0123456789abcdef'].map((digit) => {
    const child = entries.filter((entry) => entry[depth] === digit)
    return child.length === 0 ? '0'.repeat(64) : subtree(child, depth + 1)
  })
  return keyed(unhex(children.join('')), state.inner_context)
}
each('state roots', state.trees, (vector) => {
  const entries = entriesOf(vector)
  if (vector.entries !== null) equal(entries, vector.entries, 'entries')
  equal(subtree(entries, 0), vector.root, 'root')
})

each('snapshot ids', state.snapshot_ids.good, (vector) => {
  const [domain, local] = vector.text.split(':').map((id) => CID.parse(id))
  equal(domain, vector.domain, 'domain')
  equal(local, vector.local, 'local id')
  for (const cid of [domain, local]) checkLink(cid, 'id')
})

const digest = file('digest.json')
each('digests', digest.vectors, (vector) => {
  const ends = vector.feed_ends.map((end) => CID.parse(end).multihash.digest)
  equal(hex(blake3(concat(text(digest.context), ...ends))), vector.digest, 'digest')
})

const { invite_message: invite } = file('sync-messages-v1.json')
each('invitations', [invite], ({ context, domain, newcomer, message }) => {
  equal(hex(blake3(concat(text(context), unhex(domain), unhex(newcomer)))), message, 'message')
})

// The root event can be made from nothing but the format: the same key signs the same bytes.
each('a signature made here', [file('event-v1.json').vectors[0]], ({ event }) => {
  const secret = new Uint8Array(32).fill(1)
  equal(hex(ed25519.getPublicKey(secret)), event.author, 'author')
  equal(hex(ed25519.sign(signingMessage(CID.parse(event.uuid)), secret)), event.signature, 'signature')
})

console.log(JSON.stringify({ checked: counts, problems }))
process.exit(problems === 0 ? 0 : 1)
