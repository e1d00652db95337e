/**
 * Who is measured. A contender brings its tunnel up over a pair of hosts, with what it does by default: MTU 1420 and its own
 * queue length for the WireGuards. Culvert is two bare tunnels, one Node program a host: what carries a packet is the same with the
 * server and the helper around it, and so they would only add things to set up.
 */
import type { Host } from '../lab/host.ts'
import { peer } from '../peers.ts'
import { makeKeys } from '../peers/uapi.ts'
import { startCulvert } from '../peers/culvert.ts'
import { startWireGuard, type WireGuard } from '../peers/wireguard.ts'
import { openOpenVpn } from './openvpn.ts'
import { CABLE, DEVICE, IPV4_UDP_HEADERS, PORT, type End, type OpenTunnel, type Pair } from './pair.ts'

export interface Contender {
  readonly name: string
  readonly version: string
  /** `ours`: Culvert; `peer`: what it is compared with; `reference`: the cable alone, which no tunnel reaches. */
  readonly role: 'ours' | 'peer' | 'reference'
  /** Resolves when both ends run; the first packet may still wait for a handshake. */
  open(pair: Pair): Promise<OpenTunnel>
}

/** The names that `contenders` knows, in the order of a round. */
export const names = ['culvert', 'wireguard-go', 'boringtun', 'openvpn', 'no tunnel'] as const
export type Name = (typeof names)[number]

/** The contenders of these names that are here, building peers if need be, and a sentence for each that is not. */
export async function contenders(
  wanted: readonly Name[],
): Promise<{ readonly here: readonly Contender[]; readonly absent: readonly string[] }> {
  const here: Contender[] = []
  const absent: string[] = []
  for (const name of wanted) {
    const found = await contender(name)
    if (typeof found === 'string') absent.push(found)
    else here.push(found)
  }
  return { here, absent }
}

async function contender(name: Name): Promise<Contender | string> {
  switch (name) {
    case 'culvert':
      return {
        name,
        version: 'this checkout',
        role: 'ours',
        open: (pair) => openWireGuards(pair, startCulvert),
      }
    case 'no tunnel':
      return { name, version: '', role: 'reference', open: openCable }
    case 'wireguard-go':
    case 'boringtun': {
      const found = await peer(name)
      if (found.tag === 'absent') return found.why
      const start: Start = (host, device, conf) => startWireGuard(host, name, found.program, device, conf)
      return { name, version: found.version, role: 'peer', open: (pair) => openWireGuards(pair, start) }
    }
    case 'openvpn': {
      const found = await peer(name)
      if (found.tag === 'absent') return found.why
      const { program, version } = found
      return { name, version, role: 'peer', open: (pair) => openOpenVpn(program, pair) }
    }
  }
}

type Start = (host: Host, device: string, conf: string) => Promise<WireGuard>

/** Two programs that speak WireGuard and take a .conf. */
async function openWireGuards({ near, far }: Pair, start: Start): Promise<OpenTunnel> {
  const [nearKeys, farKeys] = [makeKeys(), makeKeys()]
  await using stack = new AsyncDisposableStack()
  const open = async (own: End, other: End, privateKey: string, publicKey: string) => {
    const conf = `
      [Interface]
      PrivateKey = ${privateKey}
      ListenPort = ${PORT}
      Address = ${own.inside}/24
      [Peer]
      PublicKey = ${publicKey}
      Endpoint = ${other.outside}:${PORT}
      AllowedIPs = ${other.inside}/32`
    return stack.use(await start(own.host, DEVICE, conf))
  }
  const ends = [
    await open(far, near, farKeys.privateKey, nearKeys.publicKey),
    await open(near, far, nearKeys.privateKey, farKeys.publicKey),
  ]
  const running = stack.move()
  return {
    device: DEVICE,
    address: far.inside,
    programs: ends.map((end) => end.program),
    headers: IPV4_UDP_HEADERS,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

/** The cable as it is: what the hosts, iperf3 and ping themselves can do in this run. */
async function openCable({ far }: Pair): Promise<OpenTunnel> {
  return {
    device: CABLE,
    address: far.outside,
    programs: [],
    headers: ETHERNET_HEADER + IPV4_UDP_HEADERS,
    [Symbol.asyncDispose]: async () => {},
  }
}

const ETHERNET_HEADER = 14
