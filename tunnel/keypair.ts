/**
 * One session: two keys, a counter for what we seal, a replay window for what we open, and an age. It is born by a
 * handshake and dies of age, of use or by `wipe`; no key of it ever seals two messages under one counter.
 */
import type { Primitives } from './crypto.ts'
import type { SessionIndex, SessionKeys } from './dataplane.ts'
import { ReplayWindow } from './replay.ts'
import {
  encodeData,
  LAST_MINUTE_TIME,
  REJECT_AFTER_MESSAGES,
  REJECT_AFTER_TIME,
  REKEY_AFTER_MESSAGES,
  REKEY_AFTER_TIME,
} from './wire.ts'
import type { Data } from './wire.ts'

export class Keypair {
  readonly index: SessionIndex
  readonly role: SessionKeys['role']
  readonly #primitives: Primitives
  readonly #remoteIndex: number
  readonly #sendKey: Uint8Array
  readonly #receiveKey: Uint8Array
  readonly #bornAt: number
  readonly #window = new ReplayWindow()
  #sendCounter: bigint
  #maySend = true
  #lastMinuteTold = false

  /** Copies the keys and wipes the caller's. `firstCounter` is for tests. */
  constructor(
    primitives: Primitives,
    index: SessionIndex,
    keys: SessionKeys,
    now: number,
    firstCounter = 0n,
  ) {
    this.#primitives = primitives
    this.index = index
    this.role = keys.role
    this.#remoteIndex = keys.remoteIndex
    this.#sendKey = keys.sendKey.slice()
    this.#receiveKey = keys.receiveKey.slice()
    keys.sendKey.fill(0)
    keys.receiveKey.fill(0)
    this.#bornAt = now
    this.#sendCounter = firstCounter
  }

  canSend(now: number): boolean {
    return this.#maySend && !this.#isOld(now) && this.#sendCounter < REJECT_AFTER_MESSAGES
  }

  /** Our private key changed: it may receive, and never again send (paper, 6). */
  forbidSending(): void {
    this.#maySend = false
  }

  /** A whole data message; null when this session may not send. */
  seal(plaintext: Uint8Array, now: number): Uint8Array | null {
    if (!this.canSend(now)) return null
    const counter = this.#sendCounter++
    const sealed = this.#primitives.seal(this.#sendKey, counter, plaintext, NOTHING)
    return encodeData({ receiver: this.#remoteIndex, counter, sealed })
  }

  /** What was sealed, once; or why it is not to be believed. Nothing but an authentic message moves the window. */
  open(message: Data, now: number): Uint8Array | 'expired' | 'bad-tag' | 'replayed' {
    if (this.#isOld(now) || message.counter >= REJECT_AFTER_MESSAGES) return 'expired'
    const plaintext = this.#primitives.open(this.#receiveKey, message.counter, message.sealed, NOTHING)
    if (plaintext === null) return 'bad-tag'
    return this.#window.accept(message.counter) ? plaintext : 'replayed'
  }

  /** Why it should be renewed, now that it sealed something (paper, 6.2). */
  staleAfterSending(now: number): 'messages' | 'age' | null {
    if (this.#sendCounter > REKEY_AFTER_MESSAGES) return 'messages'
    return this.role === 'initiator' && now - this.#bornAt >= REKEY_AFTER_TIME ? 'age' : null
  }

  /** Whether it should be renewed, now that something came: said once, and only to who began it. */
  staleAfterReceiving(now: number): boolean {
    if (this.#lastMinuteTold || this.role !== 'initiator' || now - this.#bornAt < LAST_MINUTE_TIME)
      return false
    this.#lastMinuteTold = true
    return true
  }

  wipe(): void {
    this.#maySend = false
    this.#sendKey.fill(0)
    this.#receiveKey.fill(0)
  }

  #isOld(now: number): boolean {
    return now - this.#bornAt >= REJECT_AFTER_TIME
  }
}

const NOTHING = new Uint8Array(0)
