import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it, mock } from 'node:test'
import { formatPublicKey, parseCidr, Secret, type PublicKey } from '@culvert/tunnel/pure'
import { pino } from 'pino'
import { Gateway } from './gateway.ts'
import { createRegistry, openRegistry, type Registry } from './registry.ts'
import { MemoryTunnel } from './testing.ts'

const folder = mkdtempSync(join(tmpdir(), 'culvert-gateway-'))
after(() => rmSync(folder, { recursive: true }))
let files = 0
const log = pino({ level: 'silent' })
const pool = { pool4: parseCidr('10.64.0.0/10'), pool6: parseCidr('fd00::/48') }
const [ann, bob, eve] = [1, 2, 3].map((n) => formatPublicKey(new Uint8Array(32).fill(n))) as [
  PublicKey,
  PublicKey,
  PublicKey,
]
const secret = Secret.of(new Uint8Array(32).fill(9))

describe('the gateway', () => {
  it('loads every device with its addresses, its preshared key and its greatest timestamp', () => {
    const { registry, tunnel } = scene()
    registry.record([{ publicKey: ann, lastTimestamp: stamp(7), latestHandshake: 1, rxBytes: 0, txBytes: 0 }])
    using _ = new Gateway(tunnel, registry, log)
    assert.deepEqual(
      [ann, bob].map((key) => tunnel.told(key)),
      [
        {
          publicKey: ann,
          presharedKey: secret,
          allowedIps: ['10.64.0.2/32', 'fd00::2/128'],
          endpoint: null,
          roaming: 'follow',
          persistentKeepalive: 0,
          lastTimestamp: stamp(7),
        },
        {
          publicKey: bob,
          presharedKey: null,
          allowedIps: ['10.64.0.3/32', 'fd00::3/128'],
          endpoint: null,
          roaming: 'follow',
          persistentKeepalive: 0,
        },
      ],
    )
  })

  it('on a reload adds and removes what differs, and gives no order about the others', () => {
    const { registry, tunnel } = scene()
    using gateway = new Gateway(tunnel, registry, log)
    registry.removeDevice(bob)
    registry.addDevice({ user: 'eve', publicKey: eve, presharedKey: null }, pool, 0)
    tunnel.orders.length = 0
    assert.deepEqual(gateway.reload(), { added: 1, changed: 0, removed: 1 })
    assert.deepEqual(tunnel.orders, [`remove ${bob}`, `put ${eve}`])
    assert.deepEqual(gateway.reload(), { added: 0, changed: 0, removed: 0 })
  })

  it('takes a device in, and cuts it off, when told of it', () => {
    const { registry, tunnel } = scene()
    using gateway = new Gateway(tunnel, registry, log)
    registry.addDevice({ user: 'eve', publicKey: eve, presharedKey: null }, pool, 0)
    const seen = [gateway.refresh(eve), gateway.refresh(eve)]
    registry.removeDevice(eve)
    seen.push(gateway.refresh(eve), gateway.refresh(eve))
    assert.deepEqual(seen, ['added', 'same', 'removed', 'same'])
    assert.equal(tunnel.told(eve), null)
  })

  it('writes a new timestamp within 5 seconds, and usage within 40', () => {
    mock.timers.enable({ apis: ['setInterval'] })
    try {
      const { registry, tunnel } = scene()
      using _ = new Gateway(tunnel, registry, log)
      tunnel.happens(ann, { rxBytes: 100, latestHandshake: 5 }, stamp(1))
      tunnel.happens(bob, { txBytes: 50 }, null)
      mock.timers.tick(5000)
      assert.deepEqual(usage(registry), [
        [100, 0, 1],
        [0, 0, null],
      ])
      mock.timers.tick(35_000)
      assert.deepEqual(usage(registry), [
        [100, 0, 1],
        [0, 50, null],
      ])
    } finally {
      mock.timers.reset()
    }
  })

  it('counts every byte once, over flushes, changes of the record and restarts', () => {
    const { registry, tunnel } = scene()
    const totals: (readonly number[])[] = []
    {
      using gateway = new Gateway(tunnel, registry, log)
      const note = () => totals.push(gateway.devices().map(({ rxBytes }) => rxBytes))
      tunnel.happens(ann, { rxBytes: 100 }, stamp(1))
      note()
      gateway.flush('everything')
      gateway.flush('everything')
      note()
      tunnel.happens(ann, { rxBytes: 150 }, null)
      note()
    }
    const second = new MemoryTunnel()
    {
      using gateway = new Gateway(second, registry, log)
      second.happens(ann, { rxBytes: 7 }, null)
      totals.push(gateway.devices().map(({ rxBytes }) => rxBytes))
    }
    assert.deepEqual(totals, [
      [100, 0],
      [100, 0],
      [150, 0],
      [157, 0],
    ])
    assert.deepEqual(usage(registry), [
      [157, 0, 1],
      [0, 0, null],
    ])
    assert.deepEqual(second.told(ann)?.lastTimestamp, stamp(1))
  })
})

function scene(): { readonly registry: Registry; readonly tunnel: MemoryTunnel } {
  const path = join(folder, `${files++}.db`)
  createRegistry(path)
  const registry = openRegistry(path)
  registry.addDevice({ user: 'ann', publicKey: ann, presharedKey: secret }, pool, 0)
  registry.addDevice({ user: 'bob', publicKey: bob, presharedKey: null }, pool, 0)
  return { registry, tunnel: new MemoryTunnel() }
}

/** Of each device: bytes received, bytes sent, and the first byte of its timestamp. */
function usage(registry: Registry): readonly (readonly [number, number, number | null])[] {
  return registry
    .devices()
    .map(({ rxBytes, txBytes, lastTimestamp }) => [rxBytes, txBytes, lastTimestamp?.[0] ?? null])
}

function stamp(n: number): Uint8Array {
  return new Uint8Array(12).fill(n)
}
