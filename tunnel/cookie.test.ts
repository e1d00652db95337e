import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { CookieMemory } from './cookie.ts'
import { memoryPrimitives as primitives } from './crypto-memory.ts'
import { wireguardGo } from './noise-vector.ts'
import { macs } from './wire.ts'

/** wireguard-go's initiation before its MACs were written. */
function bare(): Uint8Array {
  return wireguardGo.initiation.slice().fill(0, 116)
}

function stamped(memory: CookieMemory, now = 0): { readonly mac1: Uint8Array; readonly mac2: Uint8Array } {
  const message = bare()
  memory.stamp(message, now)
  const { mac1, mac2 } = macs(message)
  return { mac1, mac2 }
}

const none = new Uint8Array(16)
const { mac1 } = macs(wireguardGo.initiation)

describe('the memory of cookies', () => {
  it('stamps, takes a cookie and stamps again as wireguard-go does', () => {
    const memory = new CookieMemory(primitives, wireguardGo.responderPublic)
    assert.deepEqual(stamped(memory), { mac1, mac2: none })
    assert.equal(memory.consume(wireguardGo.cookieReply, 0), true)
    assert.deepEqual(stamped(memory), { mac1, mac2: wireguardGo.mac2 })
  })

  it('takes no cookie before it has sent anything, nor a second time for the same message', () => {
    const memory = new CookieMemory(primitives, wireguardGo.responderPublic)
    assert.equal(memory.consume(wireguardGo.cookieReply, 0), false)
    stamped(memory)
    assert.deepEqual(
      [memory.consume(wireguardGo.cookieReply, 0), memory.consume(wireguardGo.cookieReply, 0)],
      [true, false],
    )
  })

  it('takes no cookie that is forged, for another message, or from another peer', () => {
    const forged = wireguardGo.cookieReply.with(40, (wireguardGo.cookieReply[40] ?? 0) ^ 1)
    const memory = new CookieMemory(primitives, wireguardGo.responderPublic)
    stamped(memory)
    assert.equal(memory.consume(forged, 0), false)
    memory.stamp(bare().with(20, 1), 0)
    assert.equal(memory.consume(wireguardGo.cookieReply, 0), false)
    const other = new CookieMemory(primitives, wireguardGo.initiatorPublic)
    stamped(other)
    assert.equal(other.consume(wireguardGo.cookieReply, 0), false)
    assert.equal(other.consume(new Uint8Array(64), 0), false)
  })

  it('uses a cookie for 115 s, its 120 s less 5 s on the way', () => {
    const memory = new CookieMemory(primitives, wireguardGo.responderPublic)
    stamped(memory)
    memory.consume(wireguardGo.cookieReply, 1000)
    assert.deepEqual([stamped(memory, 116_000).mac2, stamped(memory, 116_001).mac2], [wireguardGo.mac2, none])
  })
})
