/** One helper at a time: a file with its process id, which is also how `rescue.sh` finds it. */
import { open, readFile, rm } from 'node:fs/promises'
import { HelperError } from './error.ts'

/**
 * Takes the place of the one helper, until disposed.
 * @param path of the file, in a directory that only root writes.
 * @throws HelperError `in-use` when a helper is running.
 */
export async function claim(path: string): Promise<AsyncDisposable> {
  for (let tries = 0; ; tries++) {
    try {
      // Exclusive: of two that start at the same time, one fails here.
      const file = await open(path, 'wx', 0o644)
      try {
        await file.writeFile(`${process.pid}\n`)
      } finally {
        await file.close()
      }
      return { [Symbol.asyncDispose]: () => rm(path, { force: true }) }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || tries > 0) throw error // node:fs throws nothing else
    }
    const pid = Number(await readFile(path, 'utf8'))
    if (await isHelper(pid)) {
      throw new HelperError('in-use', `a helper is running already, as process ${pid}: stop it first`)
    }
    // Of a helper that was killed.
    await rm(path, { force: true })
  }
}

/** Whether a process is a helper: after a crash its number may be anybody's. */
async function isHelper(pid: number): Promise<boolean> {
  if (!Number.isInteger(pid) || pid <= 0 || pid === process.pid) return false
  try {
    return HELPER.test(await readFile(`/proc/${pid}/cmdline`, 'utf8'))
  } catch {
    return false // no such process
  }
}

/** How a helper's command line looks, run from source or packaged; rescue.sh has the same. */
const HELPER = /culvert-helper|helper\/main\.ts/
