/**
 * Culvert's tunnel alone, without server or helper around it, as a program like wireguard-go: `culvert.ts NAME [off]` reads a .conf from
 * standard input, opens the interface and carries until SIGTERM. `off`: without GSO. Says `ready` and what it may use.
 */
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { openTunnel, parseIp, parseWgQuick } from '@culvert/tunnel'
import type { Host } from '../lab/host.ts'
import { eventually } from '../lab/program.ts'
import { list, readConf } from './uapi.ts'
import type { WireGuard } from './wireguard.ts'

/** Starts it in a host, with addresses, MTU and routes, as `startWireGuard` does for the others. */
export async function startCulvert(
  host: Host,
  device: string,
  source: string,
  routes: readonly string[] = [],
): Promise<WireGuard> {
  const program = host.start([process.execPath, fileURLToPath(import.meta.url), device], { input: source })
  await program.says(/^ready/m, 15_000)
  const own = readConf(source).own
  await host.ip(
    ...list(own.get('address')).map(
      (address) => `address add ${address} dev ${device}${address.includes(':') ? ' nodad' : ''}`,
    ),
    `link set ${device} up`,
    ...routes.map((route) => `route add ${route} dev ${device}`),
  )
  return {
    program,
    status: async () => {
      const mark = program.stdout.length
      program.kill('SIGUSR2')
      // Our own program's words, read back.
      return eventually('culvert.ts to say its status', 5000, () => {
        const line = /^\{.*\}$/m.exec(program.stdout.slice(mark))?.[0]
        return line === undefined ? null : (JSON.parse(line) as Awaited<ReturnType<WireGuard['status']>>)
      })
    },
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  }
}

async function carry(name: string, gso: 'auto' | 'off'): Promise<void> {
  const { conf } = parseWgQuick(await text(process.stdin), 'standard input')
  await using tunnel = await openTunnel({
    name,
    mtu: conf.mtu ?? 1420,
    privateKey: conf.privateKey,
    port: conf.listenPort ?? 0,
    fwmark: 0,
    gso,
    onEvent: (event) => {
      if (event.tag !== 'fault') return
      process.stderr.write(`${event.message}\n`)
      process.exit(1)
    },
  })
  for (const { publicKey, presharedKey, allowedIps, endpoint, persistentKeepalive } of conf.peers) {
    const address = endpoint === null ? null : { address: parseIp(endpoint.host), port: endpoint.port }
    tunnel.putPeer({
      publicKey,
      presharedKey,
      allowedIps,
      endpoint: address,
      roaming: 'follow',
      persistentKeepalive,
    })
  }
  process.on('SIGUSR2', () => {
    const [peer] = tunnel.peers()
    const remote = peer?.path?.remote
    const status = {
      rxBytes: peer?.rxBytes ?? 0,
      txBytes: peer?.txBytes ?? 0,
      latestHandshake: Math.floor((peer?.latestHandshake ?? 0) / 1000),
      endpoint: remote === undefined ? '' : `${remote.address}:${remote.port}`,
    }
    process.stdout.write(`${JSON.stringify(status)}\n`)
  })
  // Neither a tunnel nor a signal's listener keeps the process alive.
  const alive = setInterval(() => {}, 60_000)
  process.stdout.write(`ready ${tunnel.offloads.join(' ')}\n`)
  await once(process, 'SIGTERM')
  clearInterval(alive)
}

if (import.meta.main) await carry(process.argv[2] ?? 'culvert', process.argv[3] === 'off' ? 'off' : 'auto')
