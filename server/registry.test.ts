import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, describe, it } from 'node:test'
import { formatPublicKey, parseCidr, Secret, type PublicKey } from '@culvert/tunnel/pure'
import fc from 'fast-check'
import { addressesOf, lastNumber } from './pool.ts'
import { createRegistry, openRegistry } from './registry.ts'

const folder = mkdtempSync(join(tmpdir(), 'culvert-registry-'))
after(() => rmSync(folder, { recursive: true }))
let files = 0
const pool = { pool4: parseCidr('10.64.0.0/10'), pool6: parseCidr('fd00::/48') }

describe('the registry', () => {
  it('gives a device back as it was added, and after it was closed', () => {
    const path = fresh()
    {
      using registry = openRegistry(path)
      registry.addDevice({ user: 'ann', publicKey: key(1), presharedKey: secret(9) }, pool, 1000)
      registry.addDevice({ user: 'Ann', publicKey: key(2), presharedKey: null }, pool, 2000)
    }
    using registry = openRegistry(path)
    const none = { lastTimestamp: null, latestHandshake: null, rxBytes: 0, txBytes: 0 }
    assert.deepEqual(
      registry
        .devices()
        .map((device) => ({ ...device, presharedKey: device.presharedKey?.base64() ?? null })),
      [
        {
          user: 'ann',
          publicKey: key(1),
          presharedKey: secret(9).base64(),
          ...addressesOf(pool, 2),
          created: 1000,
          ...none,
        },
        {
          user: 'ann',
          publicKey: key(2),
          presharedKey: null,
          ...addressesOf(pool, 3),
          created: 2000,
          ...none,
        },
      ],
    )
  })

  it('refuses a public key that any user has already', () => {
    using registry = openRegistry(fresh())
    registry.addDevice({ user: 'ann', publicKey: key(1), presharedKey: null }, pool, 0)
    assert.throws(() => registry.addDevice({ user: 'bob', publicKey: key(1), presharedKey: null }, pool, 0), {
      code: 'refused',
      message: `the public key ${key(1)} belongs to a device of "ann" already`,
    })
  })

  it('adds usage up, and lets neither a timestamp nor a handshake go back', () => {
    using registry = openRegistry(fresh())
    registry.addDevice({ user: 'ann', publicKey: key(1), presharedKey: null }, pool, 0)
    const step = (timestamp: Uint8Array | null, latestHandshake: number | null) => ({
      publicKey: key(1),
      lastTimestamp: timestamp,
      latestHandshake,
      rxBytes: 10,
      txBytes: 1,
    })
    registry.record([step(stamp(5), 500), step(null, null)])
    registry.record([step(stamp(4), 400), { ...step(null, null), publicKey: key(7) }])
    const { lastTimestamp, latestHandshake, rxBytes, txBytes } = registry.device(key(1)) ?? {}
    assert.deepEqual(
      { lastTimestamp: lastTimestamp ?? null, latestHandshake, rxBytes, txBytes },
      { lastTimestamp: stamp(5), latestHandshake: 500, rxBytes: 30, txBytes: 3 },
    )
  })

  it('is made whole or not at all', () => {
    const path = join(folder, `${files++}.db`)
    mkdirSync(`${path}-journal`) // in the way of SQLite's own
    assert.throws(() => createRegistry(path))
    assert.equal(existsSync(path), false)
  })

  it('is readable by its owner only, its journals too', () => {
    const path = fresh()
    using registry = openRegistry(path)
    registry.addDevice({ user: 'ann', publicKey: key(1), presharedKey: null }, pool, 0)
    assert.deepEqual(
      [path, `${path}-wal`, `${path}-shm`].map((file) => statSync(file).mode & 0o777),
      [0o600, 0o600, 0o600],
    )
  })

  it('that is missing, damaged, foreign or too new is named, with what to do', () => {
    const missing = join(folder, 'missing.db')
    assert.throws(() => openRegistry(missing), {
      code: 'not-initialised',
      message: /missing\.db does not exist: run/,
    })

    const garbage = join(folder, 'garbage.db')
    writeFileSync(garbage, 'not a database at all, but long enough to be looked at'.repeat(100))
    assert.throws(() => openRegistry(garbage), {
      code: 'bad-state',
      message: `${garbage} is damaged: restore it from a backup`,
    })

    const foreign = join(folder, 'foreign.db')
    using other = new DatabaseSync(foreign)
    other.exec('CREATE TABLE a (b)')
    assert.throws(() => openRegistry(foreign), {
      code: 'bad-state',
      message: /not a registry of culvert-server/,
    })

    const wrong = fresh()
    {
      using registry = openRegistry(wrong)
      registry.addDevice({ user: 'ann', publicKey: key(1), presharedKey: null }, pool, 0)
      using database = new DatabaseSync(wrong)
      database.exec("UPDATE device SET address4 = '10.64.0'")
    }
    using registry = openRegistry(wrong)
    for (const read of [() => registry.devices(), () => registry.device(key(1))]) {
      assert.throws(read, {
        code: 'bad-state',
        message: `${wrong} is damaged: "10.64.0" is not an IPv4 or IPv6 address; restore it from a backup`,
      })
    }

    const newer = fresh()
    using future = new DatabaseSync(newer)
    future.exec('PRAGMA user_version = 99')
    assert.throws(() => openRegistry(newer), {
      code: 'bad-state',
      message: /written by a newer culvert-server/,
    })
  })
})

describe('addresses', () => {
  it('are unique, inside the pool and never the server’s, and one that was released comes back last of all', () => {
    const small = { pool4: parseCidr('192.168.7.0/28'), pool6: parseCidr('fd00:7::/64') }
    const walk = fc.array(fc.oneof({ weight: 2, arbitrary: fc.constant(null) }, fc.nat()), { maxLength: 80 })
    fc.assert(
      fc.property(walk, (steps) => {
        using registry = openRegistry(fresh())
        // The model: who has which number, and which numbers are free, in the order in which they come next.
        const held = new Map<PublicKey, number>()
        const free = Array.from({ length: lastNumber(small) - 1 }, (_, i) => i + 2)
        for (const [i, step] of steps.entries()) {
          if (step === null) {
            const next = free.shift()
            const add = () =>
              registry.addDevice({ user: 'u', publicKey: key(i), presharedKey: null }, small, i)
            if (next === undefined) {
              assert.throws(add, { code: 'pool-full' })
              continue
            }
            const { address4, address6 } = add()
            assert.deepEqual({ address4, address6 }, addressesOf(small, next))
            held.set(key(i), next)
          } else if (held.size > 0) {
            const [gone, number] = [...held][step % held.size] ?? assert.fail()
            assert.equal(registry.removeDevice(gone), true)
            held.delete(gone)
            free.push(number)
          }
        }
        assert.deepEqual(
          registry.devices().map(({ publicKey, address4 }) => [publicKey, address4]),
          [...held].sort(([, a], [, b]) => a - b).map(([who, n]) => [who, addressesOf(small, n).address4]),
        )
      }),
      { numRuns: 25 },
    )
  })
})

function fresh(): string {
  const path = join(folder, `${files++}.db`)
  createRegistry(path)
  return path
}

function key(n: number): PublicKey {
  return formatPublicKey(new Uint8Array(32).fill(n + 1))
}

function secret(n: number): Secret {
  return Secret.of(new Uint8Array(32).fill(n))
}

function stamp(n: number): Uint8Array {
  return new Uint8Array(12).fill(n)
}
