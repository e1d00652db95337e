/** Anything may arrive at a server's port. It counts it, and goes on. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { addresses } from '../lab.ts'
import { capture } from './capture.ts'
import { addDevice, culvert, get, importConf, SERVER_PORT } from './culvert.ts'
import { connect, disconnect, families, openTunnelled } from './tunnelled.ts'
import { messageKind } from './wireguard-message.ts'

/** Of the issue; the long run goes on for ten minutes. */
const DATAGRAMS = process.env['CULVERT_LONG'] === undefined ? 24_000 : 4_000_000

test(`a server goes on serving under ${DATAGRAMS.toLocaleString('en')} datagrams of every type and length`, async (t) => {
  await using all = await openTunnelled()
  const { lab, server } = all
  await lab.isp.ip('link set wan gso_max_segs 1')
  // Real messages to throw back, mutilated: a handshake and data, both ways.
  const watching = await capture(lab.isp, 'wan', `${lab.folder}/real.pcap`, 2000)
  await connect(lab)
  await get(lab.client, families[0].url)
  const real = (await watching.seen()).filter((seen) => messageKind(seen) !== null)
  assert.ok(real.length > 4)
  await lab.client.write(
    `${lab.folder}/real.hex`,
    real.map(({ head }) => `${head.toString('hex')}\n`).join(''),
  )

  const script = fileURLToPath(import.meta.resolve('./fuzz.ts'))
  const fuzz = (target: string, count: number, seed: number) => {
    const args = [target, `${SERVER_PORT}`, `${count}`, `${seed}`, `${lab.folder}/real.hex`]
    return lab.neighbour.run([process.execPath, script, ...args], { timeout: 15 * 60_000 })
  }
  await fuzz(addresses.server.v4, 2000, 1)
  const [before, said] = [residentMemory(server.pid), server.stderr.length]
  const began = performance.now()
  await fuzz(addresses.server.v4, DATAGRAMS / 2, 2)
  await fuzz(addresses.server.v6, DATAGRAMS / 2, 3)
  const after = residentMemory(server.pid)
  const seconds = ((performance.now() - began) / 1000).toFixed(1)
  t.diagnostic(
    `resident memory ${before} kB before, ${after} kB after ${DATAGRAMS} datagrams in ${seconds} s`,
  )

  assert.ok(server.running)
  assert.ok(after < 4 * before, `${before} kB grew to ${after} kB`)
  const loud = server.stderr
    .slice(said)
    .split('\n')
    .filter((line) => line !== '' && !/"level":"(?:debug|trace)"/.test(line))
  assert.deepEqual(loud, [])
  // The session that was up still is, and new ones are made.
  for (const { url, server } of families)
    assert.deepEqual(await get(lab.client, url), { status: 200, you: server })
  await disconnect(lab)
  await importConf(lab.client, lab.folder, 'after', await addDevice(lab.server, 'later'))
  await connect(lab, 'after')
  assert.equal((await get(lab.client, families[1].url)).status, 200)
  const { status } = await culvert(lab.client, ['disconnect', '--wait', '10'])
  assert.equal(status, 0)
})

/** VmRSS in kB. */
function residentMemory(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
}
