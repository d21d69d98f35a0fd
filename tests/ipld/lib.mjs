// Checks of quipu's events that use none of quipu's code: IPLD libraries and @noble only.
import * as dagCbor from '@ipld/dag-cbor'
import { ed25519 } from '@noble/curves/ed25519.js'
import { blake3 } from '@noble/hashes/blake3.js'
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'

export const BLAKE3 = 0x1e
const CONTEXT = new TextEncoder().encode('quipu event signature v1')
/** Fields of a body; the rest are optional. */
const FIELDS = ['v', 'log', 'seq', 'kind', 'size', 'author', 'logseq', 'parents', 'payload']
const OPTIONAL = ['prev', 'domain', 'subject']

export const hex = (bytes) => Buffer.from(bytes).toString('hex')
export const unhex = (text) => new Uint8Array(Buffer.from(text, 'hex'))
export const unbase64 = (text) => new Uint8Array(Buffer.from(text, 'base64'))

export function concat (...parts) {
  return new Uint8Array(Buffer.concat(parts))
}

export function check (condition, what) {
  if (!condition) throw new Error(what)
}

export function equal (given, expected, what) {
  const [a, b] = [given, expected].map((value) => value ?? null).map(String)
  check(a === b, `${what}: ${a} is not ${b}`)
}

/** The CID of a dag-cbor block. */
export function cidOf (bytes, codec = dagCbor.code) {
  return CID.createV1(codec, Digest.create(BLAKE3, blake3(bytes)))
}

/** Decodes a block and checks that it is what the library would write: canonical DAG-CBOR. */
export function decodeCanonical (bytes, what) {
  const value = dagCbor.decode(bytes)
  equal(hex(dagCbor.encode(value)), hex(bytes), `${what} is not canonical`)
  return value
}

export function checkLink (cid, what) {
  check(cid instanceof CID, `${what} is not a link`)
  equal(cid.version, 1, `${what}: CID version`)
  equal(cid.code, dagCbor.code, `${what}: codec`)
  equal(cid.multihash.code, BLAKE3, `${what}: hash function`)
  equal(cid.multihash.digest.length, 32, `${what}: digest length`)
}

/** Decodes a body and checks the rules that its fields obey by themselves. */
export function decodeBody (bytes) {
  const body = decodeCanonical(bytes, 'body')
  for (const field of FIELDS) check(field in body, `body has no ${field}`)
  for (const field of Object.keys(body)) {
    check(FIELDS.includes(field) || OPTIONAL.includes(field), `body has an unknown field ${field}`)
  }
  equal(body.v, 1, 'v')
  check(['internal', 'published'].includes(body.log), 'log')
  equal(body.author.length, 32, 'length of author')
  check(body.seq >= 1, 'seq')
  equal('prev' in body, body.seq > 1, 'prev where seq is above 1')
  const isRoot = body.parents.length === 0 && !('prev' in body)
  equal('domain' in body, !isRoot, 'domain in all but root events')
  for (const field of ['prev', 'domain', 'payload']) {
    if (field in body) checkLink(body[field], field)
  }
  body.parents.forEach((parent) => checkLink(parent, 'parent'))
  check(body.parents.length <= 128, 'too many parents')
  const digests = body.parents.map((parent) => hex(parent.multihash.digest))
  digests.forEach((digest, at) => {
    check(at === 0 || digests[at - 1] < digest, 'parents are not sorted, or one is there twice')
  })
  if ('subject' in body) equal(body.subject.length, 32, 'length of subject')
  return body
}

/** parents and prev, each once. */
export function links (body) {
  const all = [...body.parents, ...('prev' in body ? [body.prev] : [])].map(String)
  return [...new Set(all)]
}

/** The 32 bytes that an author signs. */
export function signingMessage (cid) {
  return blake3(concat(CONTEXT, cid.bytes))
}

/** Strict: small-order keys and non-canonical encodings are refused (RFC 8032, not ZIP 215). */
export function verifySignature (signature, message, author) {
  try {
    const key = ed25519.Point.fromBytes(author, false)
    const r = ed25519.Point.fromBytes(signature.slice(0, 32), false)
    if (key.isSmallOrder() || r.isSmallOrder()) return false
    return ed25519.verify(signature, message, author, { zip215: false })
  } catch {
    return false
  }
}

/** Salt and value of a payload block. */
export function splitPayload (block) {
  const list = decodeCanonical(block, 'payload block')
  check(Array.isArray(list) && list.length === 2, 'a payload block is a list of salt and value')
  check(list[0] instanceof Uint8Array && list[0].length <= 32, 'salt')
  return list
}

/** A value in the JSON form that quipu prints (DAG-JSON), to compare with. */
export function dagJson (value) {
  if (value instanceof CID) return { '/': value.toString() }
  if (value instanceof Uint8Array) {
    return { '/': { bytes: Buffer.from(value).toString('base64').replaceAll('=', '') } }
  }
  if (Array.isArray(value)) return value.map(dagJson)
  if (typeof value === 'bigint') return value
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, dagJson(item)]))
  }
  return value
}

/** Text that is equal for equal JSON values, whatever the order of keys. Integers that JSON.parse
 *  has rounded are compared as the floats it made of them. */
export function canonical (json) {
  if (typeof json === 'bigint') return String(Number(json))
  if (Array.isArray(json)) return `[${json.map(canonical).join()}]`
  if (json !== null && typeof json === 'object') {
    const entries = Object.keys(json).sort().map((key) => `${JSON.stringify(key)}:${canonical(json[key])}`)
    return `{${entries.join()}}`
  }
  return typeof json === 'number' ? String(json) : JSON.stringify(json)
}

/** Compares a decoded body with the JSON of `quipu show`. */
export function checkFields (body, json) {
  const author = hex(body.author)
  equal(json.domain, body.domain, 'domain')
  equal(json.log, body.log, 'log')
  equal(json.author, author, 'author')
  equal(json.seq, body.seq, 'seq')
  equal(json.prev, body.prev, 'prev')
  equal(canonical(json.parents), canonical(body.parents.map(String)), 'parents')
  check(typeof json.logseq === 'string', 'logseq is not a decimal string')
  equal(json.logseq, body.logseq, 'logseq')
  const clock = BigInt(body.logseq)
  equal(canonical(json.hlc), canonical([clock >> 16n, clock & 0xffffn]), 'hlc')
  equal(json.kind, body.kind, 'kind')
  equal(json.subject, 'subject' in body ? hex(body.subject) : null, 'subject')
  equal(json.payload_cid, body.payload, 'payload_cid')
  equal(json.size, body.size, 'size')
}
