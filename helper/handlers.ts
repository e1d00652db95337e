/** The methods, each a call of the store's or an event for the supervisor. What a caller may do stands here and in store.ts. */
import {
  PROTOCOL_VERSION,
  type MethodName,
  type ParamsOf,
  type ResultOf,
  type Snapshot,
} from './contract/index.ts'
import { HelperError } from './error.ts'
import type { Caller } from './group.ts'
import { isVisible, type Store } from './store.ts'
import type { Status, Supervisor } from './supervisor.ts'

/** A function for each method; one that is missing is a compile error. */
export type Handlers = {
  readonly [M in MethodName]: (params: ParamsOf<M>, caller: Caller) => ResultOf<M> | Promise<ResultOf<M>>
}

/** What the methods stand on. */
export interface HandlerOptions {
  readonly store: Store
  readonly supervisor: Supervisor
  readonly bootId: string
  readonly version: string
  /** Unix epoch, milliseconds. */
  now(): number
}

export function createHandlers({ store, supervisor, bootId, version, now }: HandlerOptions): Handlers {
  /** Until polkit can ask for an administrator, somebody else's tunnel is theirs and root's. */
  function refuseForeign(caller: Caller): void {
    const { profile } = supervisor.status()
    if (profile !== null && !isVisible(profile, caller)) {
      throw new HelperError(
        'not-permitted',
        "another user's tunnel is up: only they or root may end or change it",
      )
    }
  }

  return {
    hello({ protocol }, { access, reason }) {
      if (protocol !== PROTOCOL_VERSION) {
        throw new HelperError(
          'version',
          `the helper is of another version (${version}, protocol ${PROTOCOL_VERSION}, not ${protocol}): restart it after an upgrade`,
        )
      }
      return { protocol: PROTOCOL_VERSION, version, access, reason }
    },
    state: (_, caller) => snapshotFor(caller, supervisor.status()),

    'profiles.add': (draft, caller) => store.add(draft, caller),
    'profiles.list': (_, caller) => store.visible(caller),
    'profiles.rename': ({ id, name }, caller) => store.rename(id, name, caller),
    async 'profiles.remove'({ id }, caller) {
      const { profile } = supervisor.status()
      if (profile?.id === id && isVisible(profile, caller)) {
        throw new HelperError('in-use', `"${profile.name}" is in use: disconnect first`)
      }
      await store.remove(id, caller)
      return null
    },

    async 'tunnel.connect'({ profile: asked }, caller) {
      refuseForeign(caller)
      const profile = chosen(store.visible(caller), asked)
      await store.touch(profile.id, now())
      await store.aim(profile.id, bootId)
      supervisor.post({ tag: 'connect', profile: profile.id })
      return { profile: profile.id }
    },
    async 'tunnel.disconnect'(_, caller) {
      refuseForeign(caller)
      await store.aim(null, bootId)
      supervisor.post({ tag: 'disconnect' })
      return null
    },

    'settings.read': () => store.settings(),
    async 'settings.update'(change, caller) {
      refuseForeign(caller)
      const wanted = change.autoConnect ?? null
      if (wanted !== null && !store.visible(caller).some(({ id }) => id === wanted)) {
        throw new HelperError('unknown-profile', 'autoConnect: there is no such profile')
      }
      const settings = await store.update(change)
      supervisor.post({ tag: 'settings-changed' })
      return settings
    },
  }
}

/** The state as somebody may see it: whole, or, of somebody else's profile and for strangers, its outline. */
export function snapshotFor(caller: Caller, { state, profile, blocking, traffic }: Status): Snapshot {
  if (caller.access === 'member' && (profile === null || isVisible(profile, caller))) {
    return { tag: 'full', tunnel: state, profileName: profile?.name ?? null, blocking, traffic }
  }
  const cause = state.tag === 'connecting' || state.tag === 'failed' ? state.cause : null
  return { tag: 'outline', state: state.tag, blocking, cause }
}

/** The profile that is asked for; without one the only one, or the one last used. */
function chosen(
  visible: ReturnType<Store['visible']>,
  asked: ParamsOf<'tunnel.connect'>['profile'],
): ReturnType<Store['visible']>[number] {
  const [first, second] = visible
  if (asked !== null) {
    const found = visible.find(({ id }) => id === asked)
    if (found === undefined) throw new HelperError('unknown-profile', 'there is no such profile')
    return found
  }
  if (first === undefined) {
    throw new HelperError('unknown-profile', 'there is no profile yet: culvert import FILE')
  }
  if (second === undefined) return first
  const last = visible.reduce((newest, profile) =>
    (profile.lastUsed ?? 0) > (newest.lastUsed ?? 0) ? profile : newest,
  )
  if (last.lastUsed === null) {
    const names = visible.map(({ name }) => `"${name}"`).join(', ')
    throw new HelperError('unknown-profile', `none of the profiles was used yet, so name one: ${names}`)
  }
  return last
}
