import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  parseCidr,
  parseInterfaceAddress,
  parseIp,
  parsePort,
  parsePublicKey,
  Secret,
  type IpAddress,
} from '@culvert/tunnel'
import type { ProfileId } from './contract/index.ts'
import { createLink, primaryPeer, type DialOptions } from './dial.ts'
import { HelperError } from './error.ts'
import { MemoryKernel } from './host/kernel-memory.ts'
import type { KeyedProfile } from './store.ts'
import { memoryTunnels, type MemoryServers } from './tunnel-memory.ts'

const one = parsePublicKey('AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=')
const two = parsePublicKey('BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=')
const first = parseIp('203.0.113.1')
const second = parseIp('203.0.113.2')
const third = parseIp('203.0.113.3')
const port = parsePort(51820)

function keyed(allowed: readonly (readonly [typeof one, string, string | null])[]): KeyedProfile {
  return {
    privateKey: Secret.of(new Uint8Array(32).fill(7)),
    presharedKeys: new Map([[one, Secret.of(new Uint8Array(32).fill(9))]]),
    profile: {
      id: '0000000000000001' as ProfileId,
      name: 'home',
      owner: 0,
      shared: false,
      addresses: [parseInterfaceAddress('10.64.0.2/32')],
      dns: [],
      searchDomains: [],
      mtu: null,
      listenPort: null,
      lastUsed: null,
      peers: allowed.map(([publicKey, prefix, host]) => ({
        publicKey,
        endpoint: host === null ? null : { host, port },
        allowedIps: [parseCidr(prefix)],
        persistentKeepalive: 0,
      })),
    },
  }
}

function dialler(options: Partial<DialOptions> = {}) {
  const kernel = new MemoryKernel()
  const servers: MemoryServers = { answering: true, tunnels: [] }
  const names = new Map<string, readonly IpAddress[]>([['vpn.example', [first, second]]])
  const stages: string[] = []
  const link = createLink({
    openTunnel: memoryTunnels(kernel, servers),
    resolve: (name) => {
      const found = names.get(name)
      return found ? Promise.resolve(found) : Promise.reject(new HelperError('failed', `no ${name}`))
    },
    pathMtu: () => Promise.resolve(1400),
    nameServers: () => Promise.resolve([]),
    patience: 50,
    warn: () => {},
    ...options,
  })
  const open = (profile: KeyedProfile, attempt = 1) =>
    link.open(profile, attempt, (stage) => stages.push(stage), new AbortController().signal)
  return { link, kernel, servers, names, stages, open }
}

const simple = keyed([[one, '0.0.0.0/0', 'vpn.example']])
const established = (address: IpAddress) => ({
  tag: 'established',
  carrier: 'udp',
  endpoint: { address, port },
})

describe('open', () => {
  it('finds the server, opens the tunnel with its MTU, and shakes hands', async () => {
    const { link, servers, stages, open } = dialler()
    assert.deepEqual(await open(simple), established(first))
    assert.deepEqual(stages, ['resolve', 'handshake'])
    assert.equal(link.traffic()?.mtu, 1340)
    assert.deepEqual(
      [...(servers.tunnels[0]?.configured.values() ?? [])].map(({ presharedKey, ...peer }) => ({
        ...peer,
        psk: presharedKey?.bytes()[0],
      })),
      [
        {
          publicKey: one,
          endpoint: { address: first, port },
          allowedIps: ['0.0.0.0/0'],
          roaming: 'pinned',
          persistentKeepalive: 0,
          psk: 9,
        },
      ],
    )
  })

  it('marks the tunnel and lets it queue what one send can carry, since programs of this machine write it', async () => {
    const { servers, open } = dialler()
    await open(simple)
    const { onEvent: _, privateKey, ...options } = servers.tunnels[0]?.options ?? assert.fail()
    assert.equal(privateKey, simple.privateKey)
    assert.deepEqual(options, {
      name: 'culvert0',
      mtu: 1340,
      port: 0,
      fwmark: 0x63756c76,
      gso: 'auto',
      superPackets: 'one-send',
    })
  })

  it('tries the next address at the next attempt, in the same tunnel', async () => {
    const { servers, open } = dialler()
    servers.answering = false
    assert.deepEqual(await open(simple, 1), {
      tag: 'attempt-failed',
      cause: 'no-answer',
      detail: '203.0.113.1:51820 did not answer the handshake',
      retry: 'again',
    })
    servers.answering = true
    assert.deepEqual(await open(simple, 2), established(second))
    assert.equal(servers.tunnels.length, 1)
  })

  it('asks for the name again at every attempt, and follows where it moved', async () => {
    const { names, open } = dialler()
    await open(simple)
    names.set('vpn.example', [third])
    assert.deepEqual(await open(simple), established(third))
  })

  it('says which name cannot be resolved, and that there is no route', async () => {
    const lost = keyed([[one, '0.0.0.0/0', 'gone.example']])
    assert.deepEqual(
      [await dialler().open(lost), await dialler({ pathMtu: () => Promise.resolve(null) }).open(simple)],
      [
        { tag: 'attempt-failed', cause: 'endpoint-unresolved', detail: 'no gone.example', retry: 'again' },
        {
          tag: 'attempt-failed',
          cause: 'offline',
          detail: 'there is no route to vpn.example (203.0.113.1, 203.0.113.2)',
          retry: 'again',
        },
      ],
    )
  })

  it('gives up for good on what no attempt mends', async () => {
    const { kernel, open } = dialler()
    kernel.addLink('culvert0', 1500)
    assert.deepEqual(await open(simple), {
      tag: 'attempt-failed',
      cause: 'tunnel-failed',
      detail: 'there is an interface "culvert0" already',
      retry: 'never',
    })
    const nowhere = await dialler().open(keyed([[one, '0.0.0.0/0', null]]))
    assert.deepEqual(nowhere, {
      tag: 'attempt-failed',
      cause: 'no-endpoint',
      detail: '"home" does not say where its server is (Endpoint)',
      retry: 'never',
    })
  })

  it('configures every peer, and is up with the one that carries the default route', async () => {
    const profile = keyed([
      [one, '10.0.0.0/8', 'gone.example'],
      [two, '0.0.0.0/0', 'vpn.example'],
    ])
    assert.equal(primaryPeer(profile.profile)?.publicKey, two)
    const { servers, open } = dialler()
    assert.deepEqual(await open(profile), established(first))
    assert.deepEqual(
      [...(servers.tunnels[0]?.configured.values() ?? [])].map(({ publicKey, endpoint }) => [
        publicKey,
        endpoint,
      ]),
      [
        [one, null],
        [two, { address: first, port }],
      ],
    )
  })

  it('ends when it is told to, and leaves no half of a tunnel behind', async () => {
    const { link, servers, kernel } = dialler({ patience: 60_000 })
    servers.answering = false
    const abort = new AbortController()
    const opening = link.open(simple, 1, (stage) => stage === 'handshake' && abort.abort(), abort.signal)
    await assert.rejects(opening, { name: 'AbortError' })
    await link.close()
    assert.equal(kernel.links.has('culvert0'), false)
  })
})

describe('watch', () => {
  it('tells when the tunnel stopped itself; the next attempt opens another', async () => {
    const { link, servers, open } = dialler()
    await open(simple)
    const watching = link.watch(new AbortController().signal)
    servers.tunnels[0]?.tell({ tag: 'fault', message: 'worker died' })
    assert.deepEqual(await watching, { tag: 'lost', cause: 'tunnel-failed', detail: 'worker died' })
    assert.deepEqual(await open(simple), established(first))
    assert.deepEqual(
      servers.tunnels.map(({ isClosed }) => isClosed),
      [true, false],
    )
  })

  it('tells when handshakes were given up, also between open and watch', async () => {
    const { link, servers, open } = dialler()
    await open(simple)
    servers.tunnels[0]?.tell({ tag: 'gave-up', peer: one })
    assert.deepEqual(await link.watch(new AbortController().signal), {
      tag: 'lost',
      cause: 'no-answer',
      detail: 'the server does not answer any more',
    })
  })

  it('tells when packets go and nothing comes', async (context) => {
    const { link, servers, open } = dialler()
    await open(simple)
    let now = 0
    context.mock.method(performance, 'now', () => now)
    context.mock.timers.enable({ apis: ['setInterval'] })
    const watching = link.watch(new AbortController().signal)
    const [tunnel] = servers.tunnels
    assert.ok(tunnel)
    for (const sent of [1, 1, 1, 1]) {
      tunnel.sentPackets = sent
      now += 5_000
      context.mock.timers.tick(5_000)
    }
    assert.deepEqual(await watching, {
      tag: 'lost',
      cause: 'no-answer',
      detail: 'the server does not answer any more',
    })
  })

  it('does not take packets to another peer for questions to this one', async (context) => {
    const { link, servers, open } = dialler()
    await open(
      keyed([
        [one, '0.0.0.0/0', 'vpn.example'],
        [two, '10.0.0.0/8', 'vpn.example'],
      ]),
    )
    context.mock.timers.enable({ apis: ['setInterval'] })
    let now = 0
    context.mock.method(performance, 'now', () => now)
    const abort = new AbortController()
    const watching = link.watch(abort.signal)
    const [tunnel] = servers.tunnels
    assert.ok(tunnel)
    for (let sent = 1; sent < 10; sent++) {
      tunnel.sentPackets = sent
      now += 5_000
      context.mock.timers.tick(5_000)
    }
    abort.abort()
    await assert.rejects(watching, { name: 'AbortError' })
  })

  it('ends when it is told to', async () => {
    const { link, open } = dialler()
    await open(simple)
    const abort = new AbortController()
    const watching = link.watch(abort.signal)
    abort.abort()
    await assert.rejects(watching, { name: 'AbortError' })
  })
})
