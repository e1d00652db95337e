/**
 * Who is measured. A contender brings its tunnel up over a pair of hosts, with what it does by default: MTU 1420 and its own
 * queue length for the WireGuards, OpenVPN as its manual has it for speed.
 */
import { peer } from '../peers.ts'
import { makeKeys } from '../peers/uapi.ts'
import { startWireGuard } from '../peers/wireguard.ts'
import type { Program } from '../lab/program.ts'
import { openCulvert } from './culvert.ts'
import { openOpenVpn } from './openvpn.ts'
import { CABLE, type End, type Pair } from './pair.ts'

export interface Contender {
  readonly name: string
  readonly version: string
  /** `ours`: Culvert; `peer`: what it is compared with; `reference`: the cable alone, which no tunnel reaches. */
  readonly role: 'ours' | 'peer' | 'reference'
  /** Resolves when both ends run; the first packet may still wait for a handshake. */
  open(pair: Pair): Promise<OpenTunnel>
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
      return { name, version: 'this checkout', role: 'ours', open: openCulvert }
    case 'no tunnel':
      return { name, version: '', role: 'reference', open: openCable }
    case 'wireguard-go':
    case 'boringtun': {
      const found = await peer(name)
      if (found.tag === 'absent') return found.why
      const { program, version } = found
      return { name, version, role: 'peer', open: (pair) => openWireGuard(name, program, pair) }
    }
    case 'openvpn': {
      const found = await peer(name)
      if (found.tag === 'absent') return found.why
      const { program, version } = found
      return { name, version, role: 'peer', open: (pair) => openOpenVpn(program, pair) }
    }
  }
}

async function openWireGuard(
  kind: 'wireguard-go' | 'boringtun',
  program: string,
  { near, far }: Pair,
): Promise<OpenTunnel> {
  const [nearKeys, farKeys] = [makeKeys(), makeKeys()]
  await using stack = new AsyncDisposableStack()
  const start = async (own: End, other: End, privateKey: string, publicKey: string) => {
    const conf = `
      [Interface]
      PrivateKey = ${privateKey}
      ListenPort = ${PORT}
      Address = ${own.inside}/24
      [Peer]
      PublicKey = ${publicKey}
      Endpoint = ${other.outside}:${PORT}
      AllowedIPs = ${other.inside}/32`
    return stack.use(await startWireGuard(own.host, kind, program, DEVICE, conf))
  }
  const ends = [
    await start(far, near, farKeys.privateKey, nearKeys.publicKey),
    await start(near, far, nearKeys.privateKey, farKeys.publicKey),
  ]
  const open = stack.move()
  return {
    device: DEVICE,
    address: far.inside,
    programs: ends.map((end) => end.program),
    headers: IPV4_UDP_HEADERS,
    [Symbol.asyncDispose]: () => open.disposeAsync(),
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

/** The tunnels' interface on both hosts. */
export const DEVICE = 'tun0'
/** The tunnels' UDP port on both hosts. */
export const PORT = 51820
/** What a TUN counts with a UDP payload, in bytes. */
export const IPV4_UDP_HEADERS = 28

const ETHERNET_HEADER = 14
