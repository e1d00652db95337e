/**
 * The door to the Rust data plane. The addon is loaded at the first use, so that importing this file works where it is not
 * built; its failures become TunnelErrors.
 */
import { createRequire } from 'node:module'

import type { Family, Port } from '../address.ts'
import type { Primitives } from '../crypto.ts'
import { TunnelError } from '../error.ts'
import type { TunnelErrorCode } from '../error.ts'
import type { Addon } from './addon.ts'
import { NativeDataplane } from './dataplane.ts'

/** How a data plane is opened. */
export interface NativeDataplaneOptions {
  /**
   * The interface to make; or a descriptor that stands for one: every message on it, either way, is a virtio_net_hdr of 10
   * bytes and a packet, as on a TUN opened with IFF_VNET_HDR. The data plane has a duplicate of its own.
   */
  readonly tun: TunSettings | { readonly fd: number }
  /** Of the interface, in bytes. It is set on an interface that is made here, and padding never exceeds it. */
  readonly mtu: number
  /** 0: the kernel chooses one that is free for IPv4 and IPv6. */
  readonly port: Port | 0
  /** SO_MARK on both sockets; 0: none. */
  readonly fwmark: number
  /** `off`: no TSO, USO, UDP_SEGMENT or UDP_GRO, for a network card or a kernel that gets them wrong. */
  readonly gso: 'auto' | 'off'
}

export interface TunSettings {
  /** 1 to 15 characters. */
  readonly name: string
  /**
   * Packets or super-packets that the interface queues: latency under load against loss. Not given: it follows the size of
   * what passes, from 512 small packets to 32 super-packets (src/queue.rs), for which CAP_NET_ADMIN has to be kept.
   */
  readonly txQueueLength?: number
  /**
   * `one-send`: the kernel makes no super-packet that needs two sends. For an end that begins the traffic itself: on one
   * that forwards, the kernel would cut up every larger super-packet that comes in. Default `kernel`.
   */
  readonly superPackets?: 'one-send' | 'kernel'
}

/**
 * Opens the TUN and the UDP port.
 * @throws TunnelError `no-native`, `no-tun`, `no-privilege`, `name-taken`, `port-taken` or `fault`.
 */
export function openNativeDataplane(options: NativeDataplaneOptions): NativeDataplane {
  const { tun, mtu, port, fwmark, gso } = options
  const common = { mtu, port, fwmark, gso }
  const { NodePlane } = native()
  return translated(() => {
    if ('fd' in tun) return new NativeDataplane(NodePlane.open({ fd: tun.fd, ...common }))
    const { superPackets, ...named } = tun
    const limitSuperPackets = superPackets === 'one-send'
    return new NativeDataplane(NodePlane.open({ ...named, limitSuperPackets, ...common }))
  })
}

/** The primitives in Rust: what production uses. @throws TunnelError `no-native` at the first use. */
export const nativePrimitives: Primitives = {
  publicKey: (privateKey) => native().publicKey(privateKey),
  x25519: (privateKey, publicKey) => native().x25519(privateKey, publicKey),
  hash: (...parts) => native().hash(parts),
  mac: (key, ...parts) => native().mac(key, parts),
  hmac: (key, ...parts) => native().hmac(key, parts),
  seal: (key, counter, plaintext, associated) => native().seal(key, counter, plaintext, associated),
  open: (key, counter, sealed, associated) => native().open(key, counter, sealed, associated),
  xseal: (key, nonce, plaintext, associated) => native().xseal(key, nonce, plaintext, associated),
  xopen: (key, nonce, sealed, associated) => native().xopen(key, nonce, sealed, associated),
  random: (length) => native().random(length),
}

/** Who connected to a Unix socket, as it was at that moment (SO_PEERCRED). @throws TunnelError `fault`: not a Unix socket. */
export function peerCredentials(fd: number): {
  readonly pid: number
  readonly uid: number
  readonly gid: number
} {
  return translated(() => native().peerCredentials(fd))
}

/**
 * A socket whose descriptor Node can adopt (`net.Socket({ fd })`, `dgram`'s `bind({ fd })`), marked before anything else is
 * done with it: Node itself has no SO_MARK. Non-blocking, closed on exec; the caller owns it.
 * @throws TunnelError `no-privilege`: a mark needs CAP_NET_ADMIN.
 */
export function markedSocket(options: {
  readonly family: Family
  readonly type: 'udp' | 'tcp'
  readonly mark: number
}): number {
  return translated(() => native().markedSocket(options.family, options.type, options.mark))
}

/**
 * Two connected descriptors that keep the boundaries of messages (SOCK_SEQPACKET): one stands for a TUN in
 * `openNativeDataplane`, the other is the test's. Non-blocking, closed on exec; the caller owns both.
 */
export function packetPair(): readonly [number, number] {
  const [a = -1, b = -1] = translated(() => native().packetPair())
  return [a, b]
}

/** Says where the addon lies when it is not beside this file, as in a single executable. Before the first use. */
export function useAddon(path: string): void {
  addonPath = path
}

/** The addon, loaded once. @throws TunnelError `no-native`. */
function native(): Addon {
  if (addon !== null) return addon
  try {
    // What a .node exports has no type of its own; native.test.ts holds the two together.
    addon = createRequire(import.meta.url)(addonPath) as Addon
  } catch (cause) {
    throw new TunnelError('no-native', 'the native part is not built: npm run setup', { cause })
  }
  return addon
}

/** Runs `call`, whose errors are the addon's: their `code` is a TunnelErrorCode where there is one (src/failure.rs). */
function translated<T>(call: () => T): T {
  try {
    return call()
  } catch (cause) {
    if (!(cause instanceof Error)) throw cause
    const code = codes.find((known) => 'code' in cause && cause.code === known) ?? 'fault'
    throw new TunnelError(code, cause.message, { cause })
  }
}

const codes: readonly TunnelErrorCode[] = ['no-tun', 'no-privilege', 'name-taken', 'port-taken', 'fault']
let addonPath = './culvert.node'
let addon: Addon | null = null
