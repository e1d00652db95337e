/**
 * Random walks: devices, a bad network, sleep, new addresses, new keys. Whatever happens, no key seals twice under one
 * counter, no packet comes from the wrong peer or twice, nothing throws; and when the weather clears, traffic flows.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { memoryPrimitives } from './crypto-memory.ts'
import type { DataplaneEvent } from './dataplane.ts'
import { Secret } from './key.ts'
import { clear, Lab } from './lab.ts'
import type { LabHost, Weather } from './lab.ts'
import { decodeData } from './wire.ts'

type Step =
  | { readonly tag: 'send'; readonly from: number; readonly to: number; readonly packets: number }
  | { readonly tag: 'run'; readonly milliseconds: number }
  | { readonly tag: 'weather'; readonly weather: Weather }
  | { readonly tag: 'suspend'; readonly host: number; readonly milliseconds: number }
  | { readonly tag: 'move'; readonly host: number }
  | { readonly tag: 'new-key'; readonly host: number }
  | { readonly tag: 'forget'; readonly host: number; readonly other: number }
  | { readonly tag: 'load'; readonly host: number; readonly underLoadAt: number }

const host = fc.nat(2)
const times = fc.oneof(
  fc.integer({ min: 1, max: 500 }),
  fc.integer({ min: 500, max: 20_000 }),
  fc.constantFrom(115_000, 125_000, 185_000, 545_000),
)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      tag: fc.constant('send' as const),
      from: host,
      to: host,
      packets: fc.constantFrom(1, 1, 3, 140),
    }),
  },
  { weight: 8, arbitrary: fc.record({ tag: fc.constant('run' as const), milliseconds: times }) },
  {
    weight: 3,
    arbitrary: fc.record({
      tag: fc.constant('weather' as const),
      weather: fc.record({
        loss: fc.constantFrom(0, 0.1, 0.5, 1),
        copies: fc.constantFrom(0, 0.3),
        latency: fc.constantFrom(1, 50, 300),
        jitter: fc.constantFrom(0, 40, 400),
      }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ tag: fc.constant('suspend' as const), host, milliseconds: times }) },
  { weight: 2, arbitrary: fc.record({ tag: fc.constant('move' as const), host }) },
  { weight: 1, arbitrary: fc.record({ tag: fc.constant('new-key' as const), host }) },
  { weight: 1, arbitrary: fc.record({ tag: fc.constant('forget' as const), host, other: host }) },
  {
    weight: 1,
    arbitrary: fc.record({ tag: fc.constant('load' as const), host, underLoadAt: fc.constantFrom(0, 32) }),
  },
)

/** A server and two clients. The clients know where the server is; it learns where they are. */
class Walk {
  readonly lab: Lab
  readonly hosts: readonly LabHost[]
  readonly #sent = new Map<number, { readonly from: LabHost; readonly to: LabHost }>()
  #mark = 0

  constructor(seed: number) {
    this.lab = new Lab(seed)
    this.hosts = [this.lab.host(), this.lab.host(), this.lab.host()]
    for (const [from, to] of this.pairs()) this.#introduce(from, to)
  }

  take(each: Step): void {
    const at = (index: number) => this.hosts[index] ?? assert.fail()
    switch (each.tag) {
      case 'send':
        for (let i = 0; i < each.packets; i++) this.send(at(each.from), at(each.to)) // clients have no route to each other
        return
      case 'run':
        return this.lab.run(each.milliseconds)
      case 'weather':
        this.lab.weather = each.weather
        return
      case 'suspend':
        return at(each.host).suspend(each.milliseconds)
      case 'move':
        return each.host === SERVER ? undefined : at(each.host).move()
      case 'new-key':
        return this.#changeKey(at(each.host))
      case 'forget': // as if one end had been restarted
        if ((each.host === SERVER) === (each.other === SERVER)) return
        return this.#introduce(at(each.host), at(each.other))
      case 'load':
        return at(each.host).plane.setGate({
          underLoadAt: each.underLoadAt,
          perSecond: 20,
          burst: 5,
          silent: false,
        })
    }
  }

  /** Who talks to whom. */
  pairs(): (readonly [LabHost, LabHost])[] {
    const [server, ...clients] = this.hosts
    if (server === undefined) return []
    return clients.flatMap((client) => [[client, server] as const, [server, client] as const])
  }

  send(from: LabHost, to: LabHost): number {
    this.#sent.set(++this.#mark, { from, to })
    from.send(to, this.#mark)
    return this.#mark
  }

  #introduce(host: LabHost, peer: LabHost): void {
    const lastTimestamp = host.device.lastTimestamp(peer.device.publicKey)
    host.device.removePeer(peer.device.publicKey)
    const endpoint = peer === this.hosts[SERVER] ? peer.address : null
    host.know(peer, { endpoint, ...(lastTimestamp === null ? {} : { lastTimestamp }) })
  }

  #changeKey(changed: LabHost): void {
    const old = changed.device.publicKey
    changed.device.setPrivateKey(Secret.of(memoryPrimitives.random(32)))
    for (const [from, to] of this.pairs()) {
      if (to !== changed) continue
      from.device.removePeer(old)
      this.#introduce(from, changed)
    }
  }

  /** What must hold after any walk. */
  check(): void {
    const counters = new Set<string>()
    for (const { datagram } of this.lab.wire) {
      const message = decodeData(datagram)
      if (message === null) continue
      const key = `${message.receiver} ${message.counter}`
      assert.ok(!counters.has(key), `the key of index ${message.receiver} sealed ${message.counter} twice`)
      counters.add(key)
    }
    for (const to of this.hosts) {
      const marks = to.marks()
      assert.equal(new Set(marks).size, marks.length, 'a packet came twice')
      for (const [i, mark] of marks.entries()) {
        const packet = this.#sent.get(mark)
        assert.equal(packet?.to, to)
        assert.deepEqual([...(to.received[i]?.subarray(12, 16) ?? [])].join('.'), packet.from.inside)
      }
      const { received, dropped } = to.plane.counters()
      assert.ok(Object.values(dropped).every((count) => count >= 0) && received.packets === marks.length)
    }
  }
}

describe('three devices on a bad network', () => {
  it('keep every promise on every walk, and talk again within 30 s of quiet weather', () => {
    fc.assert(
      fc.property(fc.nat(), fc.array(step, { maxLength: 40 }), (seed, steps) => {
        const walk = new Walk(seed)
        for (const each of steps) walk.take(each)
        walk.lab.weather = clear
        const last = new Map<number, LabHost>()
        for (let second = 0; second < 30; second++) {
          for (const [from, to] of walk.pairs()) last.set(walk.send(from, to), to)
          walk.lab.run(1000)
        }
        walk.check()
        for (const [mark, to] of [...last].slice(-walk.pairs().length)) {
          assert.ok(to.marks().includes(mark), 'traffic does not flow again')
        }
      }),
      { numRuns: 150 },
    )
  })

  it('throw nothing and count each datagram once, whatever is thrown at them', () => {
    const walk = new Walk(1)
    for (let i = 0; i < 130; i++) {
      for (const [from, to] of walk.pairs()) walk.send(from, to)
      walk.lab.run(1000)
    }
    const [first] = walk.hosts
    assert.ok(first)
    const seen = walk.lab.wire.filter(({ to }) => to.address === first.address.address)
    const from = { remote: first.address, source: null, interfaceIndex: 0 }
    const mangle = fc.record({
      at: fc.nat(seen.length - 1),
      cut: fc.oneof(fc.constant(2000), fc.nat(200)),
      flips: fc.array(fc.tuple(fc.nat(160), fc.integer({ min: 1, max: 255 })), { maxLength: 3 }),
    })
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), mangle), (input) => {
        const datagram =
          input instanceof Uint8Array ? input : mangled(seen[input.at]?.datagram, input.cut, input.flips)
        const before = first.plane.counters()
        first.plane.fromNetwork(from, datagram)
        const after = first.plane.counters()
        const events: readonly DataplaneEvent[] = first.plane.drain(1000)
        for (const event of events) first.device.handle(event, first.now)
        const drops = sum(after.dropped) - sum(before.dropped)
        assert.equal(after.received.datagrams - before.received.datagrams, 1)
        const isAccepted = events.length > 0 || after.received.packets > before.received.packets
        assert.equal(drops, isAccepted ? 0 : 1)
      }),
      { numRuns: 3000 },
    )
  })
})

function mangled(
  datagram: Uint8Array | undefined,
  cut: number,
  flips: readonly (readonly [number, number])[],
): Uint8Array {
  const copy = (datagram ?? new Uint8Array(0)).slice(0, cut)
  for (const [at, bits] of flips) if (at < copy.length) copy[at] = (copy[at] ?? 0) ^ bits
  return copy
}

function sum(dropped: Readonly<Record<string, number>>): number {
  return Object.values(dropped).reduce((total, count) => total + count, 0)
}

/** The host that stays where it is. */
const SERVER = 0
