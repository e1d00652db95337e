/**
 * Other programs: run to their end (`exec`), or started and watched (`Program`). argv arrays, never a shell. An exit
 * status is an answer here, not a failure: half of the tests want a command to refuse.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** What a program answered when it ended. */
export interface Ended {
  /** Null: a signal ended it. */
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface ExecOptions {
  /** Written to standard input. */
  readonly input?: string
  readonly signal?: AbortSignal
  /** Milliseconds after which it is killed and `exec` throws. Default 60 s: nothing in the lab waits longer unasked. */
  readonly timeout?: number
  /** Added to PATH, HOME and LC_ALL, which are all that a program of the lab gets. */
  readonly env?: Readonly<Record<string, string>>
}

/** Runs a program and gives what it answered. @throws Error when there is no such program or its time is up. */
export async function exec(
  argv: readonly string[],
  options: ExecOptions = {},
  wrapper: readonly string[] = [],
): Promise<Ended> {
  const program = new Program(argv, options, wrapper)
  const timeout = AbortSignal.timeout(options.timeout ?? DEFAULT_TIMEOUT)
  const kill = () => program.kill('SIGKILL')
  timeout.addEventListener('abort', kill)
  try {
    const ended = await program.ended
    if (timeout.aborted)
      throw new Error(`${argv.join(' ')}: no end after ${options.timeout ?? DEFAULT_TIMEOUT} ms`)
    return ended
  } finally {
    timeout.removeEventListener('abort', kill)
  }
}

/** Runs a program that has to succeed and gives its standard output. @throws Error with what it said on stderr. */
export async function run(
  argv: readonly string[],
  options: ExecOptions = {},
  wrapper: readonly string[] = [],
): Promise<string> {
  const { status, stdout, stderr } = await exec(argv, options, wrapper)
  if (status === 0) return stdout
  throw new Error(`${argv.join(' ')}: ${(stderr || stdout).trim() || `exit status ${status}`}`)
}

/** A started program. Disposing of it kills it and waits for its end. */
export class Program implements AsyncDisposable {
  readonly argv: readonly string[]
  /** Resolves when it ended, however; rejects when it could not be started. */
  readonly ended: Promise<Ended>
  readonly #child: ChildProcess
  readonly #inner: boolean
  readonly #watchers = new Set<() => void>()
  #stdout = ''
  #stderr = ''
  #over = false

  /** @param wrapper what goes before `argv` to enter a host; `nsenter` puts a process of its own between. */
  constructor(argv: readonly string[], options: ExecOptions = {}, wrapper: readonly string[] = []) {
    this.argv = argv
    this.#inner = wrapper.length > 0
    const [command = '', ...args] = [...wrapper, ...argv]
    this.#child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...baseEnvironment, ...options.env },
      ...(options.signal ? { signal: options.signal, killSignal: 'SIGKILL' } : {}),
    })
    const { stdin, stdout, stderr } = this.#child
    stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text
      this.#changed()
    })
    stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text
      this.#changed()
    })
    // A program may end without having read its input; its status says what went wrong, not our EPIPE.
    stdin?.on('error', () => {})
    stdin?.end(options.input ?? '')
    this.ended = new Promise((resolve, reject) => {
      this.#child.on('error', (cause: NodeJS.ErrnoException) => {
        this.#over = true
        this.#changed()
        reject(
          cause.code === 'ENOENT' ? new Error(`the program "${command}" is not installed`, { cause }) : cause,
        )
      })
      this.#child.on('close', (status) => {
        this.#over = true
        this.#changed()
        resolve({ status, stdout: this.#stdout, stderr: this.#stderr })
      })
    })
    // Whoever started it may never ask how it ended.
    this.ended.catch(() => {})
  }

  /** Everything it has said so far. */
  get stdout(): string {
    return this.#stdout
  }

  get stderr(): string {
    return this.#stderr
  }

  get running(): boolean {
    return !this.#over
  }

  /** Its pid on this machine, not in its host. @throws Error when it has not begun or has ended. */
  get pid(): number {
    const pid = this.#child.pid
    if (pid === undefined || this.#over) throw new Error(`${this.argv.join(' ')} is not running`)
    if (!this.#inner) return pid
    const child = childrenOf(pid)[0]
    if (child === undefined) throw new Error(`${this.argv.join(' ')} is not running`)
    return child
  }

  /** Sends a signal to the program itself, not to what wraps it. Does nothing when it has ended. */
  kill(signal: NodeJS.Signals): void {
    if (this.#over) return
    try {
      process.kill(this.pid, signal)
    } catch {
      // Between the two it may have ended; and what wraps it must not stay behind.
      if (signal === 'SIGKILL') this.#child.kill(signal)
    }
  }

  /**
   * Waits until its output, both streams, fits `pattern`; gives the match.
   * @throws Error with what it did say when it ends first or `milliseconds` are up.
   */
  async says(pattern: RegExp, milliseconds: number): Promise<RegExpExecArray> {
    const deadline = AbortSignal.timeout(milliseconds)
    for (;;) {
      const found = pattern.exec(this.#stdout) ?? pattern.exec(this.#stderr)
      if (found !== null) return found
      if (this.#over || deadline.aborted) {
        const why = this.#over ? 'ended' : `did not within ${milliseconds} ms`
        throw new Error(
          `${this.argv.join(' ')} should have said ${String(pattern)} and ${why}: ${this.#tail()}`,
        )
      }
      await new Promise<void>((resolve) => {
        const wake = () => {
          this.#watchers.delete(wake)
          deadline.removeEventListener('abort', wake)
          resolve()
        }
        this.#watchers.add(wake)
        deadline.addEventListener('abort', wake)
      })
    }
  }

  /** Asks it to end (SIGTERM) and waits; kills it after `grace` milliseconds. */
  async stop(grace = 10_000): Promise<Ended> {
    this.kill('SIGTERM')
    const late = setTimeout(() => this.kill('SIGKILL'), grace)
    try {
      return await this.ended
    } finally {
      clearTimeout(late)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill('SIGKILL')
    await this.ended.catch(() => {})
  }

  #changed(): void {
    for (const wake of this.#watchers) wake()
  }

  #tail(): string {
    return `${this.#stdout}\n${this.#stderr}`.trim().split('\n').slice(-10).join('\n') || '(nothing)'
  }
}

/** The pids whose parent is `pid`. */
export function childrenOf(pid: number): readonly number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    return text.split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

/** Waits `milliseconds`: for a test that has to let time pass, or asks again until something is so. */
export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}

/** Asks every 50 ms until `question` gives something other than null; gives that. @throws Error naming `what`. */
export async function eventually<T>(
  what: string,
  milliseconds: number,
  question: () => Promise<T | null> | T | null,
): Promise<T> {
  const deadline = performance.now() + milliseconds
  for (;;) {
    const answer = await question()
    if (answer !== null) return answer
    if (performance.now() > deadline) throw new Error(`${what}: not within ${milliseconds} ms`)
    await pause(50)
  }
}

const DEFAULT_TIMEOUT = 60_000

const baseEnvironment: Readonly<Record<string, string>> = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/root',
  LC_ALL: 'C',
}
