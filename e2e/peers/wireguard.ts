/**
 * wireguard-go and boringtun in a host, brought up from a .conf as wg-quick would: addresses, routes around the endpoint, MTU.
 */
import type { Host } from '../lab/host.ts'
import { eventually, type Program } from '../lab/program.ts'
import { list, readConf, setCommand, uapi } from './uapi.ts'

/** A running peer. Disposing of it ends the program, and its interface with it. */
export interface WireGuard extends AsyncDisposable {
  readonly program: Program
  /** Totals of its first peer, as `wg show` has them. */
  status(): Promise<{ rxBytes: number; txBytes: number; latestHandshake: number; endpoint: string }>
}

/** How to start a device of that name in the foreground. */
export type Kind = 'wireguard-go' | 'boringtun'

/**
 * Starts a device in a host and configures it.
 * @param routes what goes into it; the endpoint's own route must be more specific, or there is a loop.
 */
export async function startWireGuard(
  host: Host,
  kind: Kind,
  program: string,
  device: string,
  source: string,
  routes: readonly string[] = [],
): Promise<WireGuard> {
  const conf = readConf(source)
  const socket = `/run/wireguard/${device}.sock`
  await host.run(['mkdir', '-p', '/run/wireguard'])
  const argv =
    kind === 'wireguard-go'
      ? [program, '--foreground', device]
      : [program, '--foreground', '--disable-drop-privileges', '--verbosity', 'error', device]
  const running = host.start(argv, { env: { LOG_LEVEL: 'error', WG_PROCESS_FOREGROUND: '1' } })
  // The socket seen from this machine: through the root of the host's PID 1.
  const path = `/proc/${host.pid}/root${socket}`
  await eventually(`${kind} to open ${socket}`, 15_000, async () => {
    if (!running.running) throw new Error(`${kind} ended: ${running.stderr.trim()}`)
    const { status } = await host.exec(['test', '-S', socket])
    return status === 0 ? true : null
  })
  await uapi(path, setCommand(conf))
  const mtu = conf.own.get('mtu') ?? '1420'
  await host.ip(
    ...list(conf.own.get('address')).map(
      (address) => `address add ${address} dev ${device}${address.includes(':') ? ' nodad' : ''}`,
    ),
    `link set ${device} mtu ${mtu} up`,
    ...routes.map((route) => `route add ${route} dev ${device}`),
  )
  return {
    program: running,
    status: async () => {
      const pairs = new Map(await uapi(path, 'get=1\n\n'))
      const number = (key: string) => Number(pairs.get(key) ?? 0)
      return {
        rxBytes: number('rx_bytes'),
        txBytes: number('tx_bytes'),
        latestHandshake: number('last_handshake_time_sec'),
        endpoint: pairs.get('endpoint') ?? '',
      }
    },
    [Symbol.asyncDispose]: async () => {
      await running[Symbol.asyncDispose]()
    },
  }
}
