// node self-test.mjs: shows that verify-show.mjs and verify-car.mjs accept what is right and refuse
// what is wrong, with events from test-vectors/.
import { CarWriter } from '@ipld/car'
import * as dagCbor from '@ipld/dag-cbor'
import { CID } from 'multiformats/cid'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { check, cidOf, dagJson, signingMessage, splitPayload, unhex } from './lib.mjs'

const here = new URL('.', import.meta.url).pathname
const vectors = JSON.parse(readFileSync(join(here, '../../test-vectors/digest.json'), 'utf8'))
const log = vectors.small_log
const base64 = (bytes) => Buffer.from(bytes).toString('base64')

/** The body of an event of the small log, written by the library from its JSON. */
function bodyOf (event) {
  const link = (text) => CID.parse(text)
  const body = {
    v: 1,
    log: event.log,
    seq: event.seq,
    kind: event.kind,
    size: event.size,
    author: unhex(event.author),
    logseq: BigInt(event.logseq),
    parents: event.parents.map(link),
    payload: link(event.payload_cid)
  }
  if (event.prev !== null) body.prev = link(event.prev)
  if (event.domain !== null) body.domain = link(event.domain)
  if (event.subject !== null) body.subject = unhex(event.subject)
  return dagCbor.encode(body)
}

function showOf (event) {
  const feed = log.filter(({ author }) => author === event.author)
  const later = feed.slice(feed.indexOf(event))
  const end = later.findIndex(({ signature }) => signature !== null)
  const signed = later[end]
  const { payload_block: block, signature, ...fields } = event
  return {
    ...fields,
    domain: event.domain ?? event.uuid,
    payload: dagJson(splitPayload(unhex(block))[1]),
    block: base64(bodyOf(event)),
    payload_block: base64(unhex(block)),
    proof: {
      signature: base64(unhex(signed.signature)),
      message: base64(signingMessage(CID.parse(signed.uuid))),
      signed: signed.uuid,
      bodies: later.slice(1, end + 1).map((event) => base64(bodyOf(event)))
    }
  }
}

async function carOf (blocks, roots) {
  const { writer, out } = CarWriter.create(roots)
  const chunks = []
  const reading = (async () => { for await (const chunk of out) chunks.push(chunk) })()
  for (const bytes of blocks) await writer.put({ cid: cidOf(bytes), bytes })
  await writer.close()
  await reading
  return Buffer.concat(chunks)
}

function expect (what, ok, script, args, input) {
  const { status, stdout, stderr } = spawnSync('node', [join(here, script), ...args], { input })
  check((status === 0) === ok, `${what}: ended with ${status}: ${stdout}${stderr}`)
  console.log(`${ok ? 'accepted' : 'refused'}: ${what}`)
}

const show = (what, ok, json, ...args) => expect(`show, ${what}`, ok, 'verify-show.mjs', args, JSON.stringify(json))
log.forEach((event) => show(`${event.kind} ${event.seq}`, true, showOf(event)))
const unsigned = showOf(log.find(({ signature }) => signature === null))
check(unsigned.proof.bodies.length === 1, 'the unsigned event is proven by the next')
const changed = (change) => { const copy = structuredClone(unsigned); change(copy); return copy }
const flip = (text) => { const bytes = Buffer.from(text, 'base64'); bytes[3] ^= 1; return base64(bytes) }
show('erased payload', true, changed((json) => { json.payload = null; json.payload_block = null }))
show('another payload', false, changed((json) => { json.payload.value = 'Eve' }))
show('another payload block', false, changed((json) => { json.payload_block = flip(json.payload_block) }))
show('another body', false, changed((json) => { json.block = flip(json.block) }))
show('another signature', false, changed((json) => { json.proof.signature = flip(json.proof.signature) }))
show('another message', false, changed((json) => { json.proof.message = flip(json.proof.message) }))
show('a proof without its bodies', false, changed((json) => { json.proof.bodies = [] }))
show('another signed event', false, changed((json) => { json.proof.signed = json.uuid }))
for (const field of ['domain', 'log', 'author', 'seq', 'prev', 'logseq', 'kind', 'subject', 'payload_cid', 'size']) {
  show(`another ${field}`, false, changed((json) => { json[field] = log[6].uuid }))
}
show('other parents', false, changed((json) => { json.parents = [] }))
show('another id than asked for', false, unsigned, '--id', log[0].uuid)

const directory = mkdtempSync(join(tmpdir(), 'quipu-ipld-'))
const path = join(directory, 'log.car')
async function car (what, ok, blocks, roots, ...args) {
  writeFileSync(path, await carOf(blocks, roots.map((root) => CID.parse(root))))
  expect(`CAR, ${what}`, ok, 'verify-car.mjs', [path, ...args])
}
const bodies = log.map(bodyOf)
const signatures = log.filter(({ signature }) => signature !== null)
  .map(({ uuid, signature }) => [CID.parse(uuid), unhex(signature)])
const signed = (pairs) => dagCbor.encode({ signatures: pairs })
const payloads = log.map(({ payload_block: block }) => unhex(block))
const values = [...new Map(payloads.map((block) => [String(cidOf(block)), block])).values()]
const distinct = [signed(signatures), ...values]
const tips = vectors.vectors.find(({ name }) => name === 'small-log').feed_ends
await car('whole', true, [...bodies, ...distinct], tips)
await car('without a payload', true, [...bodies, signed(signatures), ...values.slice(1)], tips)
await car('without a payload that is required', false, [...bodies, signed(signatures), ...values.slice(1)], tips, '--payloads-required')
await car('without an event', false, [...bodies.slice(0, 2), ...bodies.slice(3), ...distinct], tips)
await car('an event twice', false, [...bodies, bodies[0], ...distinct], tips)
await car('a payload of nobody', false, [...bodies, ...distinct, dagCbor.encode([new Uint8Array(8), 'stray'])], tips)
await car('roots that are not the tips', false, [...bodies, ...distinct], [log[0].uuid])
await car('without the root event', false, [...bodies.slice(1), ...distinct], tips)
await car('two blocks of signatures', true, [...bodies, signed(signatures.slice(1)), signed(signatures.slice(0, 1)), ...values], tips)
await car('without signatures', false, [...bodies, ...values], tips)
await car('without the last signature', false, [...bodies, signed(signatures.slice(0, -1)), ...values], tips)
await car('a signature of another event', false, [...bodies, signed([[signatures[0][0], signatures[1][1]], ...signatures.slice(1)]), ...values], tips)
const bytes = await carOf([...bodies, ...distinct], tips.map((tip) => CID.parse(tip)))
bytes[bytes.length - 1] ^= 1
writeFileSync(path, bytes)
expect('CAR, a changed byte', false, 'verify-car.mjs', [path])
rmSync(directory, { recursive: true })
