/**
 * Two hosts and one cable between them:
 *
 *   near  eth0 192.0.2.1 ──────── 192.0.2.2 eth0  far        MTU 1500
 *         device 10.77.0.1 ═════════ 10.77.0.2 device       the tunnel that is measured
 *
 * The cable is a veth pair with everything on, so a GSO super-packet crosses it whole, for each contender alike.
 */
import { Host, join } from '../lab/host.ts'
import type { Program } from '../lab/program.ts'

/** One end: the host, its own addresses, and those of the other. */
export interface End {
  readonly host: Host
  /** On the cable. */
  readonly outside: string
  /** In the tunnel, without prefix length, which is 24. */
  readonly inside: string
}

export interface Pair extends AsyncDisposable {
  readonly near: End
  readonly far: End
}

/** A tunnel that is up. Disposing of it takes it down. */
export interface OpenTunnel extends AsyncDisposable {
  /** The interface's name on both hosts. */
  readonly device: string
  /** Where the far host is reached through it. */
  readonly address: string
  /** The programs that carry packets, whose CPU time counts. */
  readonly programs: readonly Program[]
  /** Bytes that the device counts with a small packet besides its payload. */
  readonly headers: number
}

/** Makes two fresh hosts: nothing that one contender left behind, like cached TCP metrics, is there for the next. */
export async function openPair(): Promise<Pair> {
  await using stack = new AsyncDisposableStack()
  const host = async (name: string) => stack.use(await Host.open(name))
  const [near, far] = await Promise.all([host('near'), host('far')])
  await join(
    { host: near, name: CABLE, addresses: ['192.0.2.1/24'] },
    { host: far, name: CABLE, addresses: ['192.0.2.2/24'] },
  )
  // Within a round too: the second flow must not begin with what the first one learned.
  await Promise.all([near, far].map((host) => host.sysctl({ 'net.ipv4.tcp_no_metrics_save': 1 })))
  const open = stack.move()
  return {
    near: { host: near, outside: '192.0.2.1', inside: '10.77.0.1' },
    far: { host: far, outside: '192.0.2.2', inside: '10.77.0.2' },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

/** Both ends' interface on the cable. */
export const CABLE = 'eth0'
/** The tunnels' interface on both hosts. */
export const DEVICE = 'tun0'
/** The tunnels' UDP port on both hosts. */
export const PORT = 51820
/** What a TUN counts with a UDP payload, in bytes. */
export const IPV4_UDP_HEADERS = 28
