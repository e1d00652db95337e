/**
 * `npm run bench -- NAME`: numbers, side by side with other implementations in the same run. Never a test: nothing here
 * passes or fails. Hosts are namespaces that end with this process, so an interrupted run leaves nothing behind.
 *
 * Exit status 0: measured; 1: not; 2: asked for something that there isn't.
 */
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { installed, requireLab } from '../lab/requirements.ts'
import { cacheFolder } from '../lab/root.ts'
import { contenders, names, type Name } from './contender.ts'
import { formatReport } from './table.ts'
import { measureThroughput } from './throughput.ts'

async function main(args: readonly string[]): Promise<number> {
  const asked = parse(args)
  switch (asked.tag) {
    case 'help':
      process.stdout.write(usage)
      return 0
    case 'refused':
      process.stderr.write(`${asked.why}\n`)
      return 2
    case 'throughput':
      try {
        return await (process.getuid?.() === 0 ? throughput(asked) : again(args, asked))
      } catch (error) {
        process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
        return 1
      }
  }
}

interface Throughput {
  readonly tag: 'throughput'
  readonly format: 'table' | 'json'
  readonly rounds: number
  readonly seconds: number
  readonly only: readonly Name[]
}

async function throughput({ format, rounds, seconds, only }: Throughput): Promise<number> {
  await requireLab()
  if (!installed('iperf3')) throw new Error('iperf3 is not installed: apt-get install iperf3')
  const say = (line: string) => process.stderr.write(`${line}\n`)
  const { here, absent } = await contenders(only)
  for (const why of absent) say(`left out: ${why}`)
  if (here.length === 0) throw new Error('there is nobody to measure')
  const measured = await measureThroughput(here, { rounds, seconds, onProgress: say })
  const report = { ...measured, remarks: [...absent.map((why) => `left out: ${why}`), ...measured.remarks] }
  process.stdout.write(format === 'json' ? `${JSON.stringify(report, null, 2)}\n` : formatReport(report))
  return report.contenders.some(({ samples }) => samples.length === 0) ? 1 : 0
}

/** Builds the peers with the caller's own compilers, then does the same again as root. */
async function again(args: readonly string[], { only }: Throughput): Promise<number> {
  if (!installed('sudo')) {
    throw new Error(
      'the benchmark makes network namespaces and needs root, and there is no sudo: run it as root',
    )
  }
  await contenders(only)
  const environment = ['env', `CULVERT_CACHE=${cacheFolder()}`]
  const argv = ['--', ...environment, process.execPath, import.meta.filename, ...args]
  return spawnSync('sudo', argv, { stdio: 'inherit' }).status ?? 1
}

type Asked = Throughput | { readonly tag: 'help' } | { readonly tag: 'refused'; readonly why: string }

function parse(args: readonly string[]): Asked {
  try {
    const { values, positionals } = parseArgs({ args: [...args], allowPositionals: true, options })
    if (values.help) return { tag: 'help' }
    const [name, ...others] = positionals
    if (name !== 'throughput' || others.length > 0) {
      return { tag: 'refused', why: `bench: name one thing to measure: throughput\n\n${usage.trimEnd()}` }
    }
    return {
      tag: name,
      format: values.json ? 'json' : 'table',
      rounds: parseCount('--rounds', values.rounds),
      seconds: parseCount('--seconds', values.seconds),
      only: values.only === undefined ? names : values.only.split(',').map(parseName),
    }
  } catch (error) {
    return { tag: 'refused', why: `bench: ${error instanceof Error ? error.message : String(error)}` }
  }
}

function parseCount(option: string, text: string): number {
  const count = /^\d{1,4}$/.test(text) ? Number(text) : 0
  if (count === 0) throw new Error(`${option} ${text}: expected a whole number from 1 to 9999`)
  return count
}

function parseName(text: string): Name {
  const name = names.find((name) => name === text.trim())
  if (name === undefined) throw new Error(`--only ${text}: expected some of ${names.join(', ')}`)
  return name
}

const options = {
  help: { type: 'boolean', short: 'h', default: false },
  json: { type: 'boolean', default: false },
  rounds: { type: 'string', default: '5' },
  seconds: { type: 'string', default: '5' },
  only: { type: 'string' },
} as const

const usage = `usage: npm run bench -- throughput [options]

Measures Culvert, wireguard-go, boringtun and OpenVPN between two hosts on this machine, in turns.

  --rounds N     how often each is measured (5)
  --seconds S    how long one measurement lasts (5); a contender takes about 4 S + 5 s in a round
  --only A,B     some of: ${names.join(', ')}
  --json         the report as JSON, with every sample
`

process.exitCode = await main(process.argv.slice(2))
