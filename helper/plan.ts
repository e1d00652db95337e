/**
 * What the host should be, as a pure function of the tunnel's state. `host/index.ts` makes it so; nothing else touches an
 * address, route, rule, sysctl or table.
 *
 *  | state                | link and routes | firewall                                          |
 *  |----------------------|-----------------|---------------------------------------------------|
 *  | disconnected         | none            | open                                              |
 *  | connecting           | none            | base                                              |
 *  | connecting, resuming | the profile's   | base                                              |
 *  | connected            | the profile's   | base                                              |
 *  | disconnecting        | none            | base                                              |
 *  | failed               | none            | open                                              |
 */
import {
  addressOf,
  familyOf,
  ipBytes,
  parseCidr,
  prefixLengthOf,
  type Cidr,
  type Family,
  type InterfaceAddress,
  type IpAddress,
  type SocketAddress,
} from '@culvert/tunnel/pure'
import type { Profile, TunnelState } from './contract/index.ts'
import { SRC_VALID_MARK } from './host/names.ts'

/** What is known of the network outside the tunnel. */
export interface Outside {
  /** Where the profile's peers are. */
  readonly endpoints: readonly SocketAddress[]
  /** The network's own name servers, which find the peers again when they move. */
  readonly resolvers: readonly IpAddress[]
  /** The MTU of the route to the server, in bytes; null: not known. */
  readonly pathMtu: number | null
}

/** What the host should be. */
export interface HostPlan {
  /** How the tunnel's link is set; null: down, if it is there at all. */
  readonly tun: { readonly mtu: number; readonly addresses: readonly InterfaceAddress[] } | null
  /** The tunnel's own route table, which the policy rules lead to; empty: no table and no rules. */
  readonly routes: readonly PlannedRoute[]
  readonly sysctls: readonly Sysctl[]
  readonly firewall: FirewallPolicy
  /** The resolvers that programs should ask while the plan holds; nothing carries this out yet, and import says so. */
  readonly dns: readonly IpAddress[]
  /** What marked packets may reach outside the tunnel: the firewall's business once it blocks. */
  readonly outside: Outside
}

export interface PlannedRoute {
  readonly destination: Cidr
  /** `unreachable` stands last: what no other route takes fails at once, and does not go around the tunnel. */
  readonly to: 'tunnel' | 'unreachable'
}

export interface Sysctl {
  /** As sysctl(8) writes it. */
  readonly key: string
  readonly value: string
}

/** What the firewall lets through. */
export type FirewallPolicy =
  /** Everything: there is no table of ours. */
  | { readonly tag: 'open' }
  /** Nothing comes out of the tunnel that was not asked for, and nobody else reaches the tunnel's addresses. */
  | { readonly tag: 'base'; readonly addresses: readonly IpAddress[] }

/** The host without a tunnel. */
export const openPlan: HostPlan = {
  tun: null,
  routes: [],
  sysctls: [],
  firewall: { tag: 'open' },
  dns: [],
  outside: { endpoints: [], resolvers: [], pathMtu: null },
}

/** What the host should be in a state. `profile` is the one that the state is about, or that it is leaving. */
export function plan(state: TunnelState, profile: Profile | null, outside: Outside): HostPlan {
  if (profile === null) return openPlan
  const waiting: HostPlan = {
    ...openPlan,
    sysctls: [{ key: SRC_VALID_MARK, value: '1' }],
    firewall: { tag: 'base', addresses: profile.addresses.map(addressOf) },
    outside,
  }
  switch (state.tag) {
    case 'disconnected':
    case 'failed':
      return openPlan
    case 'disconnecting':
      return waiting
    case 'connecting':
      return state.resuming ? carrying(waiting, profile, outside) : waiting
    case 'connected':
      return carrying(waiting, profile, outside)
  }
}

/** The tunnel's MTU: the profile's own, or what is left of the route's once WireGuard and UDP have had their part. */
export function tunnelMtu(profile: Profile, outside: Outside): number {
  if (profile.mtu !== null) return profile.mtu
  const overhead = outside.endpoints.some((endpoint) => familyOf(endpoint.address) === 6)
    ? OVERHEAD[6]
    : OVERHEAD[4]
  return Math.min(Math.max((outside.pathMtu ?? ETHERNET_MTU) - overhead, LEAST_MTU), MOST_MTU)
}

/** The routes of a profile: its allowed IPs, and an end to both families if either is meant to go through the tunnel whole. */
export function tunnelRoutes(profile: Profile): readonly PlannedRoute[] {
  const prefixes = [...new Set(profile.peers.flatMap((peer) => peer.allowedIps))]
  const routes: PlannedRoute[] = prefixes.map((destination) => ({ destination, to: 'tunnel' }))
  if (!covers(prefixes, 4) && !covers(prefixes, 6)) return routes
  return [...routes, ...DEFAULTS.map((destination): PlannedRoute => ({ destination, to: 'unreachable' }))]
}

function carrying(waiting: HostPlan, profile: Profile, outside: Outside): HostPlan {
  return {
    ...waiting,
    tun: { mtu: tunnelMtu(profile, outside), addresses: profile.addresses },
    routes: tunnelRoutes(profile),
    dns: profile.dns,
  }
}

/** Whether prefixes hold every address of a family together: `0.0.0.0/0`, or `0.0.0.0/1` and `128.0.0.0/1`, and so on. */
function covers(prefixes: readonly Cidr[], family: Family): boolean {
  const bits = family === 4 ? 32n : 128n
  const spans = prefixes
    .filter((prefix) => familyOf(prefix) === family)
    .map((prefix) => {
      const first = numberOf(addressOf(prefix))
      return { first, next: first + (1n << (bits - BigInt(prefixLengthOf(prefix)))) }
    })
    .sort((a, b) => (a.first < b.first ? -1 : 1))
  let reached = 0n
  for (const { first, next } of spans) {
    if (first > reached) return false
    if (next > reached) reached = next
  }
  return reached === 1n << bits
}

function numberOf(address: IpAddress): bigint {
  return (ipBytes(address) ?? new Uint8Array()).reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n)
}

const DEFAULTS = [parseCidr('0.0.0.0/0'), parseCidr('::/0')]

/** Outer IP header, UDP header (8), and 32 for WireGuard: its data header and the tag (paper, 5.4.6). */
const OVERHEAD = { 4: 60, 6: 80 } as const
const ETHERNET_MTU = 1500
/** RFC 8200: IPv6 does not work below. */
const LEAST_MTU = 1280
/** What wg-quick takes on Ethernet: it fits either family outside. */
const MOST_MTU = 1420
