/**
 * Whether the other side still answers, from what the tunnel counted. WireGuard answers every packet within 10 s, if only
 * with a keepalive (paper, 6.5), so a side that has been sent packets and has said nothing for 15 s is not there. Silence
 * on both sides proves nothing.
 */

/** What is looked at, a few seconds apart. */
export interface Sample {
  /** Monotonic, milliseconds. */
  readonly now: number
  /** Bytes of authenticated datagrams received. */
  readonly rxBytes: number
  /** Inner packets sealed and sent; keepalives and handshakes ask for no answer of this kind. */
  readonly sentPackets: number
}

export interface Liveness {
  readonly sample: Sample
  /** When the first packet that has had no answer since was seen to have gone; null: none has. */
  readonly unansweredSince: number | null
}

/** Nothing is known but the first sample. */
export function firstLook(sample: Sample): Liveness {
  return { sample, unansweredSince: null }
}

/** What a further sample says. */
export function look(before: Liveness, sample: Sample): Liveness {
  if (sample.rxBytes !== before.sample.rxBytes) return firstLook(sample)
  const asked = sample.sentPackets !== before.sample.sentPackets
  return { sample, unansweredSince: before.unansweredSince ?? (asked ? sample.now : null) }
}

/** Whether the other side has been asked, and silent, for too long. */
export function isSilent({ sample, unansweredSince }: Liveness): boolean {
  return unansweredSince !== null && sample.now - unansweredSince >= SILENCE
}

/** KEEPALIVE_TIMEOUT + REKEY_TIMEOUT, milliseconds. */
const SILENCE = 15_000
