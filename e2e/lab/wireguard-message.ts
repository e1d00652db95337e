/** WireGuard's messages as somebody on the road sees them: type and length (paper, 5.4). Written apart from tunnel/, which it judges. */
import type { Seen } from './capture.ts'

export type MessageKind = 'initiation' | 'response' | 'cookie' | 'data'

/** Which message of WireGuard's a UDP payload is, by its first four bytes and its length; null: none. */
export function messageKind({ head, length }: Pick<Seen, 'head' | 'length'>): MessageKind | null {
  if (head.length < 4) return null
  const type = head.readUInt32LE(0)
  if (type === 1 && length === 148) return 'initiation'
  if (type === 2 && length === 92) return 'response'
  if (type === 3 && length === 64) return 'cookie'
  // A header of 16, a tag of 16, and the packet, padded to 16 but never past the tunnel's MTU.
  if (type === 4 && length >= 32 && (length % 16 === 0 || length > MIN_MTU)) return 'data'
  return null
}

/** A message shorter than this cannot have been capped by an MTU, so it must be padded. */
const MIN_MTU = 1280
