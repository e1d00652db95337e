import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  contains,
  familyOf,
  parseCidr,
  parseInterfaceAddress,
  parseIp,
  parsePort,
  parsePublicKey,
} from '@culvert/tunnel/pure'
import fc from 'fast-check'
import { defaultSettings, type Profile, type ProfileId, type TunnelState } from './contract/index.ts'
import { transition, type TunnelEvent } from './machine.ts'
import { openPlan, plan, tunnelMtu, tunnelRoutes, type Outside } from './plan.ts'

const id = '0000000000000001' as ProfileId
const endpoint = { address: parseIp('203.0.113.9'), port: parsePort(51820) }
const outside: Outside = { endpoints: [endpoint], resolvers: [parseIp('192.0.2.53')], pathMtu: 1500 }
const connected: TunnelState = { tag: 'connected', profile: id, carrier: 'udp', endpoint, since: 0 }
const connecting: TunnelState = {
  tag: 'connecting',
  profile: id,
  stage: 'resolve',
  attempt: 1,
  resuming: false,
  cause: null,
  detail: null,
}

function profileTo(...allowedIps: readonly string[]): Profile {
  return {
    id,
    name: 'home',
    owner: 0,
    shared: false,
    addresses: ['10.64.0.2/32', 'fd00:64::2/128'].map(parseInterfaceAddress),
    dns: [parseIp('10.64.0.1')],
    searchDomains: [],
    mtu: null,
    listenPort: null,
    lastUsed: null,
    peers: [
      {
        publicKey: parsePublicKey('AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='),
        endpoint: { host: '203.0.113.9', port: parsePort(51820) },
        allowedIps: allowedIps.map(parseCidr),
        persistentKeepalive: 0,
      },
    ],
  }
}

describe('plan', () => {
  it('gives link, addresses, routes and base policy to a tunnel that is up', () => {
    assert.deepEqual(plan(connected, profileTo('0.0.0.0/0', '::/0'), outside), {
      tun: { mtu: 1420, addresses: ['10.64.0.2/32', 'fd00:64::2/128'] },
      routes: [
        { destination: '0.0.0.0/0', to: 'tunnel' },
        { destination: '::/0', to: 'tunnel' },
        { destination: '0.0.0.0/0', to: 'unreachable' },
        { destination: '::/0', to: 'unreachable' },
      ],
      sysctls: [{ key: 'net.ipv4.conf.all.src_valid_mark', value: '1' }],
      firewall: { tag: 'base', addresses: ['10.64.0.2', 'fd00:64::2'] },
      dns: ['10.64.0.1'],
      outside,
    })
  })

  it('routes nothing before the server has answered, and everything while it is looked for again', () => {
    const profile = profileTo('0.0.0.0/0')
    assert.deepEqual(plan(connecting, profile, outside).routes, [])
    assert.deepEqual(
      plan({ ...connecting, resuming: true }, profile, outside),
      plan(connected, profile, outside),
    )
  })

  it('is the open plan in a state without a tunnel', () => {
    const profile = profileTo('0.0.0.0/0')
    const failed: TunnelState = {
      tag: 'failed',
      profile: id,
      cause: 'host-failed',
      detail: null,
      blocking: false,
    }
    assert.deepEqual(
      [plan({ tag: 'disconnected' }, profile, outside), plan(failed, profile, outside)],
      [openPlan, openPlan],
    )
  })

  it('keeps the base policy in every state that has a tunnel, on a random walk', () => {
    fc.assert(
      fc.property(fc.array(event), (events) => {
        let state: TunnelState = { tag: 'disconnected' }
        for (const event of events) {
          state = transition(state, event, defaultSettings).state
          const { firewall, routes, tun, sysctls } = plan(state, profileTo('0.0.0.0/0'), outside)
          const hasTunnel: boolean = state.tag !== 'disconnected' && state.tag !== 'failed'
          assert.equal(firewall.tag, hasTunnel ? 'base' : 'open')
          assert.equal(sysctls.length, hasTunnel ? 1 : 0)
          // Routes lead nowhere without a link, and a link that is up has its routes.
          assert.equal(routes.length > 0, tun !== null)
          // A family that the profile does not carry ends in the table, and does not go around it.
          if (routes.length > 0) assert.ok(routes.some((route) => route.destination === '::/0'))
        }
      }),
      { numRuns: 1000 },
    )
  })
})

describe('tunnelRoutes', () => {
  it('ends both families when either default route goes through the tunnel', () => {
    assert.deepEqual(tunnelRoutes(profileTo('0.0.0.0/0')), [
      { destination: '0.0.0.0/0', to: 'tunnel' },
      { destination: '0.0.0.0/0', to: 'unreachable' },
      { destination: '::/0', to: 'unreachable' },
    ])
  })

  it('sees a default route in its halves', () => {
    const routes = tunnelRoutes(profileTo('0.0.0.0/1', '128.0.0.0/1'))
    assert.deepEqual(
      routes.filter(({ to }) => to === 'unreachable').map(({ destination }) => destination),
      ['0.0.0.0/0', '::/0'],
    )
  })

  it('routes only the allowed IPs of a profile without a default route', () => {
    assert.deepEqual(tunnelRoutes(profileTo('10.0.0.0/8', 'fd00::/8')), [
      { destination: '10.0.0.0/8', to: 'tunnel' },
      { destination: 'fd00::/8', to: 'tunnel' },
    ])
  })

  it('calls a family covered exactly when no address is left out', () => {
    const prefix = fc
      .tuple(fc.nat(255), fc.integer({ min: 0, max: 3 }))
      .map(([first, length]) => parseCidr(`${first}.0.0.0/${length}`))
    fc.assert(
      fc.property(fc.array(prefix, { maxLength: 12 }), (prefixes) => {
        const ends = tunnelRoutes(profileTo(...prefixes)).some(({ to }) => to === 'unreachable')
        // No prefix is longer than 3 bits, so an address of each eighth decides.
        const eighths = Array.from({ length: 8 }, (_, i) => parseIp(`${i * 32}.1.2.3`))
        assert.equal(
          ends,
          eighths.every((address) => prefixes.some((one) => familyOf(one) === 4 && contains(one, address))),
        )
      }),
    )
  })
})

describe('tunnelMtu', () => {
  const profile = profileTo('0.0.0.0/0')
  const six = { address: parseIp('2001:db8::1'), port: parsePort(51820) }
  const cases = [
    { mtu: null, outside, is: 1420, why: 'the cap on Ethernet' },
    { mtu: null, outside: { ...outside, pathMtu: 1400 }, is: 1340, why: '60 bytes less over IPv4' },
    {
      mtu: null,
      outside: { ...outside, pathMtu: 1400, endpoints: [six] },
      is: 1320,
      why: '80 less over IPv6',
    },
    { mtu: null, outside: { ...outside, pathMtu: 1300 }, is: 1280, why: 'the floor of IPv6' },
    { mtu: null, outside: { ...outside, pathMtu: null }, is: 1420, why: 'Ethernet when nothing is known' },
    { mtu: 1300, outside, is: 1300, why: "the profile's own" },
  ]
  for (const { mtu, outside, is, why } of cases) {
    it(`is ${why}`, () => assert.equal(tunnelMtu({ ...profile, mtu }, outside), is))
  }
})

const event: fc.Arbitrary<TunnelEvent> = fc.constantFrom<TunnelEvent>(
  { tag: 'connect', profile: id },
  { tag: 'disconnect' },
  { tag: 'progress', stage: 'handshake' },
  { tag: 'established', carrier: 'udp', endpoint, at: 0 },
  { tag: 'attempt-failed', cause: 'no-answer', detail: null, retry: 'again' },
  { tag: 'attempt-failed', cause: 'tunnel-failed', detail: null, retry: 'never' },
  { tag: 'lost', cause: 'no-answer', detail: null },
  { tag: 'closed' },
  { tag: 'host-failed', detail: 'x' },
)
