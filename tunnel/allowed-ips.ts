/**
 * Cryptokey routing (paper, 2): which peer an address belongs to, by longest prefix. Asked for the destination of what
 * goes out, and for the source of what came in, always over the prefixes of all peers: an address inside another
 * peer's longer prefix is not ours to send from.
 */
import { addressOf, familyOf, ipBytes, prefixLengthOf } from './address.ts'
import type { Cidr } from './address.ts'
import type { PeerId } from './dataplane.ts'

export class AllowedIps {
  /** For each family, lengths in use, longest first; for each length, network number to owner. */
  readonly #tables: Readonly<Record<4 | 6, Map<number, Map<bigint, PeerId>>>> = { 4: new Map(), 6: new Map() }
  readonly #prefixes = new Map<PeerId, Set<Cidr>>()

  /** Replaces a peer's prefixes. One that another peer had moves to this one, as with `wg`. */
  replace(peer: PeerId, prefixes: readonly Cidr[]): void {
    this.remove(peer)
    this.#prefixes.set(peer, new Set(prefixes))
    for (const prefix of prefixes) {
      const { table, key } = this.#slot(prefix)
      const owner = table.get(key)
      if (owner !== undefined && owner !== peer) this.#prefixes.get(owner)?.delete(prefix)
      table.set(key, peer)
    }
  }

  remove(peer: PeerId): void {
    for (const prefix of this.#prefixes.get(peer) ?? []) {
      const { tables, table, length, key } = this.#slot(prefix)
      table.delete(key)
      if (table.size === 0) tables.delete(length)
    }
    this.#prefixes.delete(peer)
  }

  /** Whose address this is: 4 or 16 bytes in network order. */
  lookup(address: Uint8Array): PeerId | null {
    const bits = address.length * 8
    const number = toNumber(address)
    for (const [length, table] of this.#tables[bits === 32 ? 4 : 6]) {
      const owner = table.get(number >> BigInt(bits - length))
      if (owner !== undefined) return owner
    }
    return null
  }

  #slot(prefix: Cidr) {
    const family = familyOf(prefix)
    const length = prefixLengthOf(prefix)
    const bytes = ipBytes(addressOf(prefix)) ?? new Uint8Array(0)
    const key = toNumber(bytes) >> BigInt(bytes.length * 8 - length)
    const tables = this.#tables[family]
    return { tables, table: tables.get(length) ?? addLength(tables, length), length, key }
  }
}

/** Adds a table and keeps the longest prefixes first. */
function addLength(tables: Map<number, Map<bigint, PeerId>>, length: number): Map<bigint, PeerId> {
  const added = new Map<bigint, PeerId>()
  const sorted = [...tables, [length, added] as const].toSorted(([a], [b]) => b - a)
  tables.clear()
  for (const [key, table] of sorted) tables.set(key, table)
  return added
}

function toNumber(bytes: Uint8Array): bigint {
  let number = 0n
  for (const byte of bytes) number = (number << 8n) | BigInt(byte)
  return number
}
