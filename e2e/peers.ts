/**
 * The other implementations that Culvert is measured against and talked to: built once at pinned versions into the cache.
 * A peer that cannot be built is not an error here: whoever asks says so and leaves it out, or fails where CI demands it.
 */
import { existsSync } from 'node:fs'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { installed } from './lab/requirements.ts'
import { cacheFolder } from './lab/root.ts'
import { exec } from './lab/program.ts'

export type PeerName = 'wireguard-go' | 'boringtun' | 'openvpn'

/** A peer's program, or one sentence that says why there is none. */
export type Peer =
  | { readonly tag: 'ready'; readonly program: string; readonly version: string }
  | { readonly tag: 'absent'; readonly why: string }

/** Gives a peer, building it if need be. */
export async function peer(name: PeerName): Promise<Peer> {
  if (name === 'openvpn') return installedOpenVpn()
  const recipe = recipes[name]
  const folder = `${cacheFolder()}/peers/${name}-${recipe.version}`
  const program = `${folder}/${recipe.file}`
  // The stamp is written last: without it the build did not end.
  if (existsSync(`${folder}/.built`) && existsSync(program))
    return { tag: 'ready', program, version: recipe.version }
  const tool = recipe.tool()
  if (tool === null) return { tag: 'absent', why: `${name} is not built, and ${recipe.without}` }
  process.stderr.write(`Building ${name} ${recipe.version}: once.\n`)
  const building = `${folder}.building-${process.pid}`
  await mkdir(building, { recursive: true })
  const [argv, env] = recipe.build(tool, building)
  const { status, stderr } = await exec(argv, { env, timeout: BUILD_TIME })
  if (status !== 0) {
    await rm(building, { recursive: true, force: true })
    return { tag: 'absent', why: `${name} could not be built: ${stderr.trim().split('\n').at(-1) ?? ''}` }
  }
  await writeFile(`${building}/.built`, `${recipe.version}\n`)
  await rm(folder, { recursive: true, force: true })
  await rename(building, folder)
  return { tag: 'ready', program, version: recipe.version }
}

interface Recipe {
  readonly version: string
  /** The program in its folder. */
  readonly file: string
  /** What builds it, or null. */
  tool(): string | null
  readonly without: string
  build(tool: string, folder: string): readonly [readonly string[], Readonly<Record<string, string>>]
}

const recipes: Readonly<Record<Exclude<PeerName, 'openvpn'>, Recipe>> = {
  'wireguard-go': {
    version: '0.0.0-20260522210424-ecfc5a8d5446',
    file: 'wireguard',
    tool: () => find('go', ['/usr/local/go/bin']),
    without: 'there is no Go (1.23 or newer) to build it with',
    build: (go, folder) => [
      [go, 'install', `golang.zx2c4.com/wireguard@v${recipes['wireguard-go'].version}`],
      { GOBIN: folder, HOME: homedir(), ...proxies() },
    ],
  },
  boringtun: {
    version: '0.7.1',
    file: 'bin/boringtun-cli',
    tool: () => find('cargo', [`${homedir()}/.cargo/bin`]),
    without: 'there is no cargo to build it with',
    build: (cargo, folder) => [
      [
        cargo,
        'install',
        '--locked',
        '--root',
        folder,
        '--version',
        recipes.boringtun.version,
        'boringtun-cli',
      ],
      { HOME: homedir(), PATH: `${cargo.slice(0, cargo.lastIndexOf('/'))}:/usr/bin:/bin`, ...proxies() },
    ],
  },
}

async function installedOpenVpn(): Promise<Peer> {
  if (!installed('openvpn'))
    return { tag: 'absent', why: 'openvpn is not installed: apt-get install openvpn' }
  const { stdout } = await exec(['openvpn', '--version'])
  return { tag: 'ready', program: 'openvpn', version: /^OpenVPN (\S+)/.exec(stdout)?.[1] ?? 'unknown' }
}

/** A tool on the caller's PATH, or where its own installer puts it. */
function find(tool: string, elsewhere: readonly string[]): string | null {
  const folders = [...elsewhere, ...(process.env['PATH'] ?? '').split(':')]
  return folders.map((folder) => `${folder}/${tool}`).find((path) => existsSync(path)) ?? null
}

/** How this machine reaches the registries is the caller's business, and passed on. */
function proxies(): Readonly<Record<string, string>> {
  const known =
    /^(?:https?_proxy|no_proxy|GO(?:PROXY|FLAGS|SUMDB|NOSUMDB|TOOLCHAIN)|CARGO_.*|RUSTUP_.*|SSL_CERT_.*)$/i
  return Object.fromEntries(
    Object.entries(process.env).filter((entry): entry is [string, string] => known.test(entry[0])),
  )
}

/** The version that a finished build left behind, for whoever lists them; null: not built. */
export async function builtVersion(name: Exclude<PeerName, 'openvpn'>): Promise<string | null> {
  const stamp = `${cacheFolder()}/peers/${name}-${recipes[name].version}/.built`
  return (await readFile(stamp, 'utf8').catch(() => '')).trim() || null
}

const BUILD_TIME = 15 * 60_000
