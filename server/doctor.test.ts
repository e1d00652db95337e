import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseCidr, parseIp } from '@culvert/tunnel/pure'
import { DEFAULT_PORT, formatConfig, parseConfig } from './config.ts'
import { diagnose, formatChecks, type Check } from './doctor.ts'
import type { Facts } from './facts.ts'
import { natTable } from './nat.ts'
import { serverAddresses } from './pool.ts'
import type { Status } from './status.ts'
import { MemoryTunnel } from './testing.ts'

const pool = { pool4: parseCidr('10.64.0.0/10'), pool6: parseCidr('fd00::/48') }
const endpoint = { host: '203.0.113.1', port: DEFAULT_PORT }
const config = parseConfig(formatConfig({ endpoint, ...pool, dnsZone: null, webHost: null }), 'config.toml')
const table = natTable({ ...config, addresses: serverAddresses(config) })

const status: Status = {
  version: '0.1.0',
  since: 0,
  uptime: 60,
  interface: 'culvert-srv',
  port: 51820,
  endpoint: '203.0.113.1:51820',
  addresses: [],
  offloads: [],
  devices: [],
  counters: new MemoryTunnel().counters(),
}

/** A server that runs and lacks nothing. */
const healthy: Facts = {
  config,
  privileged: true,
  tunDevice: 'present',
  dataplane: null,
  missingPrograms: [],
  status,
  forwarding: { ipv4: '1', ipv6: '1' },
  rules: Object.fromEntries(table.chains.map(({ name, rules }) => [name, rules.length])),
  port: 'taken',
  endpointAddresses: ['203.0.113.1'],
  ownAddresses: [parseIp('203.0.113.1')],
  loose: [],
  damage: [],
  clock: { now: Date.UTC(2027, 0, 1), latest: Date.UTC(2026, 11, 31) },
  advertised: [{ link: 'eth0', acceptRa: '2' }],
  closed: { forward: [], input: [] },
}

/** A machine on which the server does not run, and could. */
const stopped: Partial<Facts> = {
  status: null,
  rules: null,
  port: 'free',
  forwarding: { ipv4: '0', ipv6: '0' },
  dataplane: { offloads: ['tso', 'udp-gso'] },
  advertised: [{ link: 'eth0', acceptRa: '1' }],
}

describe('doctor', () => {
  it('finds nothing broken where nothing is', () => {
    assert.deepEqual(
      diagnose(healthy).map(({ name, verdict }) => `${verdict} ${name}`),
      [
        'config',
        'state',
        'clock',
        'privilege',
        'tun',
        'programs',
        'server',
        'forwarding',
        'forwarding',
        'firewall',
      ]
        .concat(['port', 'endpoint', 'ipv6'])
        .map((name) => `ok ${name}`),
    )
  })

  it('does not hold it against a machine that its server is stopped', () => {
    assert.deepEqual(
      diagnose({ ...healthy, ...stopped }).filter(({ verdict }) => verdict !== 'ok'),
      [
        {
          name: 'server',
          verdict: 'note',
          finding: 'is not running',
          fix: 'systemctl start culvert-server, or culvert-server run',
        },
      ],
    )
  })

  const faults: readonly (readonly [name: string, facts: Partial<Facts>, found: readonly string[]])[] = [
    [
      'a broken config',
      { config: { problem: 'c.toml: the key "endpoint" is missing' } },
      [
        'broken config: c.toml: the key "endpoint" is missing',
        'note firewall: the table could not be looked at',
      ],
    ],
    [
      'an ordinary user',
      { privileged: false },
      ['broken privilege: this does not run as root', 'note firewall: the table could not be looked at'],
    ],
    ['no TUN device', { tunDevice: 'missing' }, ['broken tun: /dev/net/tun is missing']],
    [
      'a TUN device that is refused',
      { tunDevice: 'refused' },
      ['broken tun: /dev/net/tun may not be opened'],
    ],
    [
      'no addon',
      { ...stopped, dataplane: { problem: 'the native part is not built: npm run setup' } },
      ['broken dataplane: the native part is not built: npm run setup', 'note server: is not running'],
    ],
    ['no nft', { missingPrograms: ['nft'] }, ['broken programs: "nft" is not installed']],
    [
      'IPv4 forwarding switched off',
      { forwarding: { ipv4: '0', ipv6: '1' } },
      ['broken forwarding: net.ipv4.ip_forward is 0: somebody switched it off since the start'],
    ],
    [
      'a kernel without IPv6',
      { forwarding: { ipv4: '1', ipv6: null } },
      ['note forwarding: this kernel has no IPv6'],
    ],
    ['a firewall that is gone', { rules: null }, ['broken firewall: the table inet culvert_server is gone']],
    [
      'a firewall that somebody changed',
      { rules: { ...healthy.rules, nat: 3, raw: 0 } },
      ['broken firewall: the table inet culvert_server was changed (raw, nat)'],
    ],
    [
      'a port that another program has',
      { ...stopped, port: 'taken' },
      ['note server: is not running', 'broken port: UDP 51820 is taken by another program'],
    ],
    [
      'a name that does not resolve',
      { endpointAddresses: { problem: 'the endpoint’s name a.b does not resolve (ENOTFOUND)' } },
      ['broken endpoint: the endpoint’s name a.b does not resolve (ENOTFOUND)'],
    ],
    [
      'a server behind NAT',
      { ownAddresses: [parseIp('192.168.1.2')] },
      ['note endpoint: 203.0.113.1: no interface here has 203.0.113.1'],
    ],
    [
      'a key that others may read',
      { loose: ['/s/private.key'] },
      ['broken state: /s/private.key may be read by others than root'],
    ],
    [
      'a damaged file',
      { damage: ['/s/registry.db is damaged'] },
      ['broken state: /s/registry.db is damaged'],
    ],
    [
      'a clock before this program',
      { clock: { now: 0, latest: 0 } },
      ['broken clock: says 1970-01-01T00:00:00.000Z, which is before what was recorded already'],
    ],
    [
      'a clock that was set back',
      { clock: { now: Date.UTC(2027, 0, 1), latest: Date.UTC(2027, 0, 2) } },
      ['broken clock: says 2027-01-01T00:00:00.000Z, which is before what was recorded already'],
    ],
    [
      'an IPv6 route that will go',
      { advertised: [{ link: 'eth0', acceptRa: '1' }] },
      [
        'broken ipv6: eth0 has its IPv6 default route by router advertisement, and a forwarding machine ignores them',
      ],
    ],
    [
      'firewalls of others',
      { closed: { forward: ['the chain ip filter FORWARD'], input: ['the chain ip filter INPUT'] } },
      [
        'note firewall: the chain ip filter FORWARD drops forwarded packets that it does not name',
        'note firewall: the chain ip filter INPUT drops incoming packets that it does not name',
      ],
    ],
  ]
  for (const [name, facts, found] of faults) {
    it(`finds ${name}`, () => {
      const checks = diagnose({ ...healthy, ...facts }).filter(({ verdict }) => verdict !== 'ok')
      assert.deepEqual(
        checks.map(({ name, verdict, finding }) => `${verdict} ${name}: ${finding}`),
        found,
      )
      assert.deepEqual(
        checks.filter(({ verdict, fix }) => verdict === 'broken' && fix === null),
        [],
      )
    })
  }

  it('writes a line for each check, and under it what to do', () => {
    const checks: readonly Check[] = [
      { name: 'tun', verdict: 'broken', finding: '/dev/net/tun is missing', fix: 'modprobe tun' },
      { name: 'programs', verdict: 'ok', finding: 'ip and nft are installed', fix: null },
    ]
    assert.equal(
      formatChecks(checks),
      `broken  tun       /dev/net/tun is missing
                  ▸ modprobe tun
ok      programs  ip and nft are installed

1 broken.
`,
    )
  })
})
