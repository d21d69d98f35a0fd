// quipu show ID --json | node verify-show.mjs
//
// Checks one event with other people's libraries (EVT-5): the hash of its body, its fields, its
// links, its payload, and the signature that vouches for it. Trusts nothing but the id and what
// the reader knows of the author's key. `--id ID` also compares the id, `--author KEY` the author.
import { CID } from 'multiformats/cid'
import {
  canonical, check, checkFields, checkLink, cidOf, dagJson, decodeBody, equal, hex, signingMessage,
  splitPayload, unbase64, verifySignature
} from './lib.mjs'

async function input () {
  const chunks = []
  for await (const chunk of process.stdin) chunks.push(chunk)
  return JSON.parse(Buffer.concat(chunks).toString('utf8'))
}

function option (name) {
  const at = process.argv.indexOf(name)
  return at < 0 ? null : process.argv[at + 1]
}

function checkPayload (show, body) {
  if (show.payload_block === null || show.payload_block === undefined) {
    check(show.payload === null, 'payload is shown, but its block is not')
    return 'erased'
  }
  const block = unbase64(show.payload_block)
  equal(cidOf(block), body.payload, 'hash of payload_block')
  equal(block.length, body.size, 'size of payload_block')
  equal(canonical(dagJson(splitPayload(block)[1])), canonical(show.payload), 'payload')
  return 'present'
}

/** Follows the feed from the event to the one that is signed. */
function checkProof (proof, uuid, body) {
  let [id, last] = [uuid, body]
  for (const bytes of proof.bodies.map(unbase64)) {
    const next = decodeBody(bytes)
    check('prev' in next, 'a body of the proof has no prev')
    equal(next.prev, id, 'prev of a body of the proof')
    equal(next.seq, last.seq + 1, 'seq of a body of the proof')
    equal(hex(next.author), hex(body.author), 'author of a body of the proof')
    equal(next.log, body.log, 'log of a body of the proof')
    equal(next.domain, body.domain ?? uuid, 'domain of a body of the proof')
    ;[id, last] = [cidOf(bytes), next]
  }
  check(proof.bodies.length <= 64, 'the proof is longer than a signature may be away')
  equal(proof.signed, id, 'the event that is signed')
  const message = signingMessage(id)
  equal(hex(unbase64(proof.message)), hex(message), 'the signed message')
  check(verifySignature(unbase64(proof.signature), message, body.author), 'the signature does not verify')
}

function verify (show) {
  const uuid = CID.parse(show.uuid)
  checkLink(uuid, 'uuid')
  const block = unbase64(show.block)
  equal(cidOf(block), uuid, 'hash of block')
  const body = decodeBody(block)
  // A root event does not name its domain, as that is its own id; `show` does.
  checkFields({ domain: uuid, ...body }, show)
  const payload = checkPayload(show, body)
  checkProof(show.proof, uuid, body)
  if (option('--id') !== null) equal(uuid, option('--id'), 'the id asked for')
  if (option('--author') !== null) equal(hex(body.author), option('--author'), 'the author asked for')
  return { ok: true, uuid: show.uuid, payload, proof_bodies: show.proof.bodies.length }
}

try {
  console.log(JSON.stringify(verify(await input())))
} catch (error) {
  console.log(JSON.stringify({ ok: false, problem: error.message }))
  process.exitCode = 1
}
