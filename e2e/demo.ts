/**
 * `npm run demo`: a client behind a filter, a server, a website; blocked, connected, open, and back. Everything that it prints it has just seen: the
 * commands are the real ones, run in hosts of the lab (lab.ts), and a real curl asks for the page.
 */
import { spawnSync } from 'node:child_process'
import { addresses, names, openLab } from './lab.ts'
import {
  addDevice,
  culvert,
  get,
  importConf,
  mustCulvert,
  startHelper,
  startServer,
  type Got,
} from './lab/culvert.ts'
import type { Host } from './lab/host.ts'
import { installed } from './lab/requirements.ts'
import { cacheFolder } from './lab/root.ts'
import { snapshot } from './lab/snapshot.ts'

const site = `http://${names.website}/`

/** Tells the story. Exit status 0: it went as it should. */
async function demo(): Promise<number> {
  say(picture)
  await using lab = await openLab()
  const before = await snapshot(lab.client)
  const blocked = await visit(lab.client, 'The client opens the website, and its provider answers instead:')

  say(`\nA friend's server, on an address that the filter does not know:`)
  command('culvert-server init --endpoint', names.server)
  command('culvert-server run &')
  await startServer(lab.server, names.server)
  command('culvert-server device add anna --wg-quick > anna.conf')
  const conf = await addDevice(lab.server, 'anna')

  say('\nThe client takes the profile and connects:')
  command('culvert-helper &')
  await startHelper(lab.client)
  command('culvert import anna.conf')
  await importConf(lab.client, lab.folder, 'anna', conf)
  command('culvert connect --wait 10')
  const began = performance.now()
  await mustCulvert(lab.client, ['connect', '--wait', '10'])
  say(`  connected in ${Math.round(performance.now() - began)} ms`)
  command('culvert status')
  say(indent((await culvert(lab.client, ['status'])).stdout))

  const open = await visit(lab.client, '\nThe same program opens the same website:')
  const answers = { [addresses.server.v4]: 'IPv4', [addresses.server.v6]: 'IPv6' }
  if (open.you !== null && open.you in answers)
    say(`  The website saw ${open.you}: the server's address, not the client's.`)
  const size = 100_000_000
  const speed = await lab.client.run([
    'curl',
    '-s',
    '-o',
    '/dev/null',
    '-w',
    '%{speed_download}',
    `${site}bytes/${size}`,
  ])
  say(`  ${size / 1e6} MB came through the tunnel at ${((Number(speed) * 8) / 1e9).toFixed(2)} Gbit/s.`)

  say('')
  command('culvert disconnect --wait 10')
  await mustCulvert(lab.client, ['disconnect', '--wait', '10'])
  const again = await visit(lab.client, 'And without the tunnel:')
  const after = await snapshot(lab.client)
  const changed = Object.keys(before).filter((part) => before[part] !== after[part])
  say(
    changed.length === 0
      ? '\nLinks, addresses, routes, rules, sysctls and firewall of the client are byte for byte what they were.'
      : `\nThe client is not what it was: ${changed.join(', ')}.`,
  )
  const right = blocked.status === 403 && open.status === 200 && again.status === 403 && changed.length === 0
  say(right ? 'That is what Culvert is for.' : 'That is not what Culvert should have done.')
  return right ? 0 : 1
}

async function visit(client: Host, words: string): Promise<Got> {
  say(words)
  say(`  client$ curl ${site}`)
  const got = await get(client, site)
  say(`  ${got.status}${meanings[got.status] ?? ''}`)
  return got
}

function command(...words: readonly string[]): void {
  say(`  $ ${words.join(' ')}`)
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

function indent(text: string): string {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => `    ${line}`)
    .join('\n')
}

/** The lab needs root. By its absolute path: sudo's PATH has another Node, or none. */
function asRoot(): number {
  if (!installed('sudo')) {
    process.stderr.write(
      'The demo makes network namespaces and needs root, and there is no sudo: run it as root.\n',
    )
    return 1
  }
  const again = ['--', 'env', `CULVERT_CACHE=${cacheFolder()}`, process.execPath, import.meta.filename]
  return spawnSync('sudo', again, { stdio: 'inherit' }).status ?? 1
}

const meanings: Readonly<Record<number, string>> = {
  0: ' (no answer)',
  200: ' OK',
  403: ' Forbidden: blocked',
}

const picture = `
  client ───── provider ───── internet ───── website   ${names.website}, ${addresses.website.v4}
  ${addresses.client.v4}   filters      │
                               └────── server    ${names.server}, ${addresses.server.v4}

  Each is a host of its own on this machine, in namespaces that end with this command. IPv6 is everywhere.
`

try {
  process.exitCode = process.getuid?.() === 0 ? await demo() : asRoot()
} catch (error) {
  // Whatever is missing says so in one sentence.
  process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
