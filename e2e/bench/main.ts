/**
 * `npm run bench -- NAME [--json] [--rounds N] [--seconds N]`: numbers, side by side with other implementations in the same run. Never a
 * test: nothing here passes or fails.
 */
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { installed } from '../lab/requirements.ts'
import { cacheFolder } from '../lab/root.ts'
import { peer } from '../peers.ts'
import { table } from './table.ts'
import { throughput } from './throughput.ts'

process.exitCode = await main(process.argv.slice(2))

async function main(args: readonly string[]): Promise<number> {
  const asked = parse(args)
  if (asked === null) {
    process.stderr.write('usage: npm run bench -- throughput [--json] [--rounds N] [--seconds N]\n')
    return 2
  }
  if (process.getuid?.() !== 0) return asRoot(args)
  if (!installed('iperf3')) {
    process.stderr.write('iperf3 is not installed: apt-get install iperf3\n')
    return 1
  }
  const report = await throughput(asked.plan, (line) => process.stderr.write(`${line}\n`))
  process.stdout.write(asked.json ? `${JSON.stringify(report, null, 2)}\n` : table(report))
  return 0
}

function parse(args: readonly string[]): { json: boolean; plan: { rounds: number; seconds: number } } | null {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        json: { type: 'boolean', default: false },
        rounds: { type: 'string', default: '3' },
        seconds: { type: 'string', default: '5' },
      },
    })
    const plan = { rounds: Number(values.rounds), seconds: Number(values.seconds) }
    const sound = Object.values(plan).every((value) => Number.isInteger(value) && value > 0)
    return positionals.length === 1 && positionals[0] === 'throughput' && sound
      ? { json: values.json, plan }
      : null
  } catch {
    return null
  }
}

/** Builds the peers with the caller's own compilers, then does the same again as root. */
async function asRoot(args: readonly string[]): Promise<number> {
  if (!installed('sudo')) {
    process.stderr.write(
      'the benchmark makes network namespaces and needs root, and there is no sudo: run it as root\n',
    )
    return 1
  }
  for (const name of ['wireguard-go', 'boringtun'] as const) await peer(name)
  const again = [
    '--',
    'env',
    `CULVERT_CACHE=${cacheFolder()}`,
    process.execPath,
    import.meta.filename,
    ...args,
  ]
  return spawnSync('sudo', again, { stdio: 'inherit' }).status ?? 1
}
