/**
 * Lab roots: whole Debian file systems for the daemons that the lab needs and that have no business on the machine. Each is made
 * once by debootstrap (under a minute), kept in the cache, and never written to again: hosts lay an overlay over it.
 */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { chown, mkdir, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { run } from './program.ts'

/** What a root has besides Debian's minimum. One root for each set of daemons that can live together. */
export const services = ['unbound', 'radvd', 'ca-certificates'] as const

/**
 * The folder of a root with these packages, made if it isn't there.
 * @throws Error with the end of debootstrap's words.
 */
export async function labRoot(packages: readonly string[]): Promise<string> {
  const { suite, mirror } = await distribution()
  const recipe = createHash('sha256')
    .update([suite, ...packages].join(' '))
    .digest('hex')
    .slice(0, 12)
  const folder = `${cacheFolder()}/roots`
  const finished = `${folder}/${suite}-${recipe}`
  if (existsSync(finished)) return finished
  await makeCacheFolder()
  await mkdir(folder, { recursive: true })
  await removeUnfinished(folder)
  const building = `${finished}.building-${process.pid}`
  process.stderr.write(`Making a lab root with ${packages.join(', ')}: once, about a minute.\n`)
  const argv = [
    'debootstrap',
    '--variant=minbase',
    `--include=${packages.join(',')}`,
    suite,
    building,
    mirror,
  ]
  try {
    await run(argv, { timeout: 10 * 60_000 })
  } catch (cause) {
    const words = await readFile(`${building}/debootstrap/debootstrap.log`, 'utf8').catch(() => '')
    await rm(building, { recursive: true, force: true })
    throw new Error(`the lab root could not be made: ${words.trim().split('\n').at(-1) ?? ''}`, { cause })
  }
  try {
    await rename(building, finished)
  } catch {
    // Somebody else was faster: theirs is as good.
    await rm(building, { recursive: true, force: true })
  }
  return finished
}

/** Where what is made once is kept: roots and peers. Under sudo it is still the caller's, told by run.ts. */
export function cacheFolder(): string {
  return process.env['CULVERT_CACHE'] ?? `${process.env['HOME'] ?? '/root'}/.cache/culvert`
}

/** Makes the cache. Under sudo its folder is the caller's, not root's: ~/.cache is where other programs write too. */
async function makeCacheFolder(): Promise<void> {
  const [uid, gid] = [process.env['SUDO_UID'], process.env['SUDO_GID']].map(Number)
  const first = await mkdir(cacheFolder(), { recursive: true })
  if (first === undefined || !uid || !gid) return
  for (let made = cacheFolder(); made.length >= first.length; made = dirname(made))
    await chown(made, uid, gid)
}

/** The machine's own release, so that what was compiled here also runs there. */
async function distribution(): Promise<{ suite: string; mirror: string }> {
  const release = await readFile('/etc/os-release', 'utf8')
  const suite = /^VERSION_CODENAME="?([a-z]+)"?$/m.exec(release)?.[1] ?? 'bookworm'
  const sites = await run(['apt-get', 'indextargets', '--format', '$(SITE) $(CODENAME) $(COMPONENT)'])
  const own = sites.split('\n').find((line) => line.endsWith(` ${suite} main`))
  return { suite, mirror: own?.split(' ')[0] ?? 'http://deb.debian.org/debian' }
}

/** A root that a killed process left half made. */
async function removeUnfinished(folder: string): Promise<void> {
  for (const name of readdirSync(folder)) {
    const owner = /\.building-(\d+)$/.exec(name)?.[1]
    if (owner === undefined || existsSync(`/proc/${owner}`)) continue
    await rm(`${folder}/${name}`, { recursive: true, force: true })
  }
}
