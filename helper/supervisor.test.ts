import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseCidr, parseInterfaceAddress, parseIp, parsePort, parsePublicKey, Secret } from '@culvert/tunnel'
import fc from 'fast-check'
import { defaultSettings, type ProfileId } from './contract/index.ts'
import type { Link, Lost, Opened } from './dial.ts'
import type { Host } from './host/index.ts'
import { openPlan, type HostPlan } from './plan.ts'
import type { KeyedProfile } from './store.ts'
import { backOff, Supervisor } from './supervisor.ts'

const home = '0000000000000001' as ProfileId
const work = '0000000000000002' as ProfileId
const endpoint = { address: parseIp('203.0.113.9'), port: parsePort(51820) }
const established: Opened = { tag: 'established', carrier: 'udp', endpoint }

function keyed(id: ProfileId): KeyedProfile {
  return {
    privateKey: Secret.of(new Uint8Array(32)),
    presharedKeys: new Map(),
    profile: {
      id,
      name: id,
      owner: 0,
      shared: false,
      addresses: [parseInterfaceAddress('10.64.0.2/32')],
      dns: [],
      searchDomains: [],
      mtu: null,
      listenPort: null,
      lastUsed: null,
      peers: [
        {
          publicKey: parsePublicKey('AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='),
          endpoint: { host: '203.0.113.9', port: endpoint.port },
          allowedIps: [parseCidr('0.0.0.0/0')],
          persistentKeepalive: 0,
        },
      ],
    },
  }
}

/** A supervisor whose link and host do as the test says, and everything that happened, in order. */
function setUp() {
  const happened: string[] = []
  const attempts: PromiseWithResolvers<Opened>[] = []
  const losses: PromiseWithResolvers<Lost>[] = []
  let applied: HostPlan = openPlan
  const refuses: { plans: 'none' | 'all' | 'routes' } = { plans: 'none' }
  const host: Host = {
    async apply(plan) {
      await Promise.resolve()
      const routed = plan.routes.length > 0
      if (refuses.plans === 'all' || (refuses.plans === 'routes' && routed))
        throw new Error('the host refuses')
      happened.push(`host ${plan.firewall.tag}${routed ? ' routed' : ''}`)
      applied = plan
    },
    recover: () => Promise.resolve([]),
  }
  const pending = async <T>(list: PromiseWithResolvers<T>[], signal: AbortSignal): Promise<T> => {
    const next = Promise.withResolvers<T>()
    list.push(next)
    signal.addEventListener('abort', () => next.reject(signal.reason as Error))
    return next.promise
  }
  const link: Link = {
    open({ profile }, attempt, _progress, signal) {
      happened.push(`open ${profile.id === home ? 'home' : 'work'} ${attempt}`)
      return pending(attempts, signal)
    },
    watch(signal) {
      happened.push('watch')
      return pending(losses, signal)
    },
    async close() {
      await Promise.resolve()
      happened.push('close')
    },
    traffic: () => null,
  }
  const profiles = new Map([home, work].map((id) => [id, keyed(id)]))
  const supervisor = new Supervisor({
    host,
    link,
    store: { profile: (id) => profiles.get(id) ?? null, settings: () => defaultSettings },
    now: () => 1000,
    backOff: () => 0,
    log: { info: () => {}, error: () => {} },
  })
  supervisor.subscribe(() => happened.push(`state ${supervisor.status().state.tag}`))
  return {
    supervisor,
    happened,
    refuses,
    attempts,
    losses,
    applied: () => applied,
    /** Everything that does not wait for the test has happened. */
    async quiet() {
      for (let i = 0; i < 5; i++) {
        await new Promise((resolve) => setTimeout(resolve, 2))
        await supervisor.settled()
      }
    },
  }
}

describe('Supervisor', () => {
  it('says that it connects before it sets the host, and that it is connected after', async () => {
    const { supervisor, happened, attempts, quiet } = setUp()
    supervisor.post({ tag: 'connect', profile: home })
    await quiet()
    attempts[0]?.resolve(established)
    await quiet()
    assert.deepEqual(happened, [
      'state connecting',
      'host base',
      'open home 1',
      'host base routed',
      'state connected',
      'watch',
    ])
    await supervisor[Symbol.asyncDispose]()
  })

  it('says that it is disconnected when the host is as it was', async () => {
    const { supervisor, happened, attempts, quiet } = setUp()
    supervisor.post({ tag: 'connect', profile: home })
    await quiet()
    attempts[0]?.resolve(established)
    await quiet()
    happened.length = 0
    supervisor.post({ tag: 'disconnect' })
    await quiet()
    assert.deepEqual(happened, [
      'state disconnecting',
      'host base',
      'close',
      'host open',
      'state disconnected',
    ])
  })

  it('keeps the routes while it looks for a lost server again', async () => {
    const { supervisor, attempts, losses, applied, quiet } = setUp()
    supervisor.post({ tag: 'connect', profile: home })
    await quiet()
    attempts[0]?.resolve(established)
    await quiet()
    const before = applied()
    losses[0]?.resolve({ tag: 'lost', cause: 'no-answer', detail: null })
    await quiet()
    assert.deepEqual([supervisor.status().state.tag, applied(), attempts.length], ['connecting', before, 2])
    await supervisor[Symbol.asyncDispose]()
  })

  it('does not hear an attempt that was superseded', async () => {
    const { supervisor, happened, attempts, quiet } = setUp()
    supervisor.post({ tag: 'connect', profile: home })
    await quiet()
    supervisor.post({ tag: 'connect', profile: work })
    attempts[0]?.resolve(established)
    await quiet()
    assert.deepEqual(
      happened.filter((line) => /open|close|watch/.test(line)),
      ['open home 1', 'close', 'open work 1'],
    )
    await supervisor[Symbol.asyncDispose]()
  })

  it('closes and says so when the host refuses what a tunnel needs', async () => {
    const { supervisor, attempts, refuses, applied, quiet } = setUp()
    supervisor.post({ tag: 'connect', profile: home })
    await quiet()
    refuses.plans = 'routes'
    attempts[0]?.resolve(established)
    await quiet()
    assert.deepEqual(
      [supervisor.status().state, applied()],
      [
        { tag: 'failed', profile: home, cause: 'host-failed', detail: 'the host refuses', blocking: false },
        openPlan,
      ],
    )
  })

  it('does not try for ever when the host refuses everything, and mends it at the next wish', async () => {
    const { supervisor, refuses, applied, quiet } = setUp()
    refuses.plans = 'all'
    supervisor.post({ tag: 'connect', profile: home })
    await quiet()
    assert.equal(supervisor.status().state.tag, 'failed')
    refuses.plans = 'none'
    supervisor.post({ tag: 'disconnect' })
    await quiet()
    assert.deepEqual([supervisor.status().state.tag, applied()], ['disconnected', openPlan])
  })

  it('gives the host back when it is disposed of, whatever it was doing', async () => {
    const step = fc.constantFrom('home', 'work', 'disconnect', 'establish', 'fail', 'lose', 'wait' as const)
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 10 }), async (steps) => {
        const { supervisor, attempts, losses, applied, happened, quiet } = setUp()
        for (const step of steps) {
          if (step === 'home') supervisor.post({ tag: 'connect', profile: home })
          if (step === 'work') supervisor.post({ tag: 'connect', profile: work })
          if (step === 'disconnect') supervisor.post({ tag: 'disconnect' })
          if (step === 'establish') attempts.at(-1)?.resolve(established)
          if (step === 'lose') losses.at(-1)?.resolve({ tag: 'lost', cause: 'no-answer', detail: null })
          if (step === 'fail') {
            attempts
              .at(-1)
              ?.resolve({ tag: 'attempt-failed', cause: 'no-answer', detail: null, retry: 'again' })
          }
          if (step === 'wait') await quiet()
        }
        await supervisor[Symbol.asyncDispose]()
        assert.deepEqual([supervisor.status().state, applied()], [{ tag: 'disconnected' }, openPlan])
        // Every tunnel that may be open has been closed after.
        assert.ok(happened.lastIndexOf('close') >= happened.findLastIndex((line) => line.startsWith('open')))
      }),
      { numRuns: 40 },
    )
  })
})

describe('backOff', () => {
  it('grows to 4 s, a quarter more or less', () => {
    assert.deepEqual(
      [1, 2, 3, 4, 5, 6, 100].map((attempt) => backOff(attempt, 0.5)),
      [0, 500, 1000, 2000, 4000, 4000, 4000],
    )
    assert.deepEqual([backOff(9, 0), backOff(9, 1)], [3000, 5000])
  })
})
