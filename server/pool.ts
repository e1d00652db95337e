/**
 * The address pool: one IPv4 and one IPv6 prefix, and in both the same numbers. Number 1 is the server; each device has
 * one number, and with it the n-th address of either prefix.
 */
import {
  addressOf,
  contains,
  familyOf,
  formatIp,
  ipBytes,
  parseCidr,
  prefixLengthOf,
  type Cidr,
  type InterfaceAddress,
  type IpAddress,
} from '@culvert/tunnel/pure'

export interface Pool {
  readonly pool4: Cidr
  readonly pool6: Cidr
}

/** An address of each family. */
export interface AddressPair {
  readonly address4: IpAddress
  readonly address6: IpAddress
}

/** The addresses with that number. `number` is at least 0 and at most `lastNumber` + 1. */
export function addressesOf(pool: Pool, number: number): AddressPair {
  return { address4: nth(pool.pool4, number), address6: nth(pool.pool6, number) }
}

/** The largest number that a device can have: 0 is the IPv4 network's own address, the last its broadcast address. */
export function lastNumber(pool: Pool): number {
  return 2 ** (32 - prefixLengthOf(pool.pool4)) - 2
}

/** The server's own addresses, with the pool's prefix lengths: what the interface gets. */
export function serverAddresses(pool: Pool): readonly [InterfaceAddress, InterfaceAddress] {
  const { address4, address6 } = addressesOf(pool, SERVER_NUMBER)
  // An address of the pool with the pool's length is an interface address by construction.
  return [
    `${address4}/${prefixLengthOf(pool.pool4)}` as InterfaceAddress,
    `${address6}/${prefixLengthOf(pool.pool6)}` as InterfaceAddress,
  ]
}

/** Whether a prefix and an interface's network share an address. */
export function overlaps(pool: Cidr, address: InterfaceAddress): boolean {
  if (familyOf(pool) !== familyOf(address)) return false
  return contains(pool, addressOf(address)) || contains(parseCidr(address), pool)
}

/**
 * The first usual IPv4 pool that lies over none of these addresses. A cloud's private network often lies in 10.0.0.0/8,
 * and a pool over it would cut the machine off from it.
 */
export function choosePool4(taken: readonly InterfaceAddress[]): Cidr | null {
  return USUAL_POOLS.find((pool) => !taken.some((address) => overlaps(pool, address))) ?? null
}

/** A ULA /48 (RFC 4193, 3.2): fd and 40 random bits. `random` is 5 bytes. */
export function uniqueLocalPrefix(random: Uint8Array): Cidr {
  const bytes = new Uint8Array(16)
  bytes[0] = 0xfd
  bytes.set(random.subarray(0, 5), 1)
  return parseCidr(`${formatIp(bytes)}/48`)
}

/** The server's number in its own pool. */
export const SERVER_NUMBER = 1
/** The first number that a device gets. */
export const FIRST_DEVICE_NUMBER = 2

function nth(prefix: Cidr, number: number): IpAddress {
  const bytes = Uint8Array.from(ipBytes(addressOf(prefix)) ?? [])
  let carry = number
  for (let i = bytes.length - 1; i >= 0 && carry > 0; i--) {
    const sum = (bytes[i] ?? 0) + carry
    bytes[i] = sum % 256
    carry = Math.floor(sum / 256)
  }
  return formatIp(bytes)
}

const USUAL_POOLS: readonly Cidr[] = ['10.64.0.0/10', '10.128.0.0/10', '10.192.0.0/10', '172.16.0.0/12'].map(
  parseCidr,
)
