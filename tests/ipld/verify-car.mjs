// node verify-car.mjs FILE [--payloads-required]
//
// Checks a CARv1 that holds a whole log: the hash of every block, that every link of every body is
// in the file, payloads (present or erased), one root event, roots that are the feed tips, and no
// block twice. Prints counts; exits with 1 on any problem.
import { CarReader } from '@ipld/car'
import * as dagCbor from '@ipld/dag-cbor'
import { CID } from 'multiformats/cid'
import { readFileSync } from 'node:fs'
import { check, checkLink, cidOf, decodeBody, equal, hex, links, signingMessage, verifySignature } from './lib.mjs'

const PROBLEMS_SHOWN = 20
const problems = []
function attempt (what, test) {
  try {
    return test()
  } catch (error) {
    problems.push(`${what}: ${error.message}`)
    return undefined
  }
}

/** Bodies are maps with `v`, payload blocks are lists. */
const isBody = (value) => value !== null && typeof value === 'object' && 'v' in value && 'author' in value

/** Blocks of signatures, which no block of events covers. */
const isSignatures = (value) => value !== null && typeof value === 'object' && 'signatures' in value

function readSignatures (value, signatures) {
  equal(Object.keys(value), 'signatures', 'fields of a block of signatures')
  for (const pair of value.signatures) {
    check(Array.isArray(pair) && pair.length === 2, 'a signature is a pair of link and bytes')
    checkLink(pair[0], 'what is signed')
    signatures.set(pair[0].toString(), pair[1])
  }
}

async function read (path) {
  const reader = await CarReader.fromBytes(new Uint8Array(readFileSync(path)))
  equal(reader.version, 1, 'version of the CAR')
  const [bodies, payloads, signatures] = [new Map(), new Map(), new Map()]
  for await (const { cid, bytes } of reader.blocks()) {
    const name = cid.toString()
    if (bodies.has(name) || payloads.has(name)) problems.push(`${name}: the block is there twice`)
    attempt(name, () => {
      equal(cidOf(bytes, cid.code), cid, 'hash')
      equal(cid.code, dagCbor.code, 'codec')
      const value = dagCbor.decode(bytes)
      if (isBody(value)) {
        bodies.set(name, decodeBody(bytes))
      } else if (isSignatures(value)) {
        readSignatures(value, signatures)
      } else {
        check(Array.isArray(value) && value.length === 2, 'neither a body nor a payload block')
        payloads.set(name, bytes.length)
      }
    })
  }
  return { roots: (await reader.getRoots()).map(String), bodies, payloads, signatures }
}

/** How many events no signature vouches for: none of its own, and none further on in its feed. */
function countUnsigned (bodies, signatures) {
  const signed = new Set()
  for (const [id, signature] of signatures) {
    attempt(id, () => {
      const body = bodies.get(id)
      check(body !== undefined, 'a signature of an event that is not in the file')
      const message = signingMessage(CID.parse(id))
      check(verifySignature(signature, message, body.author), 'the signature does not verify')
      for (let at = id; at !== undefined && !signed.has(at); at = bodies.get(at)?.prev?.toString()) {
        signed.add(at)
      }
    })
  }
  const unsigned = [...bodies.keys()].filter((id) => !signed.has(id))
  if (unsigned.length > 0) problems.push(`${unsigned.length} events without a signature, such as ${unsigned[0]}`)
  return unsigned.length
}

function checkLog ({ roots, bodies, payloads, signatures }) {
  const counts = { events: bodies.size, root_events: 0, feeds: 0, tips: 0, leaves: 0, payloads: payloads.size, erased: 0 }
  const [continued, linked, used, feeds] = [new Set(), new Set(), new Set(), new Set()]
  const rootEvents = [...bodies].filter(([, body]) => !('domain' in body)).map(([id]) => id)
  counts.root_events = rootEvents.length
  if (rootEvents.length !== 1) problems.push(`${rootEvents.length} root events`)
  for (const [id, body] of bodies) {
    attempt(id, () => {
      feeds.add(`${body.log} ${hex(body.author)}`)
      if ('domain' in body) equal(body.domain, rootEvents[0], 'domain')
      for (const link of links(body)) {
        linked.add(link)
        const past = bodies.get(link)
        check(past !== undefined, `link to ${link}, which is not in the file`)
        check(BigInt(past.logseq) < BigInt(body.logseq), 'logseq is not above that of every link')
      }
      if ('prev' in body) {
        const prev = bodies.get(body.prev.toString())
        continued.add(body.prev.toString())
        equal(body.seq, prev.seq + 1, 'seq')
        equal(hex(prev.author), hex(body.author), 'author of prev')
        equal(prev.log, body.log, 'log of prev')
      }
      const payload = body.payload.toString()
      used.add(payload)
      if (payloads.has(payload)) {
        equal(payloads.get(payload), body.size, 'size of the payload block')
      } else {
        counts.erased += 1
        check(!process.argv.includes('--payloads-required'), 'the payload is missing')
      }
    })
  }
  for (const payload of payloads.keys()) {
    if (!used.has(payload)) problems.push(`${payload}: no event names this payload block`)
  }
  const tips = [...bodies.keys()].filter((id) => !continued.has(id)).sort()
  ;[counts.feeds, counts.tips] = [feeds.size, tips.length]
  counts.leaves = [...bodies.keys()].filter((id) => !linked.has(id)).length
  if (String([...roots].sort()) !== String(tips)) {
    problems.push(`the roots of the file (${roots.length}) are not the feed tips (${tips.length})`)
  }
  ;[counts.signatures, counts.unsigned] = [signatures.size, countUnsigned(bodies, signatures)]
  return counts
}

const counts = await read(process.argv[2]).then(checkLog).catch((error) => {
  problems.push(error.message)
  return {}
})
for (const problem of problems.slice(0, PROBLEMS_SHOWN)) console.error(problem)
console.log(JSON.stringify({ ok: problems.length === 0, ...counts, problems: problems.length }))
process.exit(problems.length === 0 ? 0 : 1)
