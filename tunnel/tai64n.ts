/**
 * TAI64N timestamps of initiations (paper, 5.4.2; https://cr.yp.to/libtai/tai64.html): 8 bytes of seconds and 4 of
 * nanoseconds, big-endian, so that bytes compare as times do. A responder takes only timestamps later than the last.
 */
import { TIMESTAMP_LENGTH } from './wire.ts'

/**
 * The timestamp of a wall clock in milliseconds since 1970, or the next later than `after`, so that a clock set back does
 * not lock us out of a peer. Steps are 2^24 ns (16.8 ms): an exact time would tell how fast our machine computes.
 */
export function timestamp(wallClock: number, after: Uint8Array | null): Uint8Array {
  const milliseconds = Math.max(0, Math.floor(wallClock))
  const now = encode(
    BigInt(Math.floor(milliseconds / 1000)) + EPOCH,
    whiten((milliseconds % 1000) * NANOSECONDS_PER_MILLISECOND),
  )
  return after === null || isLater(now, after) ? now : next(after)
}

/** Whether `a` is a later timestamp than `b`. */
export function isLater(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < TIMESTAMP_LENGTH; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0)
    if (difference !== 0) return difference > 0
  }
  return false
}

function next(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const seconds = view.getBigUint64(0)
  const nanoseconds = whiten(view.getUint32(8)) + STEP
  return nanoseconds < NANOSECONDS_PER_SECOND ? encode(seconds, nanoseconds) : encode(seconds + 1n, 0)
}

function encode(seconds: bigint, nanoseconds: number): Uint8Array {
  const bytes = new Uint8Array(TIMESTAMP_LENGTH)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, seconds)
  view.setUint32(8, nanoseconds)
  return bytes
}

function whiten(nanoseconds: number): number {
  return nanoseconds - (nanoseconds % STEP)
}

/** 1970 in TAI64: 2^62, and the 10 s by which TAI was ahead of UTC then; WireGuard counts no leap second since. */
const EPOCH = 0x4000_0000_0000_000an
const STEP = 2 ** 24
const NANOSECONDS_PER_MILLISECOND = 1_000_000
const NANOSECONDS_PER_SECOND = 1_000_000_000
