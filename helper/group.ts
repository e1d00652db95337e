/**
 * Who may use the helper: root, and whom the group database lists in the helper's group now. It is asked by name at every
 * connection, so that somebody who was just added need not log in again.
 */
import { TunnelError, type Run } from '@culvert/tunnel'
import type { Access } from './contract/index.ts'

/** Somebody at the other end of the socket. */
export interface Caller {
  readonly uid: number
  readonly access: Access
  /** One sentence: why they are a stranger, and what to do; null for a member. */
  readonly reason: string | null
}

/** Whether the group database has a group of that name. */
export async function groupExists(run: Run, group: string): Promise<boolean> {
  return (await entry(run, 'group', group)) !== null
}

/** What a user may do. */
export async function admit(run: Run, group: string, uid: number): Promise<Caller> {
  if (uid === 0) return { uid, access: 'member', reason: null }
  // passwd(5): name:password:uid:gid:… and group(5): name:password:gid:members
  const user = await entry(run, 'passwd', `${uid}`)
  const found = await entry(run, 'group', group)
  const [name] = user ?? []
  if (found === null) {
    return { uid, access: 'stranger', reason: `only root may do that: there is no group "${group}"` }
  }
  const members = (found[3] ?? '').split(',')
  const isMember = name !== undefined && (members.includes(name) || user?.[3] === found[2])
  if (isMember) return { uid, access: 'member', reason: null }
  const who = name ?? `uid ${uid}`
  return {
    uid,
    access: 'stranger',
    reason: `${who} may only see the state: only root and the group "${group}" may do that (sudo gpasswd -a ${name ?? 'USER'} ${group})`,
  }
}

/** The fields of an entry; null: there is none. */
async function entry(run: Run, database: 'group' | 'passwd', key: string): Promise<readonly string[] | null> {
  try {
    const [line = ''] = (await run(['getent', database, key])).split('\n')
    return line === '' ? null : line.split(':')
  } catch (error) {
    // getent(1) exits with 2 and says nothing when there is no such entry.
    if (error instanceof TunnelError && error.code === 'command-failed') return null
    throw error
  }
}
