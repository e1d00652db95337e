/**
 * The one owner of the tunnel's state. One event at a time:
 *
 *   event ─▶ transition ─▶ publish ─▶ host.apply(plan) ─▶ effect ─▶ … ─▶ its end is an event
 *
 * A state that says that work has begun is published at once; one that promises something (connected, disconnected) when the
 * host is what it promises. Each effect runs under an AbortController of its own; the next effect ends it, and what it still
 * has to say is not heard.
 */
import { setTimeout } from 'node:timers/promises'
import type { Profile, Traffic, TunnelState } from './contract/index.ts'
import type { Link } from './dial.ts'
import type { Host } from './host/index.ts'
import { isBlocking, profileOf, transition, type Effect, type TunnelEvent } from './machine.ts'
import { openPlan, plan, type Outside } from './plan.ts'
import type { Store } from './store.ts'

/** What the supervisor drives, and whom it tells. */
export interface SupervisorOptions {
  readonly host: Host
  readonly link: Link
  readonly store: Pick<Store, 'profile' | 'settings'>
  /** Unix epoch, milliseconds. */
  now(): number
  /** Milliseconds to wait before an attempt; the first has none. */
  backOff(attempt: number): number
  readonly log: SupervisorLog
}

/** pino's shape, as far as it is used. */
export interface SupervisorLog {
  info(fields: object, phrase: string): void
  error(fields: object, phrase: string): void
}

/** The tunnel as it stands, for whoever shows it. */
export interface Status {
  readonly state: TunnelState
  /** The profile that the state is about or that is being left; null: none. */
  readonly profile: Profile | null
  readonly blocking: boolean
  readonly traffic: Traffic | null
}

export class Supervisor implements AsyncDisposable {
  readonly #options: SupervisorOptions
  readonly #queue: { readonly event: TunnelEvent; readonly signal: AbortSignal | null }[] = []
  readonly #listeners = new Set<() => void>()
  #state: TunnelState = { tag: 'disconnected' }
  #shown: TunnelState = this.#state
  #profile: Profile | null = null
  #outside: Outside = openPlan.outside
  #effect = new AbortController()
  #effectDone: Promise<void> = Promise.resolve()
  #running: Promise<void> | null = null

  constructor(options: SupervisorOptions) {
    this.#options = options
  }

  /** Takes an event; what comes of it is told by the state. */
  post(event: TunnelEvent): void {
    this.#enqueue(event, null)
  }

  /** The tunnel as it was last published, with the traffic as it is now. */
  status(): Status {
    const { link, store } = this.#options
    return {
      state: this.#shown,
      // As it is called now.
      profile: this.#profile && (store.profile(this.#profile.id)?.profile ?? this.#profile),
      blocking: isBlocking(this.#shown, store.settings()),
      traffic: link.traffic(),
    }
  }

  /** Calls `listener` at every change of the state, until disposed. */
  subscribe(listener: () => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  /** Resolves when no event waits; an effect may still run. */
  async settled(): Promise<void> {
    while (this.#running !== null) await this.#running
  }

  /** Closes the tunnel and gives the host back. Afterwards nothing may be posted. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.post({ tag: 'disconnect' })
    await this.settled()
    // `close`, and whatever follows from how it went.
    for (let done: Promise<void> | null = null; done !== this.#effectDone;) {
      done = this.#effectDone
      await done
      await this.settled()
    }
  }

  #enqueue(event: TunnelEvent, signal: AbortSignal | null): void {
    this.#queue.push({ event, signal })
    this.#running ??= this.#drain()
  }

  async #drain(): Promise<void> {
    // After whoever posted has returned.
    await Promise.resolve()
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      if (next.signal?.aborted !== true) await this.#step(next.event)
    }
    this.#running = null
  }

  async #step(event: TunnelEvent): Promise<void> {
    const { host, store, log } = this.#options
    const before = this.#state
    const { state, effect } = transition(before, event, store.settings())
    if (state === before && effect === null && event.tag !== 'settings-changed') return
    if (effect !== null) this.#effect.abort()
    this.#state = state
    const named = profileOf(state)
    // While disconnecting, the profile that is being left.
    if (named !== null && state.tag !== 'disconnecting') this.#profile = store.profile(named)?.profile ?? null
    if (state.tag !== before.tag) log.info({ state: state.tag, event: event.tag }, 'state')
    const isWork = state.tag === 'connecting' || state.tag === 'disconnecting'
    if (isWork) this.#publish()
    let refused: string | null = null
    try {
      await host.apply(plan(state, this.#profile, this.#outside))
    } catch (error) {
      refused = error instanceof Error ? error.message : String(error)
      log.error({ why: refused }, 'the host could not be set')
    }
    // What follows a refusal is the machine's to say, but once: if that is refused too, only closing is left.
    if (refused !== null && event.tag !== 'host-failed') {
      this.#effect.abort()
      this.#queue.unshift({ event: { tag: 'host-failed', detail: refused }, signal: null })
      return
    }
    if (state.tag === 'disconnected') {
      this.#profile = null
      this.#outside = openPlan.outside
    }
    if (!isWork) this.#publish()
    if (effect !== null) this.#begin(effect)
  }

  #publish(): void {
    this.#shown = this.#state
    for (const listener of this.#listeners) listener()
  }

  #begin(effect: Effect): void {
    this.#effect = new AbortController()
    const { signal } = this.#effect
    const before = this.#effectDone
    this.#effectDone = (async () => {
      // The one before has been told to end; two must not have the tunnel at once.
      await before
      try {
        const event = await this.#perform(effect, signal)
        if (event !== null) this.#enqueue(event, signal)
      } catch (error) {
        if (signal.aborted) return
        const detail = error instanceof Error ? error.message : String(error)
        this.#options.log.error({ effect: effect.tag, why: detail }, 'an effect failed')
        this.#enqueue({ tag: 'host-failed', detail }, signal)
      }
    })()
  }

  async #perform(effect: Effect, signal: AbortSignal): Promise<TunnelEvent | null> {
    const { link, store, backOff, now } = this.#options
    switch (effect.tag) {
      case 'open': {
        const keyed = store.profile(effect.profile)
        if (keyed === null) {
          return {
            tag: 'attempt-failed',
            cause: 'no-endpoint',
            detail: 'the profile is gone',
            retry: 'never',
          }
        }
        await setTimeout(backOff(effect.attempt), undefined, { signal })
        const opened = await link.open(
          keyed,
          effect.attempt,
          (stage, outside) => {
            if (signal.aborted) return
            if (outside !== null) this.#outside = outside
            this.#enqueue({ tag: 'progress', stage }, signal)
          },
          signal,
        )
        return opened.tag === 'established' ? { ...opened, at: now() } : opened
      }
      case 'watch':
        return link.watch(signal)
      case 'close':
        await link.close()
        return { tag: 'closed' }
    }
  }
}

/** 0.5 s, doubled up to 4 s, a quarter more or less, so that clients of a server that was away do not come back as one. */
export function backOff(attempt: number, random: number): number {
  if (attempt === 1) return 0
  const delay = Math.min(500 * 2 ** (attempt - 2), 4_000)
  return delay * (0.75 + random / 2)
}
