/**
 * One server for one state folder. Node has no flock(2); SQLite's exclusive transaction is an fcntl(2) lock on the file,
 * which the kernel gives up with the process, so that no stale lock is ever in the way.
 */
import { DatabaseSync } from 'node:sqlite'
import { ServerError } from './error.ts'
import { unreadable } from './keys.ts'

/** Takes the lock until disposed. @throws ServerError `already-running` when another process has it. */
export function takeLock(path: string): Disposable {
  let database: DatabaseSync
  try {
    database = new DatabaseSync(path, { timeout: 0 })
  } catch (cause) {
    throw unreadable(path, cause)
  }
  try {
    database.exec('BEGIN EXCLUSIVE')
    return database
  } catch (cause) {
    database.close()
    if (!(cause instanceof Error && 'errcode' in cause && cause.errcode === SQLITE_BUSY))
      throw unreadable(path, cause)
    throw new ServerError(
      'already-running',
      `another culvert-server runs with this state (it holds ${path}): stop it first, or give this one its own --state DIR`,
      { cause },
    )
  }
}

const SQLITE_BUSY = 5
