/**
 * `npm test`: every suite in order, each under its own cap; then one line that says how many tests passed. Static checks and unit tests run as
 * the caller, the lab as root. `--long` adds what takes too long for every day: long fuzzing and the benchmark's tables.
 *
 * Exit status 0: everything that ran passed, and something ran.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { installed } from './lab/requirements.ts'
import { cacheFolder } from './lab/root.ts'
import { peer } from './peers.ts'
import type { Totals } from './report.ts'

interface Suite {
  readonly name: string
  readonly argv: readonly string[]
  /** Minutes after which it has failed. */
  readonly cap: number
  readonly as: 'caller' | 'root'
  /** How its output becomes totals: from node:test's report, from cargo's words, or from its exit status alone. */
  readonly counts: 'node' | 'cargo' | 'status'
}

const root = join(import.meta.dirname, '..')
const long = process.argv.includes('--long')

const suites: readonly Suite[] = [
  { name: 'check', argv: node('build/check.ts'), cap: 10, as: 'caller', counts: 'status' },
  {
    name: 'Rust unit tests',
    argv: [cargo(), 'test', '--quiet', '--locked', '--manifest-path', join(root, 'tunnel/native/Cargo.toml')],
    cap: 15,
    as: 'caller',
    counts: 'cargo',
  },
  {
    name: 'unit tests',
    argv: tests('tunnel/**', 'helper/**', 'server/**', 'build/**', 'app/**', 'e2e/peers/**', 'e2e/bench/**'),
    cap: 10,
    as: 'caller',
    counts: 'node',
  },
  {
    name: 'lab',
    argv: [...tests('e2e/lab/**'), '--test-concurrency=1'],
    cap: long ? 90 : 30,
    as: 'root',
    counts: 'node',
  },
  ...(long
    ? [
        {
          name: 'benchmark',
          argv: node('e2e/bench/main.ts', 'throughput'),
          cap: 60,
          as: 'root',
          counts: 'status',
        } as const,
      ]
    : []),
]

async function main(reports: string): Promise<number> {
  await buildPeers()
  const totals = { passed: 0, failed: 0, skipped: 0 }
  const failures: string[] = []
  for (const suite of suites) {
    const began = performance.now()
    process.stdout.write(`\n── ${suite.name} ──\n`)
    const { passed, failed, skipped, why } = await outcome(suite, reports)
    totals.passed += passed
    totals.failed += failed
    totals.skipped += skipped
    if (why !== null) failures.push(`${suite.name}: ${why}`)
    process.stdout.write(
      `${suite.name}: ${passed} passed in ${((performance.now() - began) / 1000).toFixed(0)} s\n`,
    )
  }
  const line = `${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`
  process.stdout.write(`\n${failures.map((failure) => `failed: ${failure}\n`).join('')}${line}\n`)
  return totals.failed === 0 && totals.passed > 0 ? 0 : 1
}

/** As the caller, whose Go and cargo they are built with; the lab only runs them. */
async function buildPeers(): Promise<void> {
  for (const name of ['wireguard-go', 'boringtun'] as const) {
    const found = await peer(name)
    if (found.tag === 'absent') process.stderr.write(`${found.why}: what needs it is left out\n`)
  }
}

/** Runs a suite; `why` is the sentence for the end, null when nothing failed. */
async function outcome(suite: Suite, reports: string): Promise<Totals & { readonly why: string | null }> {
  const privilege = suite.as === 'root' ? asRoot() : []
  if (privilege === null) {
    return { passed: 0, failed: 1, skipped: 0, why: 'it needs root, and there is no sudo: run it as root' }
  }
  const report = join(reports, `${suite.name.replaceAll(' ', '-')}.json`)
  const reporters = `--test-reporter=spec --test-reporter-destination=stdout --test-reporter=${join(root, 'e2e/report.ts')}`
  const reporting =
    suite.counts === 'node' ? [...reporters.split(' '), `--test-reporter-destination=${report}`] : []
  const [program = '', ...args] = suite.argv
  // timeout(1) makes a process group of what it runs, and ends it whole.
  const limit = ['timeout', '--kill-after=10', `${suite.cap * 60}`]
  const { status, output } = await watch(
    [...privilege, ...limit, program, ...reporting, ...args],
    suite.counts,
  )
  const late = status === 124 || status === 137 ? `it was not done after ${suite.cap} minutes` : null
  const counted = await totalsOf(suite, status, output, report)
  // A suite that failed to begin, or was ended, has no failed test to count.
  const failed = counted.failed === 0 && status !== 0 ? 1 : counted.failed
  return { ...counted, failed, why: late ?? (failed > 0 ? `${failed} failed` : null) }
}

async function totalsOf(suite: Suite, status: number, output: string, report: string): Promise<Totals> {
  switch (suite.counts) {
    case 'status':
      return { passed: status === 0 ? 1 : 0, failed: status === 0 ? 0 : 1, skipped: 0 }
    case 'cargo': {
      const totals = { passed: 0, failed: 0, skipped: 0 }
      for (const [, ...counts] of output.matchAll(
        /test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/g,
      )) {
        const [passed = 0, failed = 0, skipped = 0] = counts.map(Number)
        totals.passed += passed
        totals.failed += failed
        totals.skipped += skipped
      }
      return totals
    }
    case 'node': {
      const text = await readFile(report, 'utf8').catch(() => '')
      if (text.trim() === '') return { passed: 0, failed: 1, skipped: 0 }
      // Our own reporter wrote it.
      return JSON.parse(text) as Totals
    }
  }
}

/** Runs a command in front of the caller. cargo's words are kept, and shown at the end. */
function watch(
  argv: readonly string[],
  counts: Suite['counts'],
): Promise<{ status: number; output: string }> {
  const [program = '', ...args] = argv
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd: root,
      stdio: ['inherit', counts === 'cargo' ? 'pipe' : 'inherit', 'inherit'],
      env: { ...process.env, ...environment },
    })
    let output = ''
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      output += text
      process.stdout.write(text)
    })
    const interrupt = () => child.kill('SIGINT')
    process.once('SIGINT', interrupt)
    const finish = (status: number) => {
      process.removeListener('SIGINT', interrupt)
      resolve({ status, output })
    }
    child.on('error', (error) => {
      process.stderr.write(`${program}: ${error.message}\n`)
      finish(1)
    })
    child.on('close', (status) => finish(status ?? 1))
  })
}

/** What goes before a command that needs root: nothing for root; null: it cannot be had. sudo keeps no environment. */
function asRoot(): readonly string[] | null {
  if (process.getuid?.() === 0) return []
  if (!installed('sudo')) return null
  const kept = { ...environment, ...(process.env['CI'] === undefined ? {} : { CI: process.env['CI'] }) }
  return ['sudo', '--', 'env', ...Object.entries(kept).map(([name, value]) => `${name}=${value}`)]
}

/** This process's own Node by its absolute path: sudo's PATH has another, older one. */
function node(script: string, ...args: readonly string[]): readonly string[] {
  return [process.execPath, join(root, script), ...args]
}

function tests(...folders: readonly string[]): readonly string[] {
  return [process.execPath, '--test', ...folders.map((folder) => `${folder}/*.test.ts`)]
}

/** rustup's cargo before the system's, which is usually older. */
function cargo(): string {
  const rustup = join(homedir(), '.cargo/bin/cargo')
  return existsSync(rustup) ? rustup : 'cargo'
}

const environment: Readonly<Record<string, string>> = {
  CULVERT_CACHE: cacheFolder(),
  ...(long ? { CULVERT_LONG: '1' } : {}),
}

const reports = await mkdtemp(join(tmpdir(), 'culvert-test-'))
try {
  process.exitCode = await main(reports)
} finally {
  await rm(reports, { recursive: true, force: true })
}
