/**
 * The lab: an internet of nine hosts on one machine.
 *
 *   neighbour ─┐ .3                          .2/.3 ┌──────────┐ .1            .2
 *   client ────┴── br-lan ─ isp ──────── wan ──────┤ internet ├────────────────── website
 *       .2        .1         │                     └────┬─────┘
 *                            │ .129                     │ .1
 *                        resolver .130                  └──────── server ──────── office
 *                                                              .2        .1    .2
 *
 *   LAN           192.168.77.0/24    2001:db8:1:77::/64   home: NAT44 at the ISP, global IPv6
 *   ISP           192.0.2.0/25       2001:db8:1::/64
 *   ISP's servers 192.0.2.128/25     2001:db8:1:53::/64   the recursive resolver
 *   server        198.51.100.0/24    2001:db8:2::/64      its IPv6 default route comes by router advertisement
 *   office        10.99.0.0/24       fd99::/64            a private network behind the server, nobody's business
 *   website       203.0.113.0/24     2001:db8:3::/64
 *
 * The ISP answers for the website: TCP port 80 is redirected to a page of its own with status 403, port 443 is reset. Everything else it
 * carries. The upper half of the LAN, from .128 on, leaves the ISP's NAT as 192.0.2.3 instead of 192.0.2.2: a client that moves there has roamed.
 */
import { existsSync, readdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { startAuthority, startResolver } from './lab/dns.ts'
import { FOLDER_PREFIX, Host, join, labFolder } from './lab/host.ts'
import { eventually, type Program } from './lab/program.ts'
import { requireLab } from './lab/requirements.ts'
import { labRoot, services } from './lab/root.ts'
import { siteReady } from './lab/website.ts'

/** Who has which address. */
export const addresses = {
  client: { v4: '192.168.77.2', v6: '2001:db8:1:77::2' },
  neighbour: { v4: '192.168.77.3', v6: '2001:db8:1:77::3' },
  gateway: { v4: '192.168.77.1', v6: '2001:db8:1:77::1' },
  /** What the world sees of the client's IPv4, at home and roamed. */
  isp: { v4: '192.0.2.2', v6: '2001:db8:1::2' },
  ispOther: { v4: '192.0.2.3' },
  resolver: { v4: '192.0.2.130', v6: '2001:db8:1:53::53' },
  internet: { v4: '203.0.113.1', v6: '2001:db8:3::1' },
  server: { v4: '198.51.100.2', v6: '2001:db8:2::2' },
  serverOffice: { v4: '10.99.0.1', v6: 'fd99::1' },
  office: { v4: '10.99.0.2', v6: 'fd99::2' },
  website: { v4: '203.0.113.2', v6: '2001:db8:3::2' },
} as const

/** Names that the lab's DNS knows. */
export const names = { website: 'www.example.org', server: 'vpn.example.net' } as const

/** A running lab. Disposing of it ends every host and removes its files. */
export interface Lab extends AsyncDisposable {
  readonly client: Host
  readonly neighbour: Host
  readonly isp: Host
  readonly resolver: Host
  readonly internet: Host
  readonly server: Host
  readonly office: Host
  readonly website: Host
  /** The website's log: a line for each request. */
  readonly site: Program
  /** The resolver's log: a line for each question. */
  readonly dns: Program
  /** A folder that every host sees under the same path. */
  readonly folder: string
  /** Adds a computer to the client's LAN with host number `number`, below 128. */
  addToLan(name: string, number: number): Promise<Host>
}

/**
 * Opens the lab.
 * @throws Error with one sentence for each thing that is missing.
 */
export async function openLab(): Promise<Lab> {
  await requireLab()
  await removeLeftovers()
  const root = await labRoot(services)
  await using stack = new AsyncDisposableStack()
  const host = async (name: string, of: string | null = null) => stack.use(await Host.open(name, of))
  const [client, neighbour, isp, resolver, internet, server, office, website] = await Promise.all([
    host('client'),
    host('neighbour'),
    host('isp'),
    host('resolver', root),
    host('internet', root),
    host('server'),
    host('office'),
    host('website'),
  ])
  await Promise.all([beRouter(isp), beRouter(internet)])
  // Router advertisements have to be welcome before the link is up.
  await server.sysctl({ 'net.ipv6.conf.default.accept_ra': 1 })
  // With an address of its own: else it takes the lowest of its ports', and changes it under everybody when one is added.
  await isp.ip('link add br-lan address 02:00:5e:00:53:01 type bridge forward_delay 0', 'link set br-lan up')
  const lan = (computer: Host, number: number) => joinLan(isp, computer, number)
  await lan(client, 2)
  await lan(neighbour, 3)
  await isp.ip('address add 192.168.77.1/24 dev br-lan', 'address add 2001:db8:1:77::1/64 dev br-lan nodad')
  await join(
    { host: isp, name: 'servers', addresses: ['192.0.2.129/25', '2001:db8:1:53::1/64'] },
    { host: resolver, name: 'eth0', addresses: ['192.0.2.130/25', '2001:db8:1:53::53/64'] },
  )
  await join(
    { host: isp, name: 'wan', addresses: ['192.0.2.2/25', '192.0.2.3/25', '2001:db8:1::2/64'] },
    { host: internet, name: 'isp', addresses: ['192.0.2.1/25', '2001:db8:1::1/64'] },
  )
  await join(
    { host: internet, name: 'server', addresses: ['198.51.100.1/24', '2001:db8:2::1/64'] },
    { host: server, name: 'eth0', addresses: ['198.51.100.2/24', '2001:db8:2::2/64'] },
  )
  await join(
    { host: internet, name: 'website', addresses: ['203.0.113.1/24', '2001:db8:3::1/64'] },
    { host: website, name: 'eth0', addresses: ['203.0.113.2/24', '2001:db8:3::2/64'] },
  )
  await join(
    { host: server, name: 'office', addresses: ['10.99.0.1/24', 'fd99::1/64'] },
    { host: office, name: 'eth0', addresses: ['10.99.0.2/24', 'fd99::2/64'] },
  )
  const via = (gateway: string, destination = 'default') => `route add ${destination} via ${gateway}`
  await Promise.all([
    isp.ip(via('192.0.2.1'), via('2001:db8:1::1')),
    resolver.ip(via('192.0.2.129'), via('2001:db8:1:53::1')),
    internet.ip(
      via('192.0.2.2', '192.0.2.128/25'),
      via('2001:db8:1::2', '2001:db8:1:77::/64'),
      via('2001:db8:1::2', '2001:db8:1:53::/64'),
    ),
    server.ip(via('198.51.100.1')),
    office.ip(via('10.99.0.1'), via('fd99::1')),
    website.ip(via('203.0.113.1'), via('2001:db8:3::1')),
    isp.nft(censor),
    useResolver(server),
  ])
  const [site, dns] = await Promise.all([
    startSite(website, 'open'),
    startResolver(resolver, Object.values(addresses.resolver), Object.values(addresses.internet)),
    startSite(isp, 'blocked'),
    startAuthority(internet, Object.values(addresses.internet), {
      [names.website]: Object.values(addresses.website),
      [names.server]: Object.values(addresses.server),
    }),
    advertise(internet),
  ])
  await eventually('a router advertisement to reach the server', 15_000, async () =>
    (await server.run(['ip', '-6', 'route', 'show', 'default'])).includes('proto ra') ? true : null,
  )
  const folder = labFolder()
  stack.defer(() => rm(folder, { recursive: true, force: true }))
  const open = stack.move()
  return {
    client,
    neighbour,
    isp,
    resolver,
    internet,
    server,
    office,
    website,
    site,
    dns,
    folder,
    addToLan: async (name, number) => {
      const computer = open.use(await Host.open(name))
      await lan(computer, number)
      return computer
    },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

/** Starts the website, or the ISP's page in its place, on a host. */
export async function startSite(host: Host, mode: 'open' | 'blocked'): Promise<Program> {
  const program = host.start([process.execPath, fileURLToPath(import.meta.resolve('./lab/website.ts')), mode])
  await program.says(siteReady, 15_000)
  return program
}

/** Joins a computer to the LAN, with addresses, default routes and the ISP's resolver. */
async function joinLan(isp: Host, computer: Host, number: number): Promise<void> {
  const own = [`192.168.77.${number}/24`, `2001:db8:1:77::${number}/64`]
  const port = `lan${number}`
  await join({ host: isp, name: port, addresses: [] }, { host: computer, name: 'eth0', addresses: own })
  await isp.ip(`link set ${port} master br-lan`)
  await computer.ip('route add default via 192.168.77.1', 'route add default via 2001:db8:1:77::1')
  await useResolver(computer)
}

/** Takes a computer of the LAN to host number `number`, as if it had joined another network: old addresses and routes are gone. */
export async function roam(computer: Host, from: number, number: number): Promise<void> {
  await computer.ip(
    `address delete 192.168.77.${from}/24 dev eth0`,
    `address delete 2001:db8:1:77::${from}/64 dev eth0`,
    `address add 192.168.77.${number}/24 dev eth0`,
    `address add 2001:db8:1:77::${number}/64 dev eth0 nodad`,
    'route replace default via 192.168.77.1',
    'route replace default via 2001:db8:1:77::1',
  )
}

async function useResolver(host: Host): Promise<void> {
  // The machine's own may be a link into /run, which a host has empty.
  await host.run(['rm', '-f', '/etc/resolv.conf'])
  await host.write('/etc/resolv.conf', `nameserver ${addresses.resolver.v4}\n`)
}

async function beRouter(host: Host): Promise<void> {
  await host.sysctl({ 'net.ipv4.ip_forward': 1, 'net.ipv6.conf.all.forwarding': 1 })
}

/** Advertises the internet's router on the server's link, as the router of a hosting company does. */
async function advertise(internet: Host): Promise<void> {
  const config =
    'interface server { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 9000; };'
  await internet.write('/run/radvd.conf', `${config}\n`)
  internet.start([
    'radvd',
    '--nodaemon',
    '--logmethod',
    'stderr',
    '--config',
    '/run/radvd.conf',
    '--pidfile',
    '/run/radvd.pid',
  ])
}

/** Files of a lab whose process was killed. Its hosts went with it. */
async function removeLeftovers(): Promise<void> {
  const [folder, prefix] = [FOLDER_PREFIX.slice(0, FOLDER_PREFIX.lastIndexOf('/')), FOLDER_PREFIX]
  for (const name of readdirSync(folder).map((entry) => `${folder}/${entry}`)) {
    if (!name.startsWith(prefix) || existsSync(`/proc/${name.slice(prefix.length)}`)) continue
    await rm(name, { recursive: true, force: true })
  }
}

/** What the ISP does to what passes through it. */
const censor = `
table inet censor {
  set website4 { type ipv4_addr; elements = { ${addresses.website.v4} } }
  set website6 { type ipv6_addr; elements = { ${addresses.website.v6} } }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "br-lan" ip daddr @website4 tcp dport 80 redirect to :8403
    iifname "br-lan" ip6 daddr @website6 tcp dport 80 redirect to :8403
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "br-lan" ip daddr @website4 tcp dport 443 reject with tcp reset
    iifname "br-lan" ip6 daddr @website6 tcp dport 443 reject with tcp reset
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "wan" ip saddr 192.168.77.128/25 snat ip to ${addresses.ispOther.v4}
    oifname "wan" ip saddr 192.168.77.0/24 snat ip to ${addresses.isp.v4}
  }
}
`
