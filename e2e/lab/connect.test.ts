/** The main job: an ordinary program opens a website that its network blocks. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { addresses, names } from '../lab.ts'
import { culvert, get } from './culvert.ts'
import { connect, disconnect, families, openTunnelled, type Tunnelled } from './tunnelled.ts'
import { sequenceHash } from './website.ts'

describe('a blocked website', () => {
  let t: Tunnelled
  before(async () => {
    t = await openTunnelled()
  })
  after(() => t[Symbol.asyncDispose]())

  it('answers 403 before connect, 200 while connected and 403 after disconnect, over IPv4 and IPv6', async () => {
    const { client } = t.lab
    const seen = () => Promise.all(families.map(({ url }) => get(client, url)))
    const blocked = families.map(() => ({ status: 403, you: null }))
    const before = await seen()
    await connect(t.lab)
    const during = await seen()
    const byName = await get(client, `http://${names.website}/`)
    await disconnect(t.lab)
    const later = await seen()
    assert.deepEqual(
      { before, during, byName: byName.status, later },
      {
        before: blocked,
        during: families.map(({ server }) => ({ status: 200, you: server })),
        byName: 200,
        later: blocked,
      },
    )
  })

  it('sees the address of the server and never that of the client', async () => {
    const from = (mark: number) => t.lab.site.stdout.slice(mark).matchAll(/ from (\S+)/g)
    const mark = t.lab.site.stdout.length
    await connect(t.lab)
    for (const { url } of families) await get(t.lab.client, url)
    await disconnect(t.lab)
    assert.deepEqual(
      Array.from(from(mark), ([, address]) => address),
      [addresses.server.v4, addresses.server.v6],
    )
  })

  it('has its server found by name, asked of the network and not through the tunnel', async () => {
    const mark = t.lab.dns.stderr.length
    await connect(t.lab)
    await disconnect(t.lab)
    const asked = t.lab.dns.stderr.slice(mark)
    assert.match(asked, new RegExp(`${addresses.client.v4} ${names.server}\\. A IN`))
  })

  it('is told of in status while it is open', async () => {
    await connect(t.lab)
    const { stdout } = await culvert(t.lab.client, ['status', '--json'])
    await disconnect(t.lab)
    const status = JSON.parse(stdout) as Record<string, unknown>
    const { state, profile, carrier, blocking, cause } = status
    assert.deepEqual(
      { state, profile, carrier, cause },
      { state: 'connected', profile: 'home', carrier: 'udp', cause: null },
    )
    assert.equal(typeof blocking, 'boolean')
    for (const key of ['endpoint', 'since', 'latestHandshake', 'rxBytes', 'txBytes', 'mtu']) {
      assert.ok(status[key] !== undefined && status[key] !== null, `${key} is ${String(status[key])}`)
    }
  })
})

describe('through the tunnel', () => {
  let t: Tunnelled
  before(async () => {
    t = await openTunnelled()
    await connect(t.lab)
  })
  after(() => t[Symbol.asyncDispose]())

  for (const { family, site, url, server } of families) {
    it(`ICMP passes over IPv${family}, small and full-sized`, async (test) => {
      // A kernel that has run out of ICMP buffers does not even answer itself, on one processor or on all: then this would
      // say nothing of the tunnel.
      const self = await t.lab.website.exec(['ping', '-c', '1', '-i', '0.2', '-w', '5', site])
      if (self.status !== 0)
        return test.skip(`this kernel answers no IPv${family} echo of its own: reboot it`)
      for (const size of ['8', '1300', '4000']) {
        // Until three answers are there: what is asked is whether they pass, not whether each does.
        await t.lab.client.run(['ping', '-c', '3', '-i', '0.1', '-w', '20', '-s', size, site])
      }
    })

    for (const protocol of ['TCP', 'UDP']) {
      it(`${protocol} passes over IPv${family}, and every message comes back as it went`, async () => {
        const script = fileURLToPath(import.meta.resolve('./echo.ts'))
        const argv = [process.execPath, script, protocol.toLowerCase(), site, '200']
        const { status, stderr } = await t.lab.client.exec(argv)
        assert.equal(status, 0, stderr)
      })
    }

    it(`1 GiB arrives over IPv${family} with its hash intact`, async (test) => {
      const began = performance.now()
      const hash = createHash('sha256')
      const curl = t.lab.client.stream(['curl', '--silent', '--max-time', '240', `${url}/bytes/${GIBIBYTE}`])
      let length = 0
      for await (const chunk of curl as AsyncIterable<Buffer>) {
        length += chunk.length
        hash.update(chunk)
      }
      const seconds = (performance.now() - began) / 1000
      test.diagnostic(
        `${((GIBIBYTE * 8) / seconds / 1e9).toFixed(2)} Gbit/s to ${server}'s client, hashing included`,
      )
      assert.deepEqual(
        { length, sha256: hash.digest('hex') },
        { length: GIBIBYTE, sha256: sequenceHash(GIBIBYTE) },
      )
    })
  }
})

const GIBIBYTE = 2 ** 30
