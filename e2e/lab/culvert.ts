/**
 * Culvert in the lab: the real commands, run in the hosts as their users would run them.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Host } from './host.ts'
import type { Ended, ExecOptions, Program } from './program.ts'

/** The launchers of the checkout. */
export const commands = {
  culvert: bin('../../helper/bin/culvert'),
  helper: bin('../../helper/bin/culvert-helper'),
  server: bin('../../server/bin/culvert-server'),
} as const

/** Initialises a server on a host and runs it. Resolves when it serves. */
export async function startServer(host: Host, endpoint: string): Promise<Program> {
  await host.run([commands.server, 'init', '--endpoint', endpoint])
  return runServer(host)
}

/** Runs a server that was initialised. Resolves when it serves. */
export async function runServer(host: Host): Promise<Program> {
  const program = host.start([commands.server, 'run'])
  await listening(host, program, SERVER_PORT)
  return program
}

/** Makes a device of a user and gives its .conf. */
export function addDevice(host: Host, user: string): Promise<string> {
  return host.run([commands.server, 'device', 'add', user, '--wg-quick'])
}

/** Runs the helper on a host. Resolves when it answers. */
export async function startHelper(host: Host, ...options: readonly string[]): Promise<Program> {
  const program = host.start([commands.helper, ...options])
  const deadline = performance.now() + START_TIME
  while ((await culvert(host, ['status', '--json'])).status !== 0) {
    if (!program.running) throw new Error(`culvert-helper ended: ${program.stderr.trim()}`)
    if (performance.now() > deadline)
      throw new Error(`culvert-helper does not answer: ${program.stderr.trim()}`)
  }
  return program
}

/** Runs a `culvert` command on a host. */
export function culvert(host: Host, args: readonly string[], options: ExecOptions = {}): Promise<Ended> {
  return host.exec([commands.culvert, ...args], options)
}

/** Runs a `culvert` command that has to succeed. */
export async function mustCulvert(
  host: Host,
  args: readonly string[],
  options: ExecOptions = {},
): Promise<string> {
  return host.run([commands.culvert, ...args], options)
}

/** Imports a .conf as a profile: a file of that name in a folder that the host sees. */
export async function importConf(host: Host, folder: string, name: string, conf: string): Promise<void> {
  const path = `${folder}/${name}.conf`
  await host.write(path, conf)
  await mustCulvert(host, ['import', path])
}

/** A GET by a real program on a host: the status and, where the website answered, the address that it saw. */
export interface Got {
  readonly status: number
  readonly you: string | null
}

/** Opens `url` with curl. Status 0: nobody answered within `seconds`. */
export async function get(host: Host, url: string, seconds = 10): Promise<Got> {
  const argv = ['curl', '--silent', '--max-time', `${seconds}`, '--write-out', '\n%{http_code}', url]
  const { stdout } = await host.exec(argv)
  const lines = stdout.split('\n')
  const you = /"you":"([^"]+)"/.exec(stdout)?.[1] ?? null
  return { status: Number(lines.at(-1)), you }
}

/** Waits until a UDP port of the host is taken. */
async function listening(host: Host, program: Program, port: number): Promise<void> {
  const deadline = performance.now() + START_TIME
  const hex = port.toString(16).toUpperCase().padStart(4, '0')
  // /proc/PID/net is the network namespace of that process.
  while (
    !['udp', 'udp6'].some((table) =>
      readFileSync(`/proc/${host.pid}/net/${table}`, 'utf8').includes(`:${hex} `),
    )
  ) {
    if (!program.running) throw new Error(`${program.argv.join(' ')} ended: ${program.stderr.trim()}`)
    if (performance.now() > deadline)
      throw new Error(`${program.argv.join(' ')} opened no port: ${program.stderr.trim()}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

function bin(path: string): string {
  return fileURLToPath(import.meta.resolve(path))
}

/** Where a Culvert server listens unless it is told otherwise (design, part 5). */
export const SERVER_PORT = 51820

/** Node starts in 0.1 s; a loaded machine takes its time. */
const START_TIME = 30_000
