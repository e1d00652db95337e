/**
 * What the user last asked for, in a file that a shell script can read and write (rescue.sh does):
 *
 *   culvert-target 1
 *   boot 9c0a3f5e-…          the boot in which it was asked
 *   profile 0123456789abcdef the profile that is wanted; "-": none
 *   lockdown off             "on": nothing goes out without the tunnel, from boot on
 *
 * It outlives a crash: a helper that is started again in the same boot connects again. After a reboot `autoConnect` decides.
 */
import type { ProfileId } from './contract/index.ts'
import { profileIdShape } from './schema.ts'

export interface Target {
  /** Null: none, or that of a rescue. */
  readonly bootId: string | null
  readonly profile: ProfileId | null
  readonly lockdown: 'on' | 'off'
}

/** Nothing is wanted. */
export const noTarget: Target = { bootId: null, profile: null, lockdown: 'off' }

/** Reads the file's text; null when it is not what it should be. An empty text is `noTarget`: there is no file yet. */
export function parseTarget(text: string): Target | null {
  if (text === '') return noTarget
  const match = /^culvert-target 1\nboot (\S+)\nprofile (\S+)\nlockdown (on|off)\n$/.exec(text)
  if (match === null) return null
  const [, boot = '-', profile = '-', lockdown] = match
  const id = profileIdShape.safeParse(profile)
  if (profile !== '-' && !id.success) return null
  return {
    bootId: boot === '-' ? null : boot,
    profile: id.success ? id.data : null,
    lockdown: lockdown === 'on' ? 'on' : 'off',
  }
}

/** The file's text. */
export function formatTarget({ bootId, profile, lockdown }: Target): string {
  return `culvert-target 1\nboot ${bootId ?? '-'}\nprofile ${profile ?? '-'}\nlockdown ${lockdown}\n`
}
