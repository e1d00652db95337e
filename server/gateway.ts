/**
 * The devices of the registry as peers of the tunnel: loaded at start, kept equal afterwards without dropping anybody's
 * session, and what they did written back.
 *
 *   registry ── load, refresh, reload ──▶ tunnel
 *   registry ◀── timestamps, 4 s; usage, 32 s; everything at stop ── tunnel
 */
import type { PeerStatus, Tunnel } from '@culvert/tunnel'
import { parseCidr, type PublicKey, type SocketAddress } from '@culvert/tunnel/pure'
import type { Logger } from 'pino'
import type { Device, Progress, Registry } from './registry.ts'

/** What became of one device. */
export type Refresh = 'added' | 'changed' | 'removed' | 'same'

/** How many devices a reload added, changed and removed. */
export interface Reload {
  readonly added: number
  readonly changed: number
  readonly removed: number
}

/** A device as it stands. */
export interface DeviceState {
  readonly device: Device
  readonly endpoint: SocketAddress | null
  /** Milliseconds since 1970; null: never. */
  readonly latestHandshake: number | null
  /** Since the device was added: what it sent, and what was sent to it. */
  readonly rxBytes: number
  readonly txBytes: number
  /** Whether a session can send to it now. */
  readonly alive: boolean
}

/** Joins an open tunnel and an open registry; owns neither. */
export class Gateway implements Disposable {
  readonly #tunnel: Tunnel
  readonly #registry: Registry
  readonly #log: Logger
  readonly #loaded = new Map<PublicKey, Loaded>()
  readonly #timer: NodeJS.Timeout
  #ticks = 0

  constructor(tunnel: Tunnel, registry: Registry, log: Logger) {
    this.#tunnel = tunnel
    this.#registry = registry
    this.#log = log
    for (const device of registry.devices()) this.#put(device)
    this.#timer = setInterval(() => this.#tick(), TIMESTAMP_INTERVAL).unref()
  }

  /** Makes the tunnel agree with what the registry says of one device now. */
  refresh(publicKey: PublicKey): Refresh {
    const device = this.#registry.device(publicKey)
    const loaded = this.#loaded.get(publicKey)
    if (device === null) {
      if (loaded === undefined) return 'same'
      this.#tunnel.removePeer(publicKey)
      this.#loaded.delete(publicKey)
      this.#log.info({ user: loaded.device.user, device: publicKey }, 'device removed')
      return 'removed'
    }
    if (loaded !== undefined && isSamePeer(loaded.device, device)) return 'same'
    this.#put(device)
    const change = loaded === undefined ? 'added' : 'changed'
    this.#log.info({ user: device.user, device: publicKey }, `device ${change}`)
    return change
  }

  /** Makes the tunnel agree with the whole registry. Sessions of devices that did not change go on. */
  reload(): Reload {
    const reload = { added: 0, changed: 0, removed: 0 }
    const listed = this.#registry.devices().map(({ publicKey }) => publicKey)
    for (const publicKey of new Set([...this.#loaded.keys(), ...listed])) {
      const change = this.refresh(publicKey)
      if (change !== 'same') reload[change]++
    }
    return reload
  }

  /** Every device, as the registry orders them. */
  devices(): readonly DeviceState[] {
    return [...this.#loaded.values()].map((loaded) => {
      const { device, written, before } = loaded
      const status = this.#tunnel.peer(device.publicKey)
      return {
        device,
        endpoint: status?.path?.remote ?? null,
        latestHandshake: status?.latestHandshake ?? written.latestHandshake,
        rxBytes: before.rxBytes + (status?.rxBytes ?? 0),
        txBytes: before.txBytes + (status?.txBytes ?? 0),
        alive: status?.alive ?? false,
      }
    })
  }

  /** Writes timestamps, handshakes and usage of every device of which one changed; `replays`: only where a timestamp did. */
  flush(what: 'replays' | 'everything'): void {
    const progress: Progress[] = []
    const after: (() => void)[] = []
    for (const status of this.#tunnel.peers()) {
      const loaded = this.#loaded.get(status.publicKey)
      if (loaded === undefined) continue
      const lastTimestamp = this.#tunnel.lastTimestamp(status.publicKey)
      const { written } = loaded
      const step = { ...status, lastTimestamp }
      if (!(what === 'replays' ? hasNewTimestamp(written, step) : hasProgress(written, step))) continue
      progress.push({
        publicKey: status.publicKey,
        lastTimestamp,
        latestHandshake: status.latestHandshake,
        rxBytes: status.rxBytes - written.rxBytes,
        txBytes: status.txBytes - written.txBytes,
      })
      after.push(() => (loaded.written = writtenOf(status, lastTimestamp)))
    }
    this.#registry.record(progress)
    for (const note of after) note() // what was not written is tried again next time
  }

  /** Writes everything that is not written yet. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer)
    this.flush('everything')
  }

  #put(device: Device): void {
    const { publicKey, presharedKey, address4, address6, lastTimestamp } = device
    this.#tunnel.putPeer({
      publicKey,
      presharedKey,
      allowedIps: [parseCidr(address4), parseCidr(address6)],
      endpoint: null,
      roaming: 'follow',
      persistentKeepalive: 0,
      ...(lastTimestamp === null ? {} : { lastTimestamp }),
    })
    const written = this.#loaded.get(publicKey)?.written ?? {
      lastTimestamp,
      latestHandshake: device.latestHandshake,
      rxBytes: 0,
      txBytes: 0,
    }
    const before = { rxBytes: device.rxBytes - written.rxBytes, txBytes: device.txBytes - written.txBytes }
    this.#loaded.set(publicKey, { device, written, before })
  }

  #tick(): void {
    this.#ticks++
    try {
      this.flush(this.#ticks % USAGE_TICKS === 0 ? 'everything' : 'replays')
    } catch (error) {
      // A full disk ends no session. Nothing is lost yet: the next tick tries again.
      this.#log.error({ error: String(error) }, 'the registry could not be written')
    }
  }
}

interface Loaded {
  /** As it was when it was given to the tunnel. */
  readonly device: Device
  /** The usage before the tunnel's own counts began. */
  readonly before: Pick<Progress, 'rxBytes' | 'txBytes'>
  /** What the registry knows of the tunnel's own counts. */
  written: Written
}

type Written = Pick<Progress, 'lastTimestamp' | 'latestHandshake' | 'rxBytes' | 'txBytes'>

function writtenOf(status: PeerStatus, lastTimestamp: Uint8Array | null): Written {
  return {
    lastTimestamp,
    latestHandshake: status.latestHandshake,
    rxBytes: status.rxBytes,
    txBytes: status.txBytes,
  }
}

function hasNewTimestamp(before: Written, now: Written): boolean {
  if (now.lastTimestamp === null) return false
  return before.lastTimestamp === null || Buffer.compare(before.lastTimestamp, now.lastTimestamp) !== 0
}

function hasProgress(before: Written, now: Written): boolean {
  return (
    hasNewTimestamp(before, now) ||
    before.rxBytes !== now.rxBytes ||
    before.txBytes !== now.txBytes ||
    (now.latestHandshake !== null && before.latestHandshake !== now.latestHandshake)
  )
}

/** Whether two records are the same to the tunnel. */
function isSamePeer(a: Device, b: Device): boolean {
  const sameKey =
    a.presharedKey === null || b.presharedKey === null
      ? a.presharedKey === b.presharedKey
      : a.presharedKey.equals(b.presharedKey)
  return sameKey && a.address4 === b.address4 && a.address6 === b.address6 && a.user === b.user
}

/** Milliseconds. The greatest timestamp of a device is on the disk 5 s after it changed, at the latest. */
const TIMESTAMP_INTERVAL = 4000
/** Usage, which nothing depends on, is written every so many ticks: 32 s. */
const USAGE_TICKS = 8
