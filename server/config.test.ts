import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseCidr, parseEndpoint, parsePort } from '@culvert/tunnel/pure'
import { DEFAULT_PORT, formatConfig, parseConfig, startOnlyChanges } from './config.ts'

const choices = {
  endpoint: parseEndpoint('vpn.example.org', DEFAULT_PORT),
  pool4: parseCidr('10.64.0.0/10'),
  pool6: parseCidr('fd12:3456:789a::/48'),
  dnsZone: null,
  webHost: null,
}
const text = formatConfig(choices)
const least = `endpoint = "192.0.2.1"\npool4 = "10.0.0.0/24"\npool6 = "fd00::/64"\n`

describe('config.toml', () => {
  it('that init writes says what init was told, and the defaults', () => {
    assert.deepEqual(parseConfig(text, 'config.toml'), {
      endpoint: { host: 'vpn.example.org', port: 51820 },
      port: 51820,
      interfaceName: 'culvert-srv',
      pool4: '10.64.0.0/10',
      pool6: 'fd12:3456:789a::/48',
      dns: ['9.9.9.9', '1.1.1.1', '2620:fe::fe'],
      mtu: 1420,
      gso: 'auto',
      allowPrivate: [],
      allowClients: false,
      registry: 'sqlite',
      logLevel: 'info',
      carriers: { dnsZone: null, webHost: null },
    })
  })

  it('may leave out every key that has a default', () => {
    assert.deepEqual(
      { ...parseConfig(text, 'a'), endpoint: null, pool4: null, pool6: null },
      { ...parseConfig(least, 'b'), endpoint: null, pool4: null, pool6: null },
    )
  })

  it('keeps an IPv6 endpoint, its port and the carriers', () => {
    const endpoint = parseEndpoint('[2001:db8::1]:443')
    const written = formatConfig({ ...choices, endpoint, dnsZone: 't.example.org', webHost: '2001:db8::1' })
    const { carriers, port, ...config } = parseConfig(written, 'config.toml')
    assert.deepEqual(
      { carriers, port, endpoint: config.endpoint },
      { carriers: { dnsZone: 't.example.org', webHost: '2001:db8::1' }, port: 443, endpoint },
    )
  })

  it('tells which changes wait for the next start', () => {
    const running = parseConfig(text, 'config.toml')
    const wanted = { ...running, port: parsePort(1), mtu: 1280, allowClients: true }
    assert.deepEqual(startOnlyChanges(running, wanted), ['port', 'mtu'])
    assert.deepEqual(startOnlyChanges(running, { ...running, logLevel: 'debug' }), [])
  })
})

describe('a mistake in config.toml', () => {
  const mistakes: readonly (readonly [name: string, source: string, sentence: string])[] = [
    ['not TOML', `${least}port = `, 'c.toml line 4 is not TOML: invalid value'],
    ['a key that nobody knows', `${least}prot = 1`, unknown('prot')],
    [
      'a carrier key that nobody knows',
      `${least}[carriers]\nzone = "x"`,
      'c.toml: unknown key "carriers.zone"; this version knows dns_zone, web_host',
    ],
    ['a missing key', 'pool4 = "10.0.0.0/24"\npool6 = "fd00::/64"', 'c.toml: the key "endpoint" is missing'],
    ['a number for a string', 'endpoint = 4', 'c.toml: key "endpoint": expected a string in quotes'],
    ['a port out of range', `${least}port = 70000`, 'c.toml: key "port": expected a port from 1 to 65535'],
    ['a port in quotes', `${least}port = "51820"`, 'c.toml: key "port": expected a number'],
    ['a small mtu', `${least}mtu = 500`, 'c.toml: key "mtu": expected 1280 to 9000'],
    ['half an mtu', `${least}mtu = 1420.5`, 'c.toml: key "mtu": expected a whole number'],
    ['a word for a choice', `${least}gso = "maybe"`, 'c.toml: key "gso": expected "auto" or "off"'],
    [
      'a string for a truth',
      `${least}allow_clients = "no"`,
      'c.toml: key "allow_clients": expected true or false',
    ],
    [
      'a broken pool',
      `endpoint = "a.b"\npool4 = "10.0.0/24"\npool6 = "fd00::/64"`,
      'c.toml: key "pool4": "10.0.0/24" is not an address with a prefix length, like 10.0.0.0/8 or fd00::/48',
    ],
    [
      'a pool of the other family',
      `endpoint = "a.b"\npool4 = "fd00::/64"\npool6 = "fd00::/64"`,
      'c.toml: key "pool4": expected an IPv4 prefix of length 8 to 29',
    ],
    [
      'a resolver that is a name',
      `${least}dns = ["1.1.1.1", "dns.example"]`,
      'c.toml: key "dns.2": "dns.example" is not an IPv4 or IPv6 address',
    ],
    [
      'everything as a private network',
      `${least}allow_private = ["0.0.0.0/0"]`,
      'c.toml: key "allow_private.1": expected a network, not everything',
    ],
    [
      'a registry that is not there yet',
      `${least}registry = "postgres://db/culvert"`,
      'c.toml: key "registry": PostgreSQL is not supported yet: use "sqlite"',
    ],
    [
      'an interface name that the kernel refuses',
      `${least}interface = "a-name-that-is-too-long"`,
      'c.toml: key "interface": expected 1 to 15 letters, digits or hyphens',
    ],
  ]
  for (const [name, source, message] of mistakes) {
    it(`is named with file, key and what was expected: ${name}`, () => {
      assert.throws(() => parseConfig(source, 'c.toml'), { name: 'ServerError', code: 'bad-config', message })
    })
  }
})

function unknown(key: string): string {
  const keys =
    'endpoint, port, interface, pool4, pool6, dns, mtu, gso, allow_private, allow_clients, registry, log_level, carriers'
  return `c.toml: unknown key "${key}"; this version knows ${keys}`
}
