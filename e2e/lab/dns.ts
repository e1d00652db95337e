/**
 * Names in the lab. One unbound answers for the root zone and everything under it, on the internet's router; another, the ISP's
 * recursive resolver, begins at that root and is what the client's /etc/resolv.conf names.
 */
import type { Host } from './host.ts'
import type { Program } from './program.ts'

/** Starts the authority for a zone that holds every name of the lab. */
export async function startAuthority(
  host: Host,
  listen: readonly string[],
  names: Readonly<Record<string, readonly string[]>>,
): Promise<Program> {
  const soa = '. 60 IN SOA a.root. hostmaster.root. 1 3600 600 86400 60'
  const records = [soa, '. 60 IN NS a.root.', ...listen.map((address) => record('a.root', address))]
  for (const [name, addresses] of Object.entries(names)) {
    for (const address of addresses) records.push(record(name, address))
  }
  await host.write(`${FOLDER}/root.zone`, `${records.join('\n')}\n`)
  return start(host, [
    ...server(listen),
    'auth-zone:',
    '  name: "."',
    `  zonefile: "${FOLDER}/root.zone"`,
    '  for-downstream: yes',
    '  for-upstream: yes',
    '  fallback-enabled: no',
  ])
}

/** Starts a recursive resolver that begins at the authority. */
export async function startResolver(
  host: Host,
  listen: readonly string[],
  authority: readonly string[],
): Promise<Program> {
  const hints = ['. 60 IN NS a.root.', ...authority.map((address) => record('a.root', address))]
  await host.write(`${FOLDER}/root.hints`, `${hints.join('\n')}\n`)
  return start(host, [...server(listen), `  root-hints: "${FOLDER}/root.hints"`, '  log-queries: yes'])
}

function server(listen: readonly string[]): readonly string[] {
  return [
    'server:',
    ...['127.0.0.1', ...listen].map((address) => `  interface: ${address}`),
    '  access-control: 0.0.0.0/0 allow',
    '  access-control: ::/0 allow',
    '  module-config: "iterator"', // the lab signs nothing
    '  do-daemonize: no',
    '  use-syslog: no',
    '  logfile: ""',
    '  verbosity: 1',
    '  username: ""',
    '  chroot: ""',
    '  pidfile: ""',
    '  num-threads: 1',
    '  do-not-query-localhost: no',
    // Names that Debian's unbound answers by itself (RFC 6761) belong to the lab's zone.
    ...['test.', 'example.org.', 'example.net.'].map((zone) => `  local-zone: "${zone}" nodefault`),
  ]
}

async function start(host: Host, lines: readonly string[]): Promise<Program> {
  await host.write(`${FOLDER}/unbound.conf`, `${lines.join('\n')}\n`)
  const program = host.start(['unbound', '-d', '-c', `${FOLDER}/unbound.conf`])
  await program.says(/start of service/, 10_000)
  return program
}

function record(name: string, address: string): string {
  return `${name}. 60 IN ${address.includes(':') ? 'AAAA' : 'A'} ${address}`
}

const FOLDER = '/run/unbound'
