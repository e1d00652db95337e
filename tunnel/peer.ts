/**
 * The handshakes of one peer (paper, 6.4 to 6.6). What runs once a packet is the data plane's; here is what runs once
 * in seconds.
 *
 *             ask, connect                    5 s + jitter: again, with a later timestamp
 *      ┌───▶ idle ───────────▶ initiation-sent ──┐
 *      │      │ ask too soon      ▲ │  ▲         │
 *      │      └────▶ deferred ────┘ │  └─────────┘
 *      └────────────────────────────┘ response, or the peer's own session was confirmed, or 90 s unanswered
 *
 * As responder a peer has no state: the initiation is answered at once, and the data plane holds the session as `next`
 * until it is confirmed. Both roles go on side by side, so that two initiations that cross both come to their end.
 */
import { CookieMemory } from './cookie.ts'
import type { Primitives } from './crypto.ts'
import type { Dataplane, HandshakeReason, Path, PeerId, SessionIndex } from './dataplane.ts'
import type { PublicKey, Secret } from './key.ts'
import { publicKeyBytes } from './key.ts'
import {
  consumeResponse,
  createInitiation,
  createResponse,
  NO_PRESHARED_KEY,
  wipeHandshake,
} from './noise.ts'
import type { Identity, InitiatorHandshake, ResponderHandshake } from './noise.ts'
import { isLater } from './tai64n.ts'
import { INITIATION_INTERVAL, KEY_LENGTH, REKEY_ATTEMPT_TIME, REKEY_JITTER, REKEY_TIMEOUT } from './wire.ts'

/** What a peer works with; the device's. */
export interface PeerContext {
  readonly primitives: Primitives
  readonly dataplane: Dataplane
  identity(): Identity
  /** A TAI64N timestamp later than every one before. */
  timestamp(): Uint8Array
  /** A handshake completed. */
  established(peer: Peer, role: 'initiator' | 'responder'): void
  /** Initiations went unanswered for REKEY_ATTEMPT_TIME. */
  gaveUp(peer: Peer): void
  /** A handshake message of the peer was authentic, and came by this path. */
  heard(peer: Peer, from: Path): void
}

type State =
  | { readonly tag: 'idle' }
  /** A handshake is wanted, less than REKEY_TIMEOUT after our last message. */
  | { readonly tag: 'deferred'; readonly at: number }
  | {
      readonly tag: 'initiation-sent'
      readonly index: SessionIndex
      readonly handshake: InitiatorHandshake
      /** When the first of these attempts was made, when a handshake was last wanted, and when the next is due. */
      readonly since: number
      readonly wantedAt: number
      readonly retryAt: number
    }

export class Peer implements Disposable {
  readonly id: PeerId
  readonly publicKey: PublicKey
  /** Wall clock of the last completed handshake; the device writes it. */
  latestHandshake: number | null = null
  /** The device's settings for it. */
  roaming: 'follow' | 'pinned' = 'follow'
  persistentKeepalive = 0
  /** The greatest timestamp that the peer has sent, so that an old initiation is never taken again. */
  greatestTimestamp: Uint8Array | null = null
  readonly #context: PeerContext
  readonly #remoteStatic: Uint8Array
  readonly #cookies: CookieMemory
  #presharedKey: Secret | null = null
  #state: State = { tag: 'idle' }
  /** When we last sent an initiation or a response. */
  #sentAt: number | null = null
  /** When we last took an initiation. */
  #initiationAt: number | null = null

  constructor(context: PeerContext, id: PeerId, publicKey: PublicKey) {
    this.#context = context
    this.id = id
    this.publicKey = publicKey
    this.#remoteStatic = publicKeyBytes(publicKey)
    this.#cookies = new CookieMemory(context.primitives, this.#remoteStatic)
  }

  /** Takes the secret. It counts from the next handshake on. */
  setPresharedKey(presharedKey: Secret | null): void {
    this.#presharedKey?.[Symbol.dispose]()
    this.#presharedKey = presharedKey
  }

  /** When `tick` has something to do; null: never. */
  deadline(): number | null {
    switch (this.#state.tag) {
      case 'idle':
        return null
      case 'deferred':
        return this.#state.at
      case 'initiation-sent':
        return this.#state.retryAt
    }
  }

  /** The data plane needs a session. Fresh data makes an attempt in flight go on for as long as a new one. */
  ask(reason: HandshakeReason, now: number): void {
    if (reason === 'no-reply') this.#context.dataplane.clearSource(this.id)
    switch (this.#state.tag) {
      case 'idle': {
        const earliest = this.#earliest(now)
        if (earliest <= now) this.#begin(now, { since: now, wantedAt: now })
        else this.#state = { tag: 'deferred', at: earliest }
        return
      }
      case 'deferred':
        return
      case 'initiation-sent':
        this.#state = { ...this.#state, wantedAt: now }
    }
  }

  /** Begins now, unless a handshake is in flight or a message of ours is younger than REKEY_TIMEOUT. */
  connect(now: number): void {
    if (this.#state.tag === 'idle' && this.#earliest(now) <= now)
      this.#begin(now, { since: now, wantedAt: now })
  }

  tick(now: number): void {
    const state = this.#state
    switch (state.tag) {
      case 'idle':
        return
      case 'deferred': {
        if (now < state.at) return
        const earliest = this.#earliest(now) // we may have answered the peer since
        if (earliest > now) this.#state = { tag: 'deferred', at: earliest }
        else this.#begin(now, { since: now, wantedAt: now })
        return
      }
      case 'initiation-sent':
        if (now >= state.retryAt) this.#retry(state, now)
    }
  }

  /**
   * Answers an initiation that was authentic. It is dropped when it is not later than the last, or comes within 20 ms of
   * it: nobody but the peer can have made it, but anybody can send it again.
   */
  answer(initiation: ResponderHandshake, from: Path, now: number): void {
    const { primitives, dataplane } = this.#context
    const elapsed = this.#initiationAt === null ? Infinity : now - this.#initiationAt
    if (elapsed >= 0 && elapsed <= INITIATION_INTERVAL) return
    if (this.greatestTimestamp !== null && !isLater(initiation.timestamp, this.greatestTimestamp)) return
    this.greatestTimestamp = initiation.timestamp
    this.#initiationAt = now

    const index = dataplane.allocateIndex(this.id)
    const created = createResponse(primitives, initiation, {
      ephemeral: primitives.random(KEY_LENGTH),
      localIndex: index,
      presharedKey: this.#presharedKeyBytes(),
    })
    if (
      created === null ||
      !dataplane.installSession(this.id, index, { ...created.keys, role: 'responder' })
    ) {
      dataplane.freeIndex(index)
      return
    }
    this.#context.heard(this, from)
    this.#cookies.stamp(created.message, now)
    this.#sentAt = now
    dataplane.reply(from, created.message)
  }

  /** Takes the response to our initiation, and confirms the key at once with what waited or with a keepalive. */
  consumeResponse(message: Uint8Array, index: SessionIndex, from: Path): void {
    const { primitives, dataplane, identity } = this.#context
    const state = this.#state
    if (state.tag !== 'initiation-sent' || state.index !== index) return
    const keys = consumeResponse(primitives, identity(), state.handshake, message, this.#presharedKeyBytes())
    if (keys === null) return
    const installed = dataplane.installSession(this.id, index, { ...keys, role: 'initiator' })
    wipeHandshake(state.handshake)
    this.#state = { tag: 'idle' }
    if (!installed) return
    this.#context.heard(this, from)
    if (dataplane.flushStaged(this.id) === 0) dataplane.keepalive(this.id)
    this.#context.established(this, 'initiator')
  }

  /** Takes a cookie for our last message. It is used with the next one, at its time: now the peer is busy. */
  consumeCookie(message: Uint8Array, now: number): void {
    this.#cookies.consume(message, now)
  }

  /** The peer began a session and proved that it holds the key: ours in flight is not needed any more. */
  confirmed(): void {
    this.abort()
    this.#context.dataplane.flushStaged(this.id)
    this.#context.established(this, 'responder')
  }

  /** Forgets the handshake in flight. */
  abort(): void {
    if (this.#state.tag === 'initiation-sent') {
      this.#context.dataplane.freeIndex(this.#state.index)
      wipeHandshake(this.#state.handshake)
    }
    this.#state = { tag: 'idle' }
  }

  [Symbol.dispose](): void {
    this.abort()
    this.setPresharedKey(null)
  }

  #begin(now: number, times: { readonly since: number; readonly wantedAt: number }): void {
    const { primitives, dataplane, identity, timestamp } = this.#context
    this.abort()
    if ((dataplane.peerCounters(this.id)?.path ?? null) === null) return // nowhere to send it
    const index = dataplane.allocateIndex(this.id)
    const created = createInitiation(primitives, identity(), {
      remoteStatic: this.#remoteStatic,
      ephemeral: primitives.random(KEY_LENGTH),
      timestamp: timestamp(),
      localIndex: index,
    })
    if (created === null) return dataplane.freeIndex(index)
    this.#cookies.stamp(created.message, now)
    const retryAt = now + REKEY_TIMEOUT + this.#jitter()
    this.#state = { tag: 'initiation-sent', index, handshake: created.handshake, ...times, retryAt }
    this.#sentAt = now
    dataplane.sendHandshake(this.id, created.message)
  }

  /** Tries again, from an address that the kernel chooses anew: ours may have gone. */
  #retry(state: Extract<State, { tag: 'initiation-sent' }>, now: number): void {
    const { dataplane } = this.#context
    const earliest = this.#earliest(now)
    if (earliest > now) {
      this.#state = { ...state, retryAt: earliest } // we answered the peer meanwhile: its session may be all we need
      return
    }
    const isUnanswered = now - state.since >= REKEY_ATTEMPT_TIME
    const isWanted = now - state.wantedAt < REKEY_ATTEMPT_TIME
    if (isUnanswered && !isWanted) {
      this.abort()
      dataplane.giveUp(this.id)
    } else {
      dataplane.clearSource(this.id)
      this.#begin(now, { since: isUnanswered ? now : state.since, wantedAt: state.wantedAt })
    }
    if (isUnanswered) this.#context.gaveUp(this)
  }

  #earliest(now: number): number {
    // A clock that was set back must not keep us waiting for it.
    return this.#sentAt === null || this.#sentAt > now ? now : this.#sentAt + REKEY_TIMEOUT
  }

  #presharedKeyBytes(): Uint8Array {
    return this.#presharedKey?.bytes() ?? NO_PRESHARED_KEY
  }

  #jitter(): number {
    const [high = 0, low = 0] = this.#context.primitives.random(2)
    return ((high << 8) | low) % (REKEY_JITTER + 1)
  }
}
