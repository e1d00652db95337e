/**
 * Builds the Rust data plane: `cargo build --release --locked` of tunnel/native into tunnel/native/culvert.node, only when
 * a sha256 over its sources differs from the one that the last build wrote to tunnel/native/.built.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFile, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { delimiter, dirname, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

/** Why the native part cannot be built: one sentence that says what to do. */
export class NativeBuildError extends Error {
  override readonly name = 'NativeBuildError'
}

/** A cargo, and the version that it says it has. */
export interface Cargo {
  readonly path: string
  readonly version: readonly [major: number, minor: number]
}

/**
 * Builds the addon if its sources changed since the last build, and says which it was.
 * @throws NativeBuildError when no cargo is new enough, or when it fails.
 */
export async function buildNative(options: { signal?: AbortSignal } = {}): Promise<'built' | 'fresh'> {
  const wanted = await sourceHash(source)
  if ((await exists(addon)) && (await readStamp()) === wanted) return 'fresh'
  const cargo = await findCargo()
  const argv = ['build', '--release', '--locked', '--manifest-path', join(source, 'Cargo.toml')]
  try {
    await run(cargo.path, argv, {
      env: {
        ...process.env,
        // The rustc that came with this cargo.
        PATH: [dirname(cargo.path), process.env['PATH'] ?? ''].join(delimiter),
        CARGO_TARGET_DIR: join(source, 'target'),
        CARGO_TERM_COLOR: 'never',
      },
      maxBuffer: 64 * 1024 * 1024,
      ...options,
    })
  } catch (error) {
    throw new NativeBuildError(`${cargo.path} could not build tunnel/native: ${lastLines(error)}`, {
      cause: error,
    })
  }
  // A running process may have the old one mapped: never write into it, replace it.
  await copyFile(join(source, 'target/release/libculvert_native.so'), `${addon}.new`)
  await rename(`${addon}.new`, addon)
  await writeFile(stamp, `${wanted}\n`)
  return 'built'
}

/** A sha256, in hex, over the names and contents of everything that a build in `folder` depends on. */
export async function sourceHash(folder: string): Promise<string> {
  const hash = createHash('sha256')
  for (const file of await sources(folder)) {
    const content = await readFile(join(folder, file))
    hash.update(`${file}\0${content.length}\0`).update(content)
  }
  return hash.digest('hex')
}

/**
 * The first cargo of PATH, ~/.cargo/bin and /usr/bin (where Debian's cargo-web puts its own) that is new enough.
 * @throws NativeBuildError naming the ones that are too old.
 */
export async function findCargo(places: readonly string[] = cargoPlaces()): Promise<Cargo> {
  const old: string[] = []
  for (const path of places) {
    const version = await cargoVersion(path)
    if (version === null) continue
    if (isEnough(version)) return { path, version }
    old.push(`${path} is ${version.join('.')}`)
  }
  const found = old.length === 0 ? 'there is none' : old.join(', ')
  throw new NativeBuildError(
    `The native part needs cargo ${minimum.join('.')} or later (${found}): run npm run setup, which installs Debian's cargo-web.`,
  )
}

/** The files of a crate that decide what is built, sorted, with `/` between folders. */
async function sources(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).split(sep).join('/'))
    .filter((file) => /^(?:Cargo\.(?:toml|lock)|build\.rs|src\/.*|\.cargo\/.*)$/.test(file))
    .sort()
}

function cargoPlaces(): readonly string[] {
  const path = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '')
  const folders = [...path, join(homedir(), '.cargo/bin'), '/usr/local/bin', '/usr/bin']
  return [...new Set(folders)].map((folder) => join(folder, 'cargo'))
}

/** What `cargo --version` says, or null when there is no working cargo at `path`. */
async function cargoVersion(path: string): Promise<Cargo['version'] | null> {
  try {
    const { stdout } = await run(path, ['--version'], { cwd: source })
    const match = /^cargo (\d+)\.(\d+)\./.exec(stdout)
    return match === null ? null : [Number(match[1]), Number(match[2])]
  } catch {
    return null // not there, or a rustup without a toolchain
  }
}

function isEnough([major, minor]: Cargo['version']): boolean {
  return major > minimum[0] || (major === minimum[0] && minor >= minimum[1])
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

/** The hash of the last build; an empty string when there was none. */
async function readStamp(): Promise<string> {
  return readFile(stamp, 'utf8').then(
    (text) => text.trim(),
    () => '',
  )
}

/** The end of what a failed program wrote to stderr. */
function lastLines(error: unknown): string {
  const text = error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error)
  return text.trim().split('\n').slice(-30).join('\n')
}

const run = promisify(execFile)
const source = fileURLToPath(new URL('../tunnel/native', import.meta.url))
const addon = join(source, 'culvert.node')
const stamp = join(source, '.built')
/** `rust-version` in Cargo.toml. */
const minimum = [1, 88] as const

if (import.meta.main) {
  try {
    console.log(`tunnel/native: ${await buildNative()}`)
  } catch (error) {
    if (!(error instanceof NativeBuildError)) throw error
    console.error(error.message)
    process.exitCode = 1
  }
}
