/**
 * The sliding window that tells a replayed counter from a late one (RFC 6479). A ring of 64-bit words, one more than the
 * window, so that it moves by whole words: 8192 bits, of which 8128 counters behind the greatest are told apart.
 */
import { REJECT_AFTER_MESSAGES } from './wire.ts'

/** How far behind the greatest counter one may be. */
export const WINDOW = 8128n

export class ReplayWindow {
  readonly #ring = new BigUint64Array(WORDS)
  /** One more than the greatest counter taken, so that 0 means none. */
  #next = 0n

  /** Takes a counter once; false when it was taken before, is too old, or may never be used. Only for what was authentic. */
  accept(counter: bigint): boolean {
    if (counter >= REJECT_AFTER_MESSAGES) return false
    if (counter >= this.#next) {
      this.#advance(counter)
      this.#next = counter + 1n
    } else if (this.#next - 1n - counter > WINDOW) {
      return false
    }
    const word = Number((counter / WORD_BITS) % BigInt(WORDS))
    const bit = 1n << (counter % WORD_BITS)
    const seen = this.#ring[word] ?? 0n
    this.#ring[word] = seen | bit
    return (seen & bit) === 0n
  }

  /** Clears the words between the greatest counter so far and this one. */
  #advance(counter: bigint): void {
    const from = this.#next === 0n ? 0n : (this.#next - 1n) / WORD_BITS + 1n
    const words = counter / WORD_BITS - from + 1n
    for (let i = 0n; i < words && i < BigInt(WORDS); i++) this.#ring[Number((from + i) % BigInt(WORDS))] = 0n
  }
}

const WORDS = 128
const WORD_BITS = 64n
