/** `connect` and `disconnect`: a wish goes down, and with `--wait` the states that come up are followed to an end. */
import type { HelperClient } from '../client.ts'
import type { ProfileId, Snapshot } from '../contract/index.ts'
import { HelperError } from '../error.ts'
import { profileNamed } from './profiles.ts'
import { causeWords } from './words.ts'

/**
 * Connects.
 * @param name null: the only profile, or the last used.
 * @param wait seconds until it has to be connected; null: not waited for.
 */
export async function connect(client: HelperClient, name: string | null, wait: number | null): Promise<void> {
  const profiles = await client.call('profiles.list', {})
  const asked = name === null ? null : profileNamed(profiles, name).id
  using states = follow(client)
  const { profile } = await client.call('tunnel.connect', { profile: asked })
  states.forget()
  const shown = profiles.find(({ id }) => id === profile)?.name ?? profile
  if (wait === null) return console.log(`connecting with "${shown}": culvert status`)
  await states.until(wait, `not connected with "${shown}" after ${wait} s`, (snapshot, when) =>
    connectVerdict(snapshot, when, profile, shown),
  )
  console.log(`connected with "${shown}"`)
}

/** Disconnects. @param wait seconds until the network has to be given back; null: not waited for. */
export async function disconnect(client: HelperClient, wait: number | null): Promise<void> {
  using states = follow(client)
  await client.call('tunnel.disconnect', {})
  states.forget()
  if (wait === null) return console.log('disconnecting: culvert status')
  await states.until(wait, `not disconnected after ${wait} s`, (snapshot, when) => {
    const state = stateOf(snapshot)
    if (state === 'disconnected') return { tag: 'done' }
    if (state === 'failed' && when === 'after') return { tag: 'failed', sentence: failureOf(snapshot) }
    return { tag: 'waiting', because: null }
  })
  console.log('disconnected')
}

type Verdict =
  | { readonly tag: 'done' }
  | { readonly tag: 'failed'; readonly sentence: string }
  /** `because`: why it takes so long, as far as it is known. */
  | { readonly tag: 'waiting'; readonly because: string | null }

/** `before`: the state when we first looked, which may be older than our wish; `after`: one that was published since. */
type When = 'before' | 'after'

function connectVerdict(snapshot: Snapshot, when: When, profile: ProfileId, shown: string): Verdict {
  const waiting: Verdict = { tag: 'waiting', because: null }
  if (snapshot.tag === 'outline') return waiting
  const { tunnel } = snapshot
  switch (tunnel.tag) {
    case 'connected':
      return tunnel.profile === profile ? { tag: 'done' } : waiting
    case 'connecting':
      return tunnel.profile === profile && tunnel.cause !== null
        ? { tag: 'waiting', because: failureOf(snapshot) }
        : waiting
    case 'disconnecting':
      return waiting
    case 'failed':
      return when === 'after' ? { tag: 'failed', sentence: failureOf(snapshot) } : waiting
    case 'disconnected':
      return when === 'after'
        ? { tag: 'failed', sentence: `"${shown}" was disconnected before it was connected` }
        : waiting
  }
}

interface Following extends Disposable {
  /** Forgets the states so far: they are from before the wish. */
  forget(): void
  /** Resolves at `done`. @throws HelperError at `failed`, when the time is over, or when the helper goes. */
  until(seconds: number, late: string, judge: (snapshot: Snapshot, when: When) => Verdict): Promise<void>
}

/** Collects states from now on, so that none is missed between a wish and the wait for what comes of it. */
function follow(client: HelperClient): Following {
  const seen: Snapshot[] = []
  let wake = () => {}
  const subscription = client.onState((snapshot) => {
    seen.push(snapshot)
    wake()
  })
  return {
    forget() {
      seen.length = 0
    },
    async until(seconds, late, judge) {
      const outcome = Promise.withResolvers<void>()
      let because: string | null = null
      const settle = (verdict: Verdict) => {
        if (verdict.tag === 'done') outcome.resolve()
        if (verdict.tag === 'failed') outcome.reject(new HelperError('failed', verdict.sentence))
        if (verdict.tag === 'waiting') because = verdict.because ?? because
      }
      wake = () => {
        for (const snapshot of seen.splice(0)) settle(judge(snapshot, 'after'))
      }
      wake()
      const timer = setTimeout(() => {
        const why = because === null ? '' : `: ${because}`
        outcome.reject(new HelperError('failed', `${late}${why}`))
      }, seconds * 1000)
      try {
        // All at once: whichever ends it may come first.
        const first = client.call('state', {}).then((snapshot) => settle(judge(snapshot, 'before')))
        const gone = client.closed.then((reason) => {
          throw new HelperError('gone', reason)
        })
        await Promise.race([outcome.promise, first.then(() => outcome.promise), gone])
      } finally {
        clearTimeout(timer)
        wake = () => {}
      }
    },
    [Symbol.dispose]: () => subscription[Symbol.dispose](),
  }
}

function stateOf(snapshot: Snapshot): string {
  return snapshot.tag === 'full' ? snapshot.tunnel.tag : snapshot.state
}

/** Why it does not work: the helper's own words where it has any. */
function failureOf(snapshot: Snapshot): string {
  if (snapshot.tag === 'outline') return snapshot.cause === null ? 'it failed' : causeWords[snapshot.cause]
  const { tunnel } = snapshot
  if (tunnel.tag !== 'failed' && tunnel.tag !== 'connecting') return 'it failed'
  if (tunnel.cause === null) return 'it failed'
  return tunnel.detail ?? causeWords[tunnel.cause]
}
