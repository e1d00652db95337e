/**
 * What happens next, as a pure function: the state of the tunnel, an event, and the settings give the next state and what
 * is to be begun. The machine never names a firewall, a route or a socket: `plan.ts` derives the host from the state, and
 * `supervisor.ts` carries both out.
 */
import type { SocketAddress } from '@culvert/tunnel/pure'
import type { CarrierId, FailCause, ProfileId, Settings, Stage, TunnelState } from './contract/index.ts'

/** What can happen. The first two are a person's wish; the rest are how things went. */
export type TunnelEvent =
  | { readonly tag: 'connect'; readonly profile: ProfileId }
  | { readonly tag: 'disconnect' }
  | { readonly tag: 'progress'; readonly stage: Stage }
  | {
      readonly tag: 'established'
      readonly carrier: CarrierId
      readonly endpoint: SocketAddress
      /** Unix epoch, milliseconds. */
      readonly at: number
    }
  | {
      readonly tag: 'attempt-failed'
      readonly cause: FailCause
      readonly detail: string | null
      /** `never`: no attempt can do better until a person changes something. */
      readonly retry: 'again' | 'never'
    }
  | { readonly tag: 'lost'; readonly cause: FailCause; readonly detail: string | null }
  | { readonly tag: 'closed' }
  | { readonly tag: 'settings-changed' }
  | { readonly tag: 'host-failed'; readonly detail: string }

/** What is to be begun. A new effect ends the one before it. */
export type Effect =
  /** Finds the server, opens the tunnel unless it is open, shakes hands: ends in `established` or `attempt-failed`. */
  | { readonly tag: 'open'; readonly profile: ProfileId; readonly attempt: number }
  /** Watches over a tunnel that is up: ends in `lost`. */
  | { readonly tag: 'watch' }
  /** Closes the tunnel: ends in `closed`. */
  | { readonly tag: 'close' }

export interface Transition {
  readonly state: TunnelState
  /** Null: whatever is under way goes on. */
  readonly effect: Effect | null
}

/** The next state. Total: an event that means nothing in a state changes nothing. */
export function transition(state: TunnelState, event: TunnelEvent, settings: Settings): Transition {
  switch (event.tag) {
    case 'connect':
      return connect(state, event.profile)
    case 'disconnect':
      if (state.tag === 'disconnected') return stay(state)
      if (state.tag === 'disconnecting') return stay({ tag: 'disconnecting', next: null })
      return { state: { tag: 'disconnecting', next: null }, effect: { tag: 'close' } }
    case 'progress':
      if (state.tag !== 'connecting' || state.stage === event.stage) return stay(state)
      return stay({ ...state, stage: event.stage })
    case 'established': {
      if (state.tag !== 'connecting') return stay(state)
      const { carrier, endpoint, at } = event
      return {
        state: { tag: 'connected', profile: state.profile, carrier, endpoint, since: at },
        effect: { tag: 'watch' },
      }
    }
    case 'attempt-failed': {
      if (state.tag !== 'connecting') return stay(state)
      const { cause, detail } = event
      if (event.retry === 'never') return fail(state.profile, cause, detail, settings)
      const attempt = state.attempt + 1
      return {
        state: { ...state, stage: 'resolve', attempt, cause, detail },
        effect: { tag: 'open', profile: state.profile, attempt },
      }
    }
    case 'lost': {
      if (state.tag !== 'connected') return stay(state)
      const { profile } = state
      const { cause, detail } = event
      return {
        state: { tag: 'connecting', profile, stage: 'resolve', attempt: 1, resuming: true, cause, detail },
        effect: { tag: 'open', profile, attempt: 1 },
      }
    }
    case 'closed':
      if (state.tag !== 'disconnecting') return stay(state)
      return state.next === null ? stay({ tag: 'disconnected' }) : begin(state.next)
    case 'settings-changed':
      // The same state, but `blocking` and the plan follow the settings.
      return stay(state.tag === 'failed' ? { ...state, blocking: blocks(settings) } : state)
    case 'host-failed':
      return hostFailed(state, event.detail)
  }
}

/** Whether traffic is kept from going around the tunnel. The one place that says so to people. */
export function isBlocking(state: TunnelState, settings: Settings): boolean {
  switch (state.tag) {
    case 'disconnected':
      return settings.killSwitch === 'lockdown'
    case 'failed':
      return state.blocking
    case 'connecting':
    case 'connected':
    case 'disconnecting':
      return blocks(settings)
  }
}

/** The profile that a state is about; null: none. */
export function profileOf(state: TunnelState): ProfileId | null {
  switch (state.tag) {
    case 'disconnected':
      return null
    case 'disconnecting':
      return state.next
    case 'connecting':
    case 'connected':
    case 'failed':
      return state.profile
  }
}

function connect(state: TunnelState, profile: ProfileId): Transition {
  switch (state.tag) {
    case 'disconnected':
    case 'failed':
      return begin(profile)
    case 'connecting':
    case 'connected':
      if (state.profile === profile) return stay(state)
      return { state: { tag: 'disconnecting', next: profile }, effect: { tag: 'close' } }
    case 'disconnecting':
      return stay({ tag: 'disconnecting', next: profile })
  }
}

function begin(profile: ProfileId): Transition {
  return {
    state: {
      tag: 'connecting',
      profile,
      stage: 'resolve',
      attempt: 1,
      resuming: false,
      cause: null,
      detail: null,
    },
    effect: { tag: 'open', profile, attempt: 1 },
  }
}

function fail(
  profile: ProfileId | null,
  cause: FailCause,
  detail: string | null,
  settings: Settings,
): Transition {
  return {
    state: { tag: 'failed', profile, cause, detail, blocking: blocks(settings) },
    effect: { tag: 'close' },
  }
}

/** The host would not take a plan. Blocking is part of a plan, so nothing may claim that it holds. */
function hostFailed(state: TunnelState, detail: string): Transition {
  const profile = profileOf(state)
  const failed: TunnelState = { tag: 'failed', profile, cause: 'host-failed', detail, blocking: false }
  return { state: failed, effect: { tag: 'close' } }
}

function blocks(settings: Settings): boolean {
  return settings.killSwitch !== 'off'
}

function stay(state: TunnelState): Transition {
  return { state, effect: null }
}
