/**
 * The tunnel as the supervisor drives it: `open` finds the server and shakes hands, `watch` tells when it is lost, `close`
 * closes. One attempt after another uses the same TUN device, so that what programs send while the server is looked for
 * again waits in the tunnel and does not go around it.
 *
 *   open ─▶ addresses of every peer ─▶ those with a route ─▶ openTunnel, unless open ─▶ putPeer ─▶ connect ─▶ session
 */
import {
  formatEndpoint,
  isDefaultRoute,
  TunnelError,
  type Endpoint,
  type IpAddress,
  type PublicKey,
  type SocketAddress,
  type Tunnel,
  type TunnelErrorCode,
  type TunnelEvent,
  type TunnelOptions,
} from '@culvert/tunnel'
import type { CarrierId, FailCause, PeerConfig, Profile, Stage, Traffic } from './contract/index.ts'
import { HelperError } from './error.ts'
import { FWMARK, INTERFACE } from './host/names.ts'
import { firstLook, isSilent, look } from './liveness.ts'
import { tunnelMtu, type Outside } from './plan.ts'
import type { KeyedProfile } from './store.ts'

/** How an attempt ended. */
export type Opened =
  | {
      readonly tag: 'established'
      readonly carrier: CarrierId
      readonly endpoint: SocketAddress
    }
  | {
      readonly tag: 'attempt-failed'
      readonly cause: FailCause
      readonly detail: string | null
      readonly retry: 'again' | 'never'
    }

/** Why a tunnel that was up is not. */
export interface Lost {
  readonly tag: 'lost'
  readonly cause: FailCause
  readonly detail: string | null
}

/** What the supervisor drives. */
export interface Link {
  /** One attempt. What it learns of the outside comes before the stage that rests on it. */
  open(
    profile: KeyedProfile,
    attempt: number,
    progress: (stage: Stage, outside: Outside | null) => void,
    signal: AbortSignal,
  ): Promise<Opened>
  /** Resolves when the tunnel is lost. */
  watch(signal: AbortSignal): Promise<Lost>
  /** Closes the tunnel; does nothing when none is open. */
  close(): Promise<void>
  traffic(): Traffic | null
}

/** What dialling stands on. */
export interface DialOptions {
  openTunnel(options: TunnelOptions): Promise<Tunnel>
  /** A name's addresses, at least one. @throws HelperError with one sentence. */
  resolve(name: string, signal: AbortSignal): Promise<readonly IpAddress[]>
  /** The MTU of the way to an address outside the tunnel; null: there is no way. */
  pathMtu(address: IpAddress): Promise<number | null>
  /** The uplink's name servers. */
  nameServers(): Promise<readonly IpAddress[]>
  /** Milliseconds that the server has to answer in one attempt. */
  readonly patience: number
  /** Something odd that is handled. */
  warn(phrase: string, fields: Readonly<Record<string, unknown>>): void
}

/** The one tunnel of this machine. */
export function createLink(options: DialOptions): Link {
  return new DialledLink(options)
}

interface OpenTunnel {
  readonly tunnel: Tunnel
  readonly keyed: KeyedProfile
  readonly primary: PublicKey
  /** What the plan gives the link: the way to the server may have another MTU than when it was opened. */
  mtu: number
  /** What the data plane said when it stopped itself; null: it runs. */
  fault: string | null
  hasGivenUp: boolean
}

class DialledLink implements Link {
  readonly #options: DialOptions
  #open: OpenTunnel | null = null
  /** Closing, or done with it: nothing is opened before. */
  #closing: Promise<void> = Promise.resolve()
  /** Told of every event of the tunnel's. */
  #listener: ((event: TunnelEvent) => void) | null = null

  constructor(options: DialOptions) {
    this.#options = options
  }

  async open(
    keyed: KeyedProfile,
    attempt: number,
    progress: (stage: Stage, outside: Outside | null) => void,
    signal: AbortSignal,
  ): Promise<Opened> {
    await this.#closing
    const primary = primaryPeer(keyed.profile)
    if (primary === null) {
      return failed(
        'no-endpoint',
        `"${keyed.profile.name}" does not say where its server is (Endpoint)`,
        'never',
      )
    }
    progress('resolve', null)
    const endpoints = new Map<PublicKey, SocketAddress>()
    let pathMtu: number | null = null
    for (const peer of keyed.profile.peers) {
      if (peer.endpoint === null) continue
      const found = await this.#locate(peer.endpoint, attempt, signal)
      if (found.tag === 'located') {
        endpoints.set(peer.publicKey, found.address)
        if (peer === primary) pathMtu = found.pathMtu
      } else if (peer === primary) {
        return found
      } else {
        this.#options.warn('a further peer cannot be reached', { peer: peer.publicKey, why: found.detail })
      }
    }
    const endpoint = endpoints.get(primary.publicKey)
    if (endpoint === undefined) return failed('no-endpoint', null, 'never')
    const resolvers = await this.#options.nameServers()
    const outside: Outside = { endpoints: [...endpoints.values()], resolvers, pathMtu }
    signal.throwIfAborted()
    let open: OpenTunnel
    try {
      open = await this.#ensure(keyed, primary, outside)
    } catch (error) {
      if (!(error instanceof TunnelError)) throw error
      return failed('tunnel-failed', error.message, HOPELESS.has(error.code) ? 'never' : 'again')
    }
    signal.throwIfAborted()
    progress('handshake', outside)
    // An abort that has been is not told again to those who listen from now on.
    signal.throwIfAborted()
    return this.#shakeHands(open, primary, endpoints, endpoint, signal)
  }

  watch(signal: AbortSignal): Promise<Lost> {
    const open = this.#open
    if (open === null) return Promise.resolve(lost('tunnel-failed', 'the tunnel is not open'))
    if (signal.aborted) return Promise.reject(signal.reason as Error) // always an AbortError here
    return new Promise((resolve, reject) => {
      let liveness = firstLook(sampleOf(open))
      // Packets are counted together: of several peers nobody knows who was asked, and what is left is that one gives up.
      const isAlone = open.keyed.profile.peers.length === 1
      const finish = (settle: () => void) => {
        clearInterval(timer)
        this.#listener = null
        signal.removeEventListener('abort', aborted)
        settle()
      }
      const aborted = () => finish(() => reject(signal.reason as Error)) // always an AbortError here
      const check = () => {
        const loss = lossOf(open) ?? (isAlone && isSilent(liveness) ? lost('no-answer', SILENT) : null)
        if (loss !== null) finish(() => resolve(loss))
      }
      const timer = setInterval(() => {
        liveness = look(liveness, sampleOf(open))
        check()
      }, LOOK_EVERY)
      this.#listener = check
      signal.addEventListener('abort', aborted, { once: true })
      check()
    })
  }

  async close(): Promise<void> {
    const open = this.#open
    this.#open = null
    if (open !== null) {
      const before = this.#closing
      this.#closing = (async () => {
        await before
        await open.tunnel[Symbol.asyncDispose]()
      })()
    }
    await this.#closing
  }

  traffic(): Traffic | null {
    if (this.#open === null) return null
    const { tunnel, mtu } = this.#open
    const peers = tunnel.peers()
    const handshakes = peers.flatMap(({ latestHandshake }) =>
      latestHandshake === null ? [] : [latestHandshake],
    )
    return {
      rxBytes: peers.reduce((sum, peer) => sum + peer.rxBytes, 0),
      txBytes: peers.reduce((sum, peer) => sum + peer.txBytes, 0),
      latestHandshake: handshakes.length === 0 ? null : Math.max(...handshakes),
      mtu,
    }
  }

  /** The address of an endpoint that this attempt tries: each attempt the next of those that have a route. */
  async #locate(
    { host, port }: Endpoint,
    attempt: number,
    signal: AbortSignal,
  ): Promise<
    | { readonly tag: 'located'; readonly address: SocketAddress; readonly pathMtu: number }
    | ReturnType<typeof failed>
  > {
    let addresses: readonly IpAddress[]
    try {
      addresses = await this.#options.resolve(host, signal)
    } catch (error) {
      if (!(error instanceof HelperError)) throw error
      return failed('endpoint-unresolved', error.message, 'again')
    }
    const reachable: { readonly address: IpAddress; readonly pathMtu: number }[] = []
    for (const address of addresses) {
      const pathMtu = await this.#options.pathMtu(address)
      if (pathMtu !== null) reachable.push({ address, pathMtu })
    }
    const chosen = reachable[(attempt - 1) % Math.max(reachable.length, 1)]
    if (chosen === undefined) {
      return failed('offline', `there is no route to ${host} (${addresses.join(', ')})`, 'again')
    }
    return { tag: 'located', address: { address: chosen.address, port }, pathMtu: chosen.pathMtu }
  }

  /** The open tunnel, or a new one where there is none or the old one has stopped itself. */
  async #ensure(keyed: KeyedProfile, primary: PeerConfig, outside: Outside): Promise<OpenTunnel> {
    const mtu = tunnelMtu(keyed.profile, outside)
    if (this.#open !== null && this.#open.fault === null) {
      this.#open.mtu = mtu
      return this.#open
    }
    await this.close()
    const tunnel = await this.#options.openTunnel({
      name: INTERFACE,
      mtu,
      privateKey: keyed.privateKey,
      port: keyed.profile.listenPort ?? 0,
      fwmark: FWMARK,
      gso: 'auto',
      superPackets: 'one-send', // what programs of this machine write
      onEvent: (event) => {
        if (this.#open !== open) return // of a tunnel that has been closed
        if (event.tag === 'fault') open.fault = event.message
        if (event.tag === 'gave-up' && event.peer === open.primary) open.hasGivenUp = true
        this.#listener?.(event)
      },
    })
    const open: OpenTunnel = {
      tunnel,
      keyed,
      primary: primary.publicKey,
      mtu,
      fault: null,
      hasGivenUp: false,
    }
    this.#open = open
    return open
  }

  async #shakeHands(
    open: OpenTunnel,
    primary: PeerConfig,
    endpoints: ReadonlyMap<PublicKey, SocketAddress>,
    endpoint: SocketAddress,
    signal: AbortSignal,
  ): Promise<Opened> {
    const { tunnel, keyed } = open
    open.hasGivenUp = false
    const outcome = Promise.withResolvers<Opened>()
    const patience = AbortSignal.any([signal, AbortSignal.timeout(this.#options.patience)])
    const tooLate = () =>
      outcome.resolve(
        failed('no-answer', `${formatEndpoint(endpoint)} did not answer the handshake`, 'again'),
      )
    patience.addEventListener('abort', tooLate, { once: true })
    this.#listener = (event) => {
      if (event.tag === 'session' && event.peer === primary.publicKey) {
        outcome.resolve({ tag: 'established', carrier: 'udp', endpoint })
      }
      if (event.tag === 'fault') outcome.resolve(failed('tunnel-failed', event.message, 'again'))
    }
    try {
      for (const peer of keyed.profile.peers) {
        tunnel.putPeer({
          publicKey: peer.publicKey,
          presharedKey: keyed.presharedKeys.get(peer.publicKey) ?? null,
          allowedIps: peer.allowedIps,
          endpoint: endpoints.get(peer.publicKey) ?? null,
          roaming: 'pinned',
          persistentKeepalive: peer.persistentKeepalive,
        })
      }
      // The uplink may be another than that of the session before.
      tunnel.clearSources()
      for (const key of endpoints.keys()) tunnel.connect(key)
      return await outcome.promise
    } finally {
      patience.removeEventListener('abort', tooLate)
      this.#listener = null
      signal.throwIfAborted()
    }
  }
}

/** The peer whose session makes the tunnel be up: the one that carries a default route, else the first that can be dialled. */
export function primaryPeer(profile: Profile): PeerConfig | null {
  const dialled = profile.peers.filter((peer) => peer.endpoint !== null)
  return dialled.find((peer) => peer.allowedIps.some(isDefaultRoute)) ?? dialled[0] ?? null
}

function lossOf(open: OpenTunnel): Lost | null {
  if (open.fault !== null) return lost('tunnel-failed', open.fault)
  return open.hasGivenUp ? lost('no-answer', SILENT) : null
}

function sampleOf({ tunnel, primary }: OpenTunnel) {
  return {
    now: performance.now(),
    rxBytes: tunnel.peer(primary)?.rxBytes ?? 0,
    sentPackets: tunnel.counters().sent.packets,
  }
}

function failed(cause: FailCause, detail: string | null, retry: 'again' | 'never') {
  return { tag: 'attempt-failed', cause, detail, retry } as const
}

function lost(cause: FailCause, detail: string | null): Lost {
  return { tag: 'lost', cause, detail }
}

/** What no further attempt mends. */
const HOPELESS: ReadonlySet<TunnelErrorCode> = new Set([
  'no-native',
  'no-tun',
  'no-privilege',
  'name-taken',
  'port-taken',
  'command-missing',
])

const SILENT = 'the server does not answer any more'
/** Milliseconds between two looks at a tunnel that is up. */
const LOOK_EVERY = 5_000
