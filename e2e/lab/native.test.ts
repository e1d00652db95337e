/**
 * The Rust data plane on a real TUN, over cables that refuse what it would like to do: each time it has to notice, do without, and lose or
 * change nothing. What super-packets hide, hashes show: a segment that we cut wrong would have a right checksum of ours.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { CABLE, DEVICE, openPair, PORT, type End, type Pair } from '../bench/pair.ts'
import { makeKeys } from '../peers/uapi.ts'
import type { Program } from './program.ts'
import { installed } from './requirements.ts'
import { sequence, sequenceHash, siteReady } from './website.ts'

describe('the Rust data plane on a real TUN', () => {
  const length = 20_000_000
  let folder: string
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'culvert-native-'))
    await writeFile(join(folder, 'body'), sequence(length))
  })
  after(() => rm(folder, { recursive: true }))

  for (const { name, gso, without, prepare } of cables()) {
    it(`carries every byte over ${name}`, { skip: without() }, async () => {
      await using tunnelled = await openTunnelled(gso)
      const { near, far } = tunnelled.pair
      for (const { host } of [near, far]) await prepare(host)
      for (const site of ['10.77.0.2', '[fd77::2]']) {
        const down = near.host.stream(['curl', '-sf', '-m', '60', `http://${site}/bytes/${length}`])
        const hash = createHash('sha256')
        for await (const chunk of down) hash.update(chunk as Buffer) // a stream of bytes
        assert.equal(hash.digest('hex'), sequenceHash(length), `down from ${site}`)
        const post = `curl -sf -m 60 --data-binary @${join(folder, 'body')} http://${site}/bytes`
        assert.deepEqual(
          JSON.parse(await near.host.run(post.split(' '))),
          { received: length, sha256: await hashOf(join(folder, 'body')) },
          `up to ${site}`,
        )
        const echo = [process.execPath, fileURLToPath(new URL('echo.ts', import.meta.url))]
        const address = site.replaceAll(/[[\]]/g, '')
        await near.host.run([...echo, 'udp', address, '100'])
      }
    })
  }

  it('stops, and says so, when its interface is deleted under it', async () => {
    await using tunnelled = await openTunnelled('auto')
    const { pair, programs } = tunnelled
    await pair.far.host.ip(`link delete ${DEVICE}`)
    const ended = await programs[0]?.ended
    assert.equal(ended?.status, 1)
    assert.match(ended?.stderr ?? '', /^culvert-out stopped: /)
  })

  it('takes no name that an interface has already, of its own kind or another', async () => {
    await using tunnelled = await openTunnelled('auto')
    const { near, far } = tunnelled.pair
    const { privateKey, publicKey } = makeKeys()
    const input = confOf(privateKey, publicKey, near, far).replace(/ListenPort.*/, '')
    for (const device of [DEVICE, CABLE]) {
      const { status, stderr } = await near.host.exec([...carry, device], { input })
      assert.equal(status, 1)
      assert.match(stderr, new RegExp(`there is an interface ${device} already: stop what made it`))
    }
  })
})

interface Tunnelled extends AsyncDisposable {
  readonly pair: Pair
  /** At the far end, then at the near one. */
  readonly programs: readonly Program[]
}

async function openTunnelled(gso: 'auto' | 'off'): Promise<Tunnelled> {
  await using stack = new AsyncDisposableStack()
  const pair = stack.use(await openPair())
  const { near, far } = pair
  const [nearKeys, farKeys] = [makeKeys(), makeKeys()]
  const programs: Program[] = []
  for (const [own, other, privateKey, publicKey] of [
    [far, near, farKeys.privateKey, nearKeys.publicKey],
    [near, far, nearKeys.privateKey, farKeys.publicKey],
  ] as const) {
    const input = confOf(privateKey, publicKey, own, other)
    const program = stack.use(own.host.start([...carry, DEVICE, gso], { input }))
    await program.says(/^ready/m, 15_000)
    const last = own.inside.at(-1)
    await own.host.ip(
      `address add ${own.inside}/24 dev ${DEVICE}`,
      `address add fd77::${last}/64 dev ${DEVICE} nodad`,
      `link set ${DEVICE} up`,
    )
    programs.push(program)
  }
  const site = [process.execPath, fileURLToPath(new URL('website.ts', import.meta.url)), 'open']
  await stack.use(far.host.start(site)).says(siteReady, 15_000)
  const open = stack.move()
  return { pair, programs, [Symbol.asyncDispose]: () => open.disposeAsync() }
}

function confOf(privateKey: string, publicKey: string, own: End, other: End): string {
  return `
    [Interface]
    PrivateKey = ${privateKey}
    ListenPort = ${PORT}
    Address = ${own.inside}/24
    [Peer]
    PublicKey = ${publicKey}
    Endpoint = ${other.outside}:${PORT}
    AllowedIPs = ${other.inside}/32, fd77::${other.inside.at(-1)}/128`
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer) // no encoding: bytes
  return hash.digest('hex')
}

interface Cable {
  readonly name: string
  readonly gso: 'auto' | 'off'
  /** Why it cannot be had; false: it can. */
  without(): string | false
  prepare(host: End['host']): Promise<unknown>
}

function cables(): readonly Cable[] {
  const nothing = () => false as const
  const ethtool = () => (installed('ethtool') ? false : 'ethtool is not installed')
  return [
    { name: 'a cable that takes super-packets', gso: 'auto', without: nothing, prepare: async () => {} },
    {
      name: 'a real wire, which takes no super-packet',
      gso: 'auto',
      without: nothing,
      prepare: (host) => host.ip(`link set ${CABLE} gso_max_segs 1`),
    },
    {
      name: 'a card that calculates no checksums (EIO)',
      gso: 'auto',
      without: ethtool,
      prepare: (host) => host.run(['ethtool', '-K', CABLE, 'tx', 'off']),
    },
    {
      name: 'a cable that is narrower than a sealed packet (EINVAL, fragments)',
      gso: 'auto',
      without: nothing,
      prepare: (host) => host.ip(`link set ${CABLE} mtu 1400`),
    },
    {
      name: 'any cable, with super-packets switched off',
      gso: 'off',
      without: nothing,
      prepare: async () => {},
    },
  ]
}

const carry = [process.execPath, fileURLToPath(new URL('../peers/culvert.ts', import.meta.url))]
