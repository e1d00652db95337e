/** A profile, as it is shown and as it is handed in. Secrets go down once, in a draft, and never come up. */
import type { Cidr, Endpoint, InterfaceAddress, IpAddress, Port, PublicKey } from '@culvert/tunnel/pure'

/** 16 hexadecimal digits, drawn by the helper. */
export type ProfileId = string & { readonly brand: 'ProfileId' }

/** A peer of a profile, without its secret. */
export interface PeerConfig {
  readonly publicKey: PublicKey
  /** Null: it has to write to us first. */
  readonly endpoint: Endpoint | null
  readonly allowedIps: readonly Cidr[]
  /** Seconds; 0: none. */
  readonly persistentKeepalive: number
}

/** A profile without its secrets. */
export interface Profile {
  readonly id: ProfileId
  readonly name: string
  /** The uid that added it: nobody else but root changes it. */
  readonly owner: number
  /** Whether everyone who may use the helper sees it and may connect with it. */
  readonly shared: boolean
  readonly addresses: readonly InterfaceAddress[]
  readonly dns: readonly IpAddress[]
  readonly searchDomains: readonly string[]
  /** Bytes; null: from the route to the server. */
  readonly mtu: number | null
  /** Null: the kernel chooses. */
  readonly listenPort: Port | null
  readonly peers: readonly PeerConfig[]
  /** When it was last connected (Unix epoch, milliseconds); null: never. */
  readonly lastUsed: number | null
}

/** A peer as it is handed in. */
export interface PeerDraft extends PeerConfig {
  /** Base64; null: none. */
  readonly presharedKey: string | null
}

/** A profile as it is handed in. */
export interface ProfileDraft extends Omit<Profile, 'id' | 'owner' | 'lastUsed' | 'peers'> {
  /** Base64. */
  readonly privateKey: string
  readonly peers: readonly PeerDraft[]
}
