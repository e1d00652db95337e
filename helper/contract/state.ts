/**
 * What the helper says about the tunnel. Snapshots are whole: whoever has the newest knows everything, and there is
 * nothing to put together from pieces.
 *
 *  disconnected ──connect──▶ connecting ──established──▶ connected ──lost──▶ connecting (resuming)
 *       ▲                      │   ▲ └─ attempt failed: connecting (attempt + 1)
 *       │                      │   └──────────── connect ──────────── failed ◀── what no attempt can mend
 *  disconnecting ◀──disconnect─┴── from connecting, connected and failed
 */
import type { SocketAddress } from '@culvert/tunnel/pure'
import type { ProfileId } from './profile.ts'

/** A way in which datagrams reach the server. */
export type CarrierId = 'udp' | 'veil' | 'websocket' | 'dns'

/** What an attempt is busy with: finding the server's address, or shaking hands with it. */
export type Stage = 'resolve' | 'handshake'

/** Why the tunnel is not up. The interface has a sentence for each. */
export type FailCause =
  | 'no-endpoint' // the profile does not say where its server is
  | 'endpoint-unresolved' // the server's name has no address, or no name server answered
  | 'offline' // the kernel knows no way to the server
  | 'no-answer' // the server did not answer the handshake, or fell silent
  | 'tunnel-failed' // the TUN device or the data plane could not be had, or stopped
  | 'host-failed' // an address, route, rule or table could not be set

export type TunnelState =
  | { readonly tag: 'disconnected' }
  | {
      readonly tag: 'connecting'
      readonly profile: ProfileId
      readonly stage: Stage
      /** From 1. */
      readonly attempt: number
      /** Whether a session was up before: then the routes stay, and what programs send waits in the tunnel. */
      readonly resuming: boolean
      /** Why the attempt before this one failed; null: there was none. */
      readonly cause: FailCause | null
      /** What happened, in English, for whoever mends it; may name an interface, a host or a command. */
      readonly detail: string | null
    }
  | {
      readonly tag: 'connected'
      readonly profile: ProfileId
      readonly carrier: CarrierId
      /** Outside, never a relay of our own. */
      readonly endpoint: SocketAddress
      /** Unix epoch, milliseconds. */
      readonly since: number
    }
  | {
      readonly tag: 'disconnecting'
      /** The profile to connect once all is closed; null: none. */
      readonly next: ProfileId | null
    }
  | {
      readonly tag: 'failed'
      readonly profile: ProfileId | null
      readonly cause: FailCause
      readonly detail: string | null
      /** Whether programs are kept from going around the tunnel. False is said plainly, never hidden. */
      readonly blocking: boolean
    }

/** What the tunnel has carried. */
export interface Traffic {
  /** Bytes of authenticated datagrams, as `wg show` counts them. */
  readonly rxBytes: number
  readonly txBytes: number
  /** Unix epoch, milliseconds; null: none yet. */
  readonly latestHandshake: number | null
  /** Of the interface, in bytes. */
  readonly mtu: number
}

/** All that anyone on the machine may know. */
export interface Outline {
  readonly tag: 'outline'
  readonly state: TunnelState['tag']
  readonly blocking: boolean
  readonly cause: FailCause | null
}

/** What somebody who may use the profile in question sees. */
export interface FullSnapshot {
  readonly tag: 'full'
  readonly tunnel: TunnelState
  /** The profile that `tunnel` names. */
  readonly profileName: string | null
  readonly blocking: boolean
  /** As it was when the snapshot was taken; null: no tunnel is open. */
  readonly traffic: Traffic | null
}

export type Snapshot = Outline | FullSnapshot
