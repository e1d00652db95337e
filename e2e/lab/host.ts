/**
 * A host of the lab: network, mount, PID, IPC and host-name namespaces of its own. It sees the machine's programs, or those of a
 * lab root, but its /run is empty and what it writes to /etc and /var/lib is gone with it.
 *
 *   lab (this process) ── pipe ──▶ sh, PID 1 of the host ◀── nsenter ── every program of the host
 *
 * PID 1 reads the pipe and ends when it closes. So when this process ends, however it ends, the kernel kills every
 * program of the host, and links, rules and mounts go with the namespaces: there is nothing to clean up.
 */
import { mkdirSync } from 'node:fs'
import { spawn, type ChildProcess } from 'node:child_process'
import type { Readable } from 'node:stream'
import { childrenOf, eventually, exec, Program, run, type Ended, type ExecOptions } from './program.ts'

export class Host implements AsyncDisposable {
  readonly name: string
  /** PID 1's pid on this machine: names the namespaces to `ip` and `nsenter`. */
  readonly pid: number
  readonly #holder: ChildProcess
  /** Into the host's namespaces, with the machine's programs. */
  readonly #outer: readonly string[]
  /** The same, with the programs of its root. */
  readonly #enter: readonly string[]

  private constructor(name: string, holder: ChildProcess, pid: number, root: string | null) {
    this.name = name
    this.#holder = holder
    this.pid = pid
    this.#outer = [
      // --root: whoever runs us may live in a chroot, and a mount namespace alone would lead out of it.
      ...`nsenter --target ${pid} --net --mount --uts --ipc --pid --root --wd --`.split(' '),
      // When nsenter is killed the program behind it must not live on.
      ...'setpriv --pdeathsig KILL --'.split(' '),
    ]
    this.#enter = root === null ? this.#outer : [...this.#outer, 'chroot', CHROOT]
  }

  /**
   * Makes a host with nothing but its loopback.
   * @param root a lab root (root.ts), whose programs run instead of the machine's; null: the machine's.
   */
  static async open(name: string, root: string | null = null): Promise<Host> {
    const namespaces =
      '--net --mount --uts --ipc --pid --fork --kill-child --mount-proc --propagation private'
    const holder = spawn('unshare', [...namespaces.split(' '), '--', 'sh', '-c', 'cat >/dev/null; exit 0'], {
      stdio: ['pipe', 'ignore', 'inherit'],
      cwd: '/',
    })
    const pid = await eventually(`host ${name} to start`, 10_000, () => {
      if (holder.exitCode !== null) throw new Error(`unshare could not make the namespaces of host ${name}`)
      const pid = holder.pid === undefined ? undefined : childrenOf(holder.pid)[0]
      // The shell has forked its cat: the mounts of --mount-proc are done.
      return pid !== undefined && childrenOf(pid).length > 0 ? pid : null
    })
    const host = new Host(name, holder, pid, root)
    await host.#furnish(root)
    return host
  }

  /** Runs a program in the host to its end. */
  exec(argv: readonly string[], options: ExecOptions = {}): Promise<Ended> {
    return exec(argv, options, this.#enter)
  }

  /** Runs a program that has to succeed; gives its standard output. */
  run(argv: readonly string[], options: ExecOptions = {}): Promise<string> {
    return run(argv, options, this.#enter)
  }

  /** Starts a program in the host. It ends with the host at the latest. */
  start(argv: readonly string[], options: ExecOptions = {}): Program {
    return new Program(argv, options, this.#enter)
  }

  /** Starts a program whose standard output is too large to keep. */
  stream(argv: readonly string[]): Readable {
    const [command = '', ...args] = [...this.#enter, ...argv]
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    return child.stdout
  }

  /** Lines of `ip -batch` (ip(8)). */
  async ip(...lines: readonly string[]): Promise<void> {
    await run(['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` }, this.#outer)
  }

  /** Loads nftables rules in nft's own language. */
  async nft(rules: string): Promise<void> {
    await run(['nft', '-f', '-'], { input: rules }, this.#outer)
  }

  /** Sets sysctls of the host's network namespace. */
  async sysctl(values: Readonly<Record<string, string | number>>): Promise<void> {
    const settings = Object.entries(values).map(([key, value]) => `${key}=${value}`)
    await run(['sysctl', '-qw', ...settings], {}, this.#outer)
  }

  /** Writes a file as the host sees it, making its directory. */
  async write(path: string, content: string): Promise<void> {
    await this.run(['mkdir', '-p', path.slice(0, path.lastIndexOf('/'))])
    await this.run(['tee', path], { input: content })
  }

  /** Ends the host and every program in it. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#holder.exitCode !== null || this.#holder.signalCode !== null) return
    const gone = new Promise((resolve) => this.#holder.once('exit', resolve))
    this.#holder.stdin?.destroy()
    await gone
  }

  async #furnish(root: string | null): Promise<void> {
    const mount = (...args: readonly string[]) => run(['mount', ...args], {}, this.#outer)
    await mount('-t', 'sysfs', 'sysfs', '/sys')
    await mount('-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', '/run')
    const overlay = async (name: string, lower: string, target: string) => {
      await run(['mkdir', '-p', `${LAYERS}/${name}/upper`, `${LAYERS}/${name}/work`], {}, this.#outer)
      const layers = `lowerdir=${lower},upperdir=${LAYERS}/${name}/upper,workdir=${LAYERS}/${name}/work`
      await mount('-t', 'overlay', '-o', layers, 'overlay', target)
    }
    if (root === null) {
      await overlay('etc', '/etc', '/etc')
      await overlay('lib', '/var/lib', '/var/lib')
    } else {
      await run(['mkdir', '-p', CHROOT], {}, this.#outer)
      await overlay('root', root, CHROOT)
      for (const kernel of ['/proc', '/sys', '/dev']) await mount('--rbind', kernel, `${CHROOT}${kernel}`)
      await mount('-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', `${CHROOT}/run`)
    }
    await run(['hostname', this.name], {}, this.#outer)
    await this.sysctl({
      // Addresses are usable at once instead of after a second of duplicate detection.
      'net.ipv6.conf.all.accept_dad': 0,
      'net.ipv6.conf.default.accept_dad': 0,
    })
    await run(['ip', 'link', 'set', 'lo', 'up'], {}, this.#outer)
  }
}

/** One end of a cable: the host, the interface's name there, and its addresses with their prefix lengths. */
export interface Plug {
  readonly host: Host
  readonly name: string
  readonly addresses: readonly string[]
}

/** Joins two hosts by a cable (a veth pair), which never touches the machine's own network namespace. */
export async function join(one: Plug, other: Plug): Promise<void> {
  const [end, peer] = [one, other].map(({ host, name }) => `${name} netns ${host.pid}`)
  await run(`ip link add ${end} type veth peer ${peer}`.split(' '))
  for (const { host, name, addresses } of [one, other]) {
    await host.ip(
      ...addresses.map(
        (address) => `address add ${address} dev ${name}${address.includes(':') ? ' nodad' : ''}`,
      ),
      `link set ${name} up`,
    )
  }
}

/** A folder for the lab's files, which the machine's /tmp shares with every host. */
export function labFolder(): string {
  const folder = `${FOLDER_PREFIX}${process.pid}`
  mkdirSync(folder, { recursive: true, mode: 0o755 })
  return folder
}

/** Before the pid of the process whose folder it is. */
export const FOLDER_PREFIX = '/tmp/culvert-lab-'

const LAYERS = '/run/.lab'
const CHROOT = '/run/.lab/chroot'
