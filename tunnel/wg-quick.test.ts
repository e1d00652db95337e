import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { parseCidr, parseInterfaceAddress, parseIp, type Port } from './address.ts'
import { formatPublicKey, Secret } from './key.ts'
import { formatWgQuick, parseWgQuick, type WgQuickConf } from './wg-quick.ts'

const key = `${'A'.repeat(42)}E=`
const text = `\uFEFF# from a provider
[Interface]
PrivateKey = ${key}
Address = 10.64.0.2/32, fd00::2/128   # both
DNS = 10.64.0.1, corp.example
MTU = 1400
PostUp = iptables -A INPUT -j ACCEPT
Table = off

[peer]
PUBLICKEY=${key}
PresharedKey = ${key}
Endpoint = vpn.example.org:51820
AllowedIPs = 0.0.0.0/0
AllowedIPs = ::/0, 0.0.0.0/0
PersistentKeepalive = 25
`

describe('a .conf', () => {
  it('is read as wg-quick would read it, and what is not honoured is named with its line', () => {
    const { conf, refused } = parseWgQuick(text, 'home.conf')
    assert.deepEqual(
      {
        ...conf,
        privateKey: conf.privateKey.base64(),
        peers: conf.peers.map((peer) => ({ ...peer, presharedKey: peer.presharedKey?.base64() })),
      },
      {
        privateKey: key,
        addresses: ['10.64.0.2/32', 'fd00::2/128'],
        dns: ['10.64.0.1'],
        searchDomains: ['corp.example'],
        mtu: 1400,
        listenPort: null,
        peers: [
          {
            publicKey: key,
            presharedKey: key,
            endpoint: { host: 'vpn.example.org', port: 51820 },
            allowedIps: ['0.0.0.0/0', '::/0'],
            persistentKeepalive: 25,
          },
        ],
      },
    )
    assert.deepEqual(refused, [
      {
        line: 7,
        key: 'PostUp',
        reason: 'it runs a command as root, and Culvert never runs a command from a profile',
      },
      { line: 8, key: 'Table', reason: 'Culvert has its own routing table' },
    ])
  })

  it('that is malformed gets one sentence with file, line, key and what was expected', () => {
    const broken: readonly (readonly [string, string, RegExp])[] = [
      [
        `PrivateKey = ${key}`,
        'PrivateKey = short',
        /^home\.conf line 3: PrivateKey: a key is 44 characters of base64 ending in "="$/,
      ],
      [
        '10.64.0.2/32',
        '10.64.0.2/33',
        /^home\.conf line 4: Address: "10\.64\.0\.2\/33" is not a prefix length from 0 to 32$/,
      ],
      ['MTU = 1400', 'MTU = 90000', /^home\.conf line 6: MTU: "90000" is not a number from 576 to 9000$/],
      ['MTU = 1400', 'nonsense', /^home\.conf line 6: expected \[Interface\], \[Peer\] or KEY = VALUE$/],
      ['vpn.example.org:51820', 'vpn.example.org', /^home\.conf line 13: Endpoint: .* the port is missing$/],
      [
        '0.0.0.0/0\n',
        '0.0.0.0.0\n',
        /^home\.conf line 14: AllowedIPs: "0\.0\.0\.0\.0" is not an address with a prefix/,
      ],
      ['[peer]', '[pear]', /^home\.conf line 10: expected/],
      ['[Interface]', '', /^home\.conf line 3: expected \[Interface\] or \[Peer\]$/],
      ['25', '25 s', /^home\.conf line 16: PersistentKeepalive: "25 s" is not a number from 0 to 65535$/],
    ]
    for (const [from, to, message] of broken) {
      assert.throws(() => parseWgQuick(text.replace(from, to), 'home.conf'), { code: 'bad-format', message })
    }
  })

  it('needs an interface, a private key, an address and a peer, each once', () => {
    const wants: readonly (readonly [string, RegExp])[] = [
      ['', /has no \[Interface\] section/],
      [text.slice(0, text.indexOf('[peer]')), /has no \[Peer\] section/],
      [text.replace(/PrivateKey.*/, ''), /line 2: the \[Interface\] section has no PrivateKey/],
      [text.replace(/Address.*/, ''), /line 2: the \[Interface\] section has no Address/],
      [text.replace(/PUBLICKEY.*/, ''), /line 10: the \[Peer\] section has no PublicKey/],
      [`${text}[Interface]\n`, /line 17: there is a second \[Interface\] section/],
      [`${text}[Peer]\nPublicKey = ${key}`, /line 17: two \[Peer\] sections have the same PublicKey/],
      ['x'.repeat(300_000), /too large/],
      [`${text}\u001b]0;a title\u0007 = 1\n`, /^home\.conf line 17: there is a control character$/],
      [`${text}Pre\u009bUp = 1\n`, /^home\.conf line 17: there is a control character$/],
    ]
    for (const [source, message] of wants)
      assert.throws(() => parseWgQuick(source, 'home.conf'), { code: 'bad-format', message })
  })

  it('survives being written and read', () => {
    const bytes = fc.uint8Array({ minLength: 32, maxLength: 32 })
    const ip = fc.oneof(fc.ipV4(), fc.ipV6()).map(parseIp)
    const endpoint = fc
      .tuple(ip, fc.integer({ min: 1, max: 65535 }))
      .map(([host, port]) => ({ host, port: port as Port }))
    const peer = fc.record({
      publicKey: bytes.map(formatPublicKey),
      presharedKey: fc.option(bytes.map((b) => Secret.of(b))),
      endpoint: fc.option(endpoint),
      allowedIps: fc.uniqueArray(ip.map(parseCidr)),
      persistentKeepalive: fc.integer({ min: 0, max: 65535 }),
    })
    const conf: fc.Arbitrary<WgQuickConf> = fc.record({
      privateKey: bytes.map((b) => Secret.of(b)),
      addresses: fc.array(ip.map(parseInterfaceAddress), { minLength: 1 }),
      dns: fc.array(ip),
      searchDomains: fc.constantFrom([], ['corp.example'], ['a.example', 'b.example']),
      mtu: fc.option(fc.integer({ min: 576, max: 9000 })),
      listenPort: fc.constantFrom(null, 51820 as Port),
      peers: fc.uniqueArray(peer, { minLength: 1, maxLength: 4, selector: (p) => p.publicKey }),
    })
    const plain = (value: WgQuickConf) => ({
      ...value,
      privateKey: value.privateKey.base64(),
      peers: value.peers.map((p) => ({ ...p, presharedKey: p.presharedKey?.base64() ?? null })),
    })
    fc.assert(
      fc.property(conf, (value) => {
        const parsed = parseWgQuick(formatWgQuick(value), 'x')
        assert.deepEqual(plain(parsed.conf), plain(value))
        assert.deepEqual(parsed.refused, [])
      }),
    )
  })

  it('of arbitrary text is read or refused, never anything else', () => {
    const line = fc.oneof(
      fc.string(),
      fc.constantFrom(
        '[Interface]',
        '[Peer]',
        `PrivateKey=${key}`,
        `PublicKey=${key}`,
        'Address=::1',
        'AllowedIPs=',
        'DNS=,',
        '=',
        'MTU=576',
      ),
    )
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        try {
          parseWgQuick(lines.join('\n'), 'x')
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'bad-format')
        }
      }),
      { numRuns: 500 },
    )
  })
})
