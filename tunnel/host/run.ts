/**
 * Runs the system's commands: argv arrays, never a shell; what they say on stderr becomes the error.
 */
import { spawn } from 'node:child_process'
import { TunnelError } from '../error.ts'

export interface RunOptions {
  /** Written to the command's standard input. */
  readonly input?: string
  readonly signal?: AbortSignal
}

/** Runs a command and gives its standard output. The one way in which this code starts another program. */
export type Run = (argv: readonly [string, ...string[]], options?: RunOptions) => Promise<string>

/**
 * Runs `argv` and resolves to its standard output.
 * @throws TunnelError `command-missing` when there is no such program, `no-privilege` when the kernel refused,
 *   `command-failed` with what the command said otherwise.
 */
export const run: Run = (argv, options = {}) => {
  const [command, ...args] = argv
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { PATH: SYSTEM_PATH, LC_ALL: 'C' },
      ...(options.signal ? { signal: options.signal } : {}),
    })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    // A command may exit without reading its input; its exit status says what went wrong, not our EPIPE.
    child.stdin.on('error', () => {})
    child.stdin.end(options.input ?? '')
    child.on('error', (cause: NodeJS.ErrnoException) => {
      if (cause.code === 'ENOENT') {
        reject(
          new TunnelError('command-missing', `the program "${command}" is not installed`, {
            cause,
          }),
        )
      } else {
        reject(cause)
      }
    })
    child.on('close', (status, signal) => {
      if (status === 0) return resolve(stdout)
      const said = stderr.trim().split('\n').slice(0, 5).join('; ') || `exit status ${status ?? signal}`
      const code = /operation not permitted|permission denied/i.test(said) ? 'no-privilege' : 'command-failed'
      reject(new TunnelError(code, `${[command, ...args].join(' ')}: ${said}`))
    })
  })
}

/** Not the caller's PATH: a privileged process must not look for programs where somebody else points it. */
const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
