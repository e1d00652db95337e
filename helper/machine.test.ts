import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseIp, parsePort } from '@culvert/tunnel/pure'
import fc from 'fast-check'
import { defaultSettings, type ProfileId, type Settings, type TunnelState } from './contract/index.ts'
import { isBlocking, transition, type Effect, type TunnelEvent } from './machine.ts'

const home = '0000000000000001' as ProfileId
const work = '0000000000000002' as ProfileId
const endpoint = { address: parseIp('203.0.113.9'), port: parsePort(51820) }

const connecting: TunnelState = {
  tag: 'connecting',
  profile: home,
  stage: 'resolve',
  attempt: 1,
  resuming: false,
  cause: null,
  detail: null,
}
const connected: TunnelState = { tag: 'connected', profile: home, carrier: 'udp', endpoint, since: 1000 }
const established: TunnelEvent = { tag: 'established', carrier: 'udp', endpoint, at: 1000 }

function after(state: TunnelState, ...events: readonly TunnelEvent[]) {
  let effect: Effect | null = null
  for (const event of events) ({ state, effect } = transition(state, event, defaultSettings))
  return { state, effect }
}

describe('transition', () => {
  it('connects by way of connecting', () => {
    assert.deepEqual(after({ tag: 'disconnected' }, { tag: 'connect', profile: home }), {
      state: connecting,
      effect: { tag: 'open', profile: home, attempt: 1 },
    })
    assert.deepEqual(after(connecting, { tag: 'progress', stage: 'handshake' }, established), {
      state: connected,
      effect: { tag: 'watch' },
    })
  })

  it('tries again for ever, and remembers why the attempt before failed', () => {
    const failed: TunnelEvent = {
      tag: 'attempt-failed',
      cause: 'no-answer',
      detail: 'silence',
      retry: 'again',
    }
    assert.deepEqual(after(connecting, failed, { tag: 'progress', stage: 'handshake' }, failed), {
      state: { ...connecting, attempt: 3, cause: 'no-answer', detail: 'silence' },
      effect: { tag: 'open', profile: home, attempt: 3 },
    })
  })

  it('gives up what no attempt can mend, and closes', () => {
    const event: TunnelEvent = {
      tag: 'attempt-failed',
      cause: 'tunnel-failed',
      detail: 'no tun',
      retry: 'never',
    }
    assert.deepEqual(after(connecting, event), {
      state: { tag: 'failed', profile: home, cause: 'tunnel-failed', detail: 'no tun', blocking: false },
      effect: { tag: 'close' },
    })
  })

  it('resumes what is lost without closing it, so that nothing goes around the tunnel meanwhile', () => {
    assert.deepEqual(after(connected, { tag: 'lost', cause: 'no-answer', detail: null }), {
      state: { ...connecting, resuming: true, cause: 'no-answer' },
      effect: { tag: 'open', profile: home, attempt: 1 },
    })
  })

  it('closes one profile before it opens another', () => {
    const leaving = after(connected, { tag: 'connect', profile: work })
    assert.deepEqual(leaving, {
      state: { tag: 'disconnecting', next: work },
      effect: { tag: 'close' },
    })
    assert.deepEqual(after(leaving.state, { tag: 'closed' }), {
      state: { ...connecting, profile: work },
      effect: { tag: 'open', profile: work, attempt: 1 },
    })
  })

  it('takes the last wish: disconnect while another profile waits to be opened', () => {
    const state: TunnelState = { tag: 'disconnecting', next: work }
    assert.deepEqual(after(state, { tag: 'disconnect' }, { tag: 'closed' }), {
      state: { tag: 'disconnected' },
      effect: null,
    })
  })

  it('does nothing when it is asked for what it does already', () => {
    assert.deepEqual(after(connected, { tag: 'connect', profile: home }), { state: connected, effect: null })
    assert.deepEqual(after(connecting, { tag: 'connect', profile: home }), {
      state: connecting,
      effect: null,
    })
  })

  it('never claims to block when the host could not be set', () => {
    const lockdown: Settings = { ...defaultSettings, killSwitch: 'lockdown' }
    const { state } = transition(connected, { tag: 'host-failed', detail: 'nft' }, lockdown)
    assert.deepEqual(state, {
      tag: 'failed',
      profile: home,
      cause: 'host-failed',
      detail: 'nft',
      blocking: false,
    })
    assert.equal(isBlocking(state, lockdown), false)
  })

  it('stays sane on a random walk', () => {
    fc.assert(
      fc.property(fc.array(event), settings, (events, settings) => {
        let state: TunnelState = { tag: 'disconnected' }
        let wanted: ProfileId | null = null
        for (const event of events) {
          const before: TunnelState = state
          const next = transition(state, event, settings)
          state = next.state
          if (event.tag === 'connect') wanted = event.profile
          if (event.tag === 'disconnect') wanted = null

          // Only a disconnect ends in `disconnected`, and never with a profile still wanted.
          if (state.tag === 'disconnected') assert.equal(wanted, null)
          // A profile that nobody asked for is never opened.
          if (next.effect?.tag === 'open') assert.equal(next.effect.profile, wanted)
          // One profile's tunnel is closed before another's is opened.
          if (state.tag === 'connecting' && 'profile' in before && before.tag !== 'failed') {
            assert.equal(before.profile, state.profile)
          }
          // What has an end waits for it: a state that begins work begins it.
          if (state.tag !== before.tag && state.tag !== 'disconnected') assert.notEqual(next.effect, null)
          // What resumes was up.
          if (state.tag === 'connecting' && state.resuming && before.tag !== 'connecting') {
            assert.equal(before.tag, 'connected')
          }
          // With the kill switch on nothing but a host that failed is open while the tunnel is wanted.
          if (settings.killSwitch !== 'off' && wanted !== null && !isBlocking(state, settings)) {
            assert.equal(state.tag === 'failed' && state.cause, 'host-failed')
          }
        }
      }),
      { numRuns: 2000 },
    )
  })
})

const event: fc.Arbitrary<TunnelEvent> = fc.oneof(
  fc.constantFrom(home, work).map((profile): TunnelEvent => ({ tag: 'connect', profile })),
  fc.constantFrom<TunnelEvent>(
    { tag: 'disconnect' },
    { tag: 'progress', stage: 'handshake' },
    established,
    { tag: 'attempt-failed', cause: 'no-answer', detail: null, retry: 'again' },
    { tag: 'attempt-failed', cause: 'tunnel-failed', detail: null, retry: 'never' },
    { tag: 'lost', cause: 'no-answer', detail: null },
    { tag: 'closed' },
    { tag: 'settings-changed' },
    { tag: 'host-failed', detail: 'x' },
  ),
)
const settings: fc.Arbitrary<Settings> = fc
  .constantFrom('off', 'session', 'lockdown')
  .map((killSwitch): Settings => ({ ...defaultSettings, killSwitch }))
