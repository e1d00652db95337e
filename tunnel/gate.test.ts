import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseIp, parsePort } from './address.ts'
import type { SocketAddress } from './address.ts'
import { CookieMemory } from './cookie.ts'
import { memoryPrimitives as primitives } from './crypto-memory.ts'
import { HandshakeGate } from './gate.ts'
import { wireguardGo } from './noise-vector.ts'
import { decodeCookieReply } from './wire.ts'

const at = (address: string, port = 1000): SocketAddress => ({
  address: parseIp(address),
  port: parsePort(port),
})
const home = at('192.0.2.1')

function loaded(settings: { readonly silent?: boolean } = {}): HandshakeGate {
  const gate = new HandshakeGate(primitives)
  gate.setIdentity(wireguardGo.responderPublic)
  gate.set({ underLoadAt: 0, perSecond: 20, burst: 5, silent: settings.silent ?? false })
  return gate
}

/** A message that carries the cookie of this address. */
function proven(gate: HandshakeGate, from: SocketAddress, now = 0): Uint8Array {
  const message = wireguardGo.initiation.slice()
  const memory = new CookieMemory(primitives, wireguardGo.responderPublic)
  memory.stamp(message, now)
  const verdict = gate.judge(message, 7, from, 0, now)
  assert.ok(verdict.tag === 'under-load' && verdict.cookieReply !== null)
  assert.equal(decodeCookieReply(verdict.cookieReply)?.receiver, 7)
  assert.equal(memory.consume(verdict.cookieReply, now), true)
  memory.stamp(message, now)
  return message
}

describe('the gate', () => {
  it('passes nothing before it has a key, and then what wireguard-go stamped for that key', () => {
    const gate = new HandshakeGate(primitives)
    assert.deepEqual(gate.judge(wireguardGo.initiation, 1, home, 0, 0), { tag: 'bad-mac' })
    gate.setIdentity(wireguardGo.responderPublic)
    assert.deepEqual(gate.judge(wireguardGo.initiation, 1, home, 0, 0), { tag: 'pass' })
    assert.deepEqual(gate.judge(wireguardGo.initiation.with(50, 0), 1, home, 0, 0), { tag: 'bad-mac' })
    assert.deepEqual([gate.fits(wireguardGo.initiation), gate.fits(wireguardGo.response)], [true, false])
  })

  it('asks for a cookie from so many waiting handshakes on', () => {
    const gate = new HandshakeGate(primitives)
    gate.setIdentity(wireguardGo.responderPublic)
    const verdicts = [31, 32].map((waiting) => gate.judge(wireguardGo.initiation, 1, home, waiting, 0).tag)
    assert.deepEqual(verdicts, ['pass', 'under-load'])
  })

  it('takes a cookie from its address and its port alone', () => {
    const gate = loaded()
    const message = proven(gate, home)
    const verdicts = [home, at('192.0.2.2'), at('192.0.2.1', 1001), at('2001:db8::1')].map(
      (from) => gate.judge(message, 7, from, 0, 0).tag,
    )
    assert.deepEqual(verdicts, ['pass', 'under-load', 'under-load', 'under-load'])
  })

  it('takes a cookie for 120 s', () => {
    const gate = loaded()
    const message = proven(gate, home)
    assert.equal(gate.judge(message, 7, home, 0, 120_000).tag, 'pass')
    assert.equal(gate.judge(message, 7, home, 0, 120_001).tag, 'under-load')
  })

  it('gives each address five at once and twenty a second, and each IPv6 /64 as much', () => {
    const gate = loaded()
    const burst = (from: SocketAddress, now: number) => {
      const message = proven(gate, from, now)
      return Array.from({ length: 40 }, () => gate.judge(message, 7, from, 0, now).tag).filter(
        (tag) => tag === 'pass',
      ).length
    }
    assert.deepEqual(
      [
        burst(home, 0),
        burst(home, 0),
        burst(at('192.0.2.2'), 0),
        burst(home, 100),
        burst(home, 10_000),
        burst(at('2001:db8::1'), 0),
        burst(at('2001:db8::2'), 0),
        burst(at('2001:db8:0:1::1'), 0),
      ],
      [5, 0, 5, 2, 5, 5, 0, 5],
    )
  })

  it('gives no cookie when it is silent, and goes by the share of the address', () => {
    const gate = loaded({ silent: true })
    const verdicts = Array.from({ length: 7 }, () => gate.judge(wireguardGo.initiation, 7, home, 0, 0))
    assert.deepEqual(verdicts.slice(4), [
      { tag: 'pass' },
      { tag: 'under-load', cookieReply: null },
      { tag: 'under-load', cookieReply: null },
    ])
  })
})
