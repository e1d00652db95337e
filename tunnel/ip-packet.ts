/** Just enough of IP to route a packet and to cut a TCP super-packet, as the kernel's TSO would (RFC 791, 8200, 9293). */

/** The addresses of an IP packet, and its length without what padding may follow. */
export interface IpPacket {
  readonly length: number
  readonly source: Uint8Array
  readonly destination: Uint8Array
}

/** Reads a packet's header; null when the bytes are no whole IP packet. */
export function parseIpPacket(bytes: Uint8Array): IpPacket | null {
  const view = viewOf(bytes)
  switch ((bytes[0] ?? 0) >> 4) {
    case 4: {
      if (bytes.length < IPV4_HEADER) return null
      const length = view.getUint16(2)
      if (length < IPV4_HEADER || length > bytes.length) return null
      return { length, source: bytes.subarray(12, 16), destination: bytes.subarray(16, 20) }
    }
    case 6: {
      if (bytes.length < IPV6_HEADER) return null
      const length = IPV6_HEADER + view.getUint16(4)
      if (length > bytes.length) return null
      return { length, source: bytes.subarray(8, 24), destination: bytes.subarray(24, 40) }
    }
    default:
      return null
  }
}

/** Cuts a TCP packet into packets of `segment` bytes of payload, with lengths, sequence numbers, flags and checksums of their own. */
export function cutTcp(packet: Uint8Array, segment: number): Uint8Array[] {
  const ipHeader = (packet[0] ?? 0) >> 4 === 4 ? ((packet[0] ?? 0) & 15) * 4 : IPV6_HEADER
  const header = ipHeader + ((packet[ipHeader + 12] ?? 0) >> 4) * 4
  const pieces: Uint8Array[] = []
  for (let offset = header; offset < packet.length; offset += segment) {
    const payload = packet.subarray(offset, offset + segment)
    const piece = new Uint8Array(header + payload.length)
    piece.set(packet.subarray(0, header))
    piece.set(payload, header)
    finishPiece(piece, ipHeader, {
      position: pieces.length,
      sequence: offset - header,
      isLast: offset + segment >= packet.length,
    })
    pieces.push(piece)
  }
  return pieces
}

/** Writes the checksums of a TCP packet, and of its IPv4 header. */
export function writeTcpChecksums(packet: Uint8Array, ipHeader: number): void {
  const view = viewOf(packet)
  const isV4 = ipHeader !== IPV6_HEADER || (packet[0] ?? 0) >> 4 === 4
  if (isV4) {
    view.setUint16(10, 0)
    view.setUint16(10, ~sum(packet.subarray(0, ipHeader)) & 0xffff)
  }
  const addresses = isV4 ? packet.subarray(12, 20) : packet.subarray(8, 40)
  view.setUint16(ipHeader + 16, 0)
  const pseudo = sum(addresses) + TCP + (packet.length - ipHeader)
  view.setUint16(ipHeader + 16, ~sum(packet.subarray(ipHeader), pseudo) & 0xffff)
}

function finishPiece(
  piece: Uint8Array,
  ipHeader: number,
  {
    position,
    sequence,
    isLast,
  }: { readonly position: number; readonly sequence: number; readonly isLast: boolean },
): void {
  const view = viewOf(piece)
  if ((piece[0] ?? 0) >> 4 === 4) {
    view.setUint16(2, piece.length)
    view.setUint16(4, (view.getUint16(4) + position) & 0xffff) // identification
  } else {
    view.setUint16(4, piece.length - IPV6_HEADER)
  }
  view.setUint32(ipHeader + 4, (view.getUint32(ipHeader + 4) + sequence) >>> 0)
  let flags = view.getUint8(ipHeader + 13)
  if (!isLast) flags &= ~(FIN | PSH)
  if (position > 0) flags &= ~CWR
  view.setUint8(ipHeader + 13, flags)
  writeTcpChecksums(piece, ipHeader)
}

/** The ones' complement sum of RFC 1071, folded to 16 bits. */
function sum(bytes: Uint8Array, initial = 0): number {
  let total = initial
  for (let i = 0; i < bytes.length; i += 2) total += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16)
  return total
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

const IPV4_HEADER = 20
const IPV6_HEADER = 40
const TCP = 6
const FIN = 0x01
const PSH = 0x08
const CWR = 0x80
