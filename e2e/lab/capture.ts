/**
 * What passes over a link: tcpdump writes a capture file, this reads it back as datagrams. Only the head of each frame is kept, so a
 * gigabyte may pass. Lengths are those of the IP header, not of what was kept.
 */
import { readFile } from 'node:fs/promises'
import type { Host } from './host.ts'
import type { Program } from './program.ts'

/** One IP packet that was seen. */
export interface Seen {
  readonly family: 4 | 6
  readonly source: string
  readonly destination: string
  /** The IP protocol: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6. */
  readonly protocol: number
  /** Null: a protocol without ports. */
  readonly ports: { readonly source: number; readonly destination: number } | null
  /** Bytes behind the UDP header, or behind the IP header where it isn't UDP. */
  readonly length: number
  /** The first of those bytes. */
  readonly head: Buffer
}

/** A running capture. */
export interface Capture {
  /** Ends it and gives what was seen, in order. @throws Error when the kernel had to drop frames. */
  seen(): Promise<readonly Seen[]>
}

/** Begins to capture every frame on one interface of a host, and of each its first `keep` bytes. Resolves when it sees. */
export async function capture(host: Host, device: string, file: string, keep = HEAD): Promise<Capture> {
  const program: Program = host.start([
    ...`tcpdump -i ${device} --immediate-mode -n -U -Z root --snapshot-length ${keep} --buffer-size 65536 -w`.split(
      ' ',
    ),
    file,
  ])
  await program.says(/listening on/, 10_000)
  return {
    seen: async () => {
      const { stderr } = await program.stop()
      const dropped = /(\d+) packets? dropped by kernel/.exec(stderr)?.[1] ?? 'an unknown number of'
      if (dropped !== '0') throw new Error(`the capture on ${host.name} ${device} lost ${dropped} frames`)
      return parsePcap(await readFile(file))
    },
  }
}

/** Reads a capture file of Ethernet frames (pcap-savefile(5)); what isn't IP is left out. */
export function parsePcap(file: Buffer): readonly Seen[] {
  const magic = file.readUInt32LE(0)
  if (magic !== 0xa1b2c3d4 && magic !== 0xa1b23c4d) throw new Error('this is not a little-endian pcap file')
  const seen: Seen[] = []
  for (let at = 24; at + 16 <= file.length;) {
    const kept = file.readUInt32LE(at + 8)
    const packet = parseFrame(file.subarray(at + 16, at + 16 + kept))
    if (packet !== null) seen.push(packet)
    at += 16 + kept
  }
  return seen
}

function parseFrame(frame: Buffer): Seen | null {
  if (frame.length < 54) return null
  const type = frame.readUInt16BE(12)
  const ip = frame.subarray(14)
  if (type === 0x0800) {
    const header = (ip.readUInt8(0) & 0x0f) * 4
    const [source, destination] = [ip.subarray(12, 16).join('.'), ip.subarray(16, 20).join('.')]
    return transport(
      4,
      source,
      destination,
      ip.readUInt8(9),
      ip.readUInt16BE(2) - header,
      ip.subarray(header),
    )
  }
  if (type === 0x86dd) {
    const [source, destination] = [ipv6(ip.subarray(8, 24)), ipv6(ip.subarray(24, 40))]
    return transport(6, source, destination, ip.readUInt8(6), ip.readUInt16BE(4), ip.subarray(40))
  }
  return null
}

function transport(
  family: 4 | 6,
  source: string,
  destination: string,
  protocol: number,
  length: number,
  rest: Buffer,
): Seen {
  const packet = { family, source, destination, protocol }
  if ((protocol !== 6 && protocol !== 17) || rest.length < 8)
    return { ...packet, ports: null, length, head: rest }
  const ports = { source: rest.readUInt16BE(0), destination: rest.readUInt16BE(2) }
  if (protocol === 6) return { ...packet, ports, length, head: rest }
  return { ...packet, ports, length: length - 8, head: rest.subarray(8) }
}

/** As the lab writes its addresses (RFC 5952), which URL does for us. */
function ipv6(bytes: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(2 * i).toString(16))
  return new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1)
}

/** Ethernet, IPv6 and UDP headers, and the first bytes of a WireGuard message. */
const HEAD = 96
