/**
 * `npm run check`: types, lint and the import law, format, and the same for Rust. All at once; only what fails speaks.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

interface Check {
  readonly name: string
  readonly argv: readonly [string, ...string[]]
  /** Said, and passed over, when the program is not on the machine; null: it comes with npm ci. */
  readonly without: string | null
}

const root = join(import.meta.dirname, '..')
const bin = (name: string) => join(root, 'node_modules', '.bin', name)
const manifest = ['--manifest-path', join(root, 'tunnel/native/Cargo.toml')] as const

const checks: readonly Check[] = [
  { name: 'types', argv: [process.execPath, bin('tsc'), '-p', root, '--noEmit'], without: null },
  { name: 'lint', argv: [process.execPath, bin('oxlint'), '--type-aware', root], without: null },
  {
    name: 'format',
    argv: [process.execPath, bin('prettier'), '--check', '--log-level', 'warn', root],
    without: null,
  },
  {
    name: 'rustfmt',
    argv: [cargo(), 'fmt', '--check', ...manifest],
    without:
      'rustfmt is not installed, so the format of the Rust code was not checked (rustup component add rustfmt)',
  },
  {
    name: 'clippy',
    argv: [cargo(), 'clippy', '--quiet', '--locked', '--all-targets', ...manifest, '--', '-D', 'warnings'],
    without: 'clippy is not installed, so the Rust code was not linted (rustup component add clippy)',
  },
]

const outcomes = await Promise.all(checks.map(outcome))
let failed = 0
for (const [i, { status, output }] of outcomes.entries()) {
  const check = checks[i]
  if (check === undefined || status === 0) continue
  const absent = check.without !== null && /no such command|is not installed|ENOENT/.test(output)
  if (absent && process.env['CI'] === undefined) {
    console.error(`skipped ${check.name}: ${check.without}`)
    continue
  }
  failed++
  console.error(`\n${check.name} failed:\n${output.trimEnd()}`)
}
if (failed === 0) console.log(`check: ${checks.map(({ name }) => name).join(', ')}: clean`)
process.exitCode = failed === 0 ? 0 : 1

function outcome({ argv: [command, ...args] }: Check): Promise<{ status: number; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.on('error', (error) => resolve({ status: 1, output: String(error) }))
    child.on('close', (status) => resolve({ status: status ?? 1, output }))
  })
}

/** rustup's cargo before the system's: Debian's has no clippy. */
function cargo(): string {
  const rustup = join(homedir(), '.cargo', 'bin', 'cargo')
  return existsSync(rustup) ? rustup : 'cargo'
}
