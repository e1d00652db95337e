/** `culvert-server init`: keys, an empty registry and a commented config, or nothing at all. */
import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { links, run } from '@culvert/tunnel'
import type { Endpoint, InterfaceAddress, PublicKey } from '@culvert/tunnel/pure'
import { formatConfig } from './config.ts'
import { errnoOf, ServerError } from './error.ts'
import { generateOperatorKey, generateSecret, generateWireGuardKey, publicKeyOf } from './keys.ts'
import type { Paths } from './paths.ts'
import { choosePool4, uniqueLocalPrefix, type Pool } from './pool.ts'
import { createRegistry } from './registry.ts'

export interface InitOptions {
  readonly endpoint: Endpoint
  readonly dnsZone: string | null
  readonly webHost: string | null
  readonly paths: Paths
}

/** What was made. */
export interface Made {
  readonly publicKey: PublicKey
  readonly pool: Pool
}

/**
 * Makes everything that a server keeps. When one part fails, what was made before it is removed again.
 * @throws ServerError `exists` naming the file, `no-privilege`, `bad-state`, `pool-taken`.
 */
export async function initialise({ endpoint, dnsZone, webHost, paths }: InitOptions): Promise<Made> {
  const { config, privateKey, operatorKey, carrierSecret, registry } = paths
  const there = [config, privateKey, operatorKey, carrierSecret, registry].find((path) => existsSync(path))
  if (there !== undefined) {
    throw new ServerError(
      'exists',
      `${there} exists already, and init overwrites nothing: keep it, or move it away first`,
    )
  }
  const pool4 = choosePool4(await ownAddresses())
  if (pool4 === null) {
    throw new ServerError(
      'pool-taken',
      'every usual address pool lies over an address of this machine: take one of its private networks away',
    )
  }
  const pool = { pool4, pool6: uniqueLocalPrefix(randomBytes(5)) }
  const made: string[] = []
  const write = (path: string, text: string) => {
    writeFileSync(path, text, { mode: 0o600, flag: 'wx', flush: true })
    made.push(path)
  }
  try {
    makeDirectory(paths.state, 0o700)
    makeDirectory(paths.configDirectory, 0o755)
    using key = generateWireGuardKey()
    write(privateKey, `${key.base64()}\n`)
    write(operatorKey, generateOperatorKey())
    using secret = generateSecret()
    write(carrierSecret, `${secret.base64()}\n`)
    createRegistry(registry)
    made.push(registry)
    // The config last: a state with a config is a whole one. It holds no secret.
    write(config, formatConfig({ endpoint, ...pool, dnsZone, webHost }))
    chmodSync(config, 0o644)
    return { publicKey: publicKeyOf(key), pool }
  } catch (cause) {
    for (const path of made) rmSync(path, { force: true })
    const errno = errnoOf(cause)
    if (errno !== 'EACCES' && errno !== 'EPERM' && errno !== 'EROFS') throw unmade(cause)
    throw new ServerError(
      'no-privilege',
      `${paths.state} and ${paths.configDirectory} may be written by root only: run this with sudo, or choose a folder of your own with --state DIR`,
      { cause },
    )
  }
}

/** Not mkdir's `recursive`, which never ends where the kernel says that a folder it is in is not there (/proc). */
function makeDirectory(path: string, mode: number): void {
  if (existsSync(path)) return
  makeDirectory(dirname(path), mode)
  mkdirSync(path, { mode })
}

/** What the machine says no to is for a person; the rest is a bug of ours, or has its sentence. */
function unmade(cause: unknown): unknown {
  if (!(cause instanceof Error) || !('syscall' in cause)) return cause
  const sentence = `the state cannot be made (${cause.message}): free that place, or choose another with --state DIR`
  return new ServerError('bad-state', sentence, { cause })
}

async function ownAddresses(): Promise<readonly InterfaceAddress[]> {
  return (await links(run)).flatMap(({ addresses }) => addresses)
}
