// node vectors.mjs [DIRECTORY]: checks test-vectors/ with other people's libraries.
import * as dagCbor from '@ipld/dag-cbor'
import { ed25519 } from '@noble/curves/ed25519.js'
import { blake3 } from '@noble/hashes/blake3.js'
import { CID } from 'multiformats/cid'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  canonical, check, checkFields, cidOf, concat, dagJson, decodeBody, decodeCanonical, equal, hex,
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
const classes = {
  'field.set': ['cell', 'record_id', 'field'],
  'record.create': ['record', 'record_id'],
  'member.add': ['member', 'node'],
  'member.remove': ['member', 'node'],
  'invite.create': ['invite', 'key']
}
each('subjects', subjects.vectors, (vector) => {
  const value = dagCbor.decode(unhex(vector.value))
  const [name, ...fields] = classes[vector.kind] ?? []
  const parts = fields.map((field) => value?.[field])
  const isPart = (part) => typeof part === 'string' || part instanceof Uint8Array
  const subject = name !== undefined && parts.every(isPart)
    ? hex(blake3(dagCbor.encode([name, ...parts]), { key: blake3(text(subjects.context)) }))
    : null
  equal(subject, vector.subject, 'subject')
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
