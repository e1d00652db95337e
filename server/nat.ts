/**
 * What the server's firewall is: one nftables table as a value. Pure; `nat.test.ts` holds its text.
 *
 *   raw        who may say to be whom: from the tunnel only pool addresses, from anywhere else none of them
 *   mangle     TCP's maximum segment size fits the path, both ways
 *   input      clients may ping the server's tunnel address, and reach nothing else here but what the config names
 *   forward    clients reach the internet; not each other, not private networks; nobody begins anything towards them
 *   nat        what leaves for elsewhere carries this machine's address
 *
 * Nothing is logged; every refusal is counted (`nft list table inet culvert_server`). The table never opens what another
 * table closes: in nftables a packet passes when no table drops it.
 */
import {
  addressOf,
  contains,
  familyOf,
  parseCidr,
  prefixLengthOf,
  type Chain,
  type Cidr,
  type InterfaceAddress,
  type IpAddress,
  type NamedSet,
  type Table,
  type TableName,
} from '@culvert/tunnel/pure'

/** What the table depends on. */
export interface NatPolicy {
  readonly interfaceName: string
  readonly pool4: Cidr
  readonly pool6: Cidr
  /** The server's own addresses in the pool. */
  readonly addresses: readonly [InterfaceAddress, InterfaceAddress]
  /** The resolvers that clients are told of. Those in closed places are opened on port 53, since the config names them. */
  readonly dns: readonly IpAddress[]
  /** Networks that are open to clients all the same. An address of this machine in one is not, unless it is named itself. */
  readonly allowPrivate: readonly Cidr[]
  readonly allowClients: boolean
}

/** The name of the table: another interface has another one, so that servers on one machine keep apart. */
export function tableName(interfaceName: string): TableName {
  const suffix = interfaceName === 'culvert-srv' ? '' : `_${interfaceName.replaceAll('-', '_')}`
  return { family: 'inet', name: `culvert_server${suffix}` }
}

/** The whole table. */
export function natTable(policy: NatPolicy): Table {
  const { interfaceName, allowPrivate } = policy
  const closedDns = policy.dns.filter((address) =>
    [...PRIVATE_4, ...PRIVATE_6].some((net) => contains(net, address)),
  )
  return {
    ...tableName(interfaceName),
    comment: 'of culvert-server, which replaces it at start and reload and deletes it at stop',
    sets: [
      prefixes('private4', 'ipv4_addr', PRIVATE_4),
      prefixes('private6', 'ipv6_addr', PRIVATE_6),
      prefixes('allowed4', 'ipv4_addr', ofFamily(allowPrivate, 4)),
      prefixes('allowed6', 'ipv6_addr', ofFamily(allowPrivate, 6)),
      prefixes('named4', 'ipv4_addr', ofFamily(allowPrivate, 4).filter(isAddress)),
      prefixes('named6', 'ipv6_addr', ofFamily(allowPrivate, 6).filter(isAddress)),
      prefixes('resolvers4', 'ipv4_addr', ofFamily(closedDns, 4)),
      prefixes('resolvers6', 'ipv6_addr', ofFamily(closedDns, 6)),
      pings('pings4', 'ipv4_addr'),
      pings('pings6', 'ipv6_addr'),
    ],
    chains: [raw(policy), mangle(policy), input(policy), fromClient(policy), forward(policy), nat(policy)],
  }
}

/** Before connection tracking, so that a forged source makes no entry there. */
function raw({ interfaceName, pool4, pool6, addresses }: NatPolicy): Chain {
  const [own4, own6] = addresses.map(addressOf)
  const ours = `iifname "${interfaceName}"`
  const theirs = `iifname != { "${interfaceName}", "lo" }`
  return {
    name: 'raw',
    hook: { type: 'filter', hook: 'prerouting', priority: -300, policy: 'accept' },
    rules: [
      `${ours} ip saddr != ${pool4} ${drop('a source outside the pool')}`,
      `${ours} ip6 saddr != ${pool6} ${drop('a source outside the pool')}`,
      `${ours} ip saddr ${own4} ${drop("the server's own address as source")}`,
      `${ours} ip6 saddr ${own6} ${drop("the server's own address as source")}`,
      `${theirs} ip saddr ${pool4} ${drop('a source of the pool from outside')}`,
      `${theirs} ip6 saddr ${pool6} ${drop('a source of the pool from outside')}`,
    ],
  }
}

/** `rt mtu` is the smaller of the routes there and back, and the option is only ever lowered (nft(8), RT; EXTHDR). */
function mangle({ interfaceName }: NatPolicy): Chain {
  const clamp = 'tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu'
  return {
    name: 'mangle',
    hook: { type: 'filter', hook: 'forward', priority: -150, policy: 'accept' },
    rules: [`iifname "${interfaceName}" ${clamp}`, `oifname "${interfaceName}" ${clamp}`],
  }
}

/**
 * Pings are decided before established flows are let in: every later ping of one program belongs to an established flow.
 * A service of this machine is closed to clients at all of its addresses, its public ones too; what opens the network that
 * such an address lies in does not open it.
 */
function input({ interfaceName, pool4, pool6, addresses }: NatPolicy): Chain {
  const [own4, own6] = addresses.map(addressOf)
  const ours = `iifname "${interfaceName}"`
  const theirs = `iifname != { "${interfaceName}", "lo" } ct state != { established, related }`
  return {
    name: 'input',
    hook: { type: 'filter', hook: 'input', priority: 0, policy: 'accept' },
    rules: [
      `${ours} ip daddr ${own4} icmp type echo-request update @pings4 { ip saddr ${PING_LIMIT} } accept`,
      `${ours} ip6 daddr ${own6} icmpv6 type echo-request update @pings6 { ip6 saddr ${PING_LIMIT} } accept`,
      `${ours} icmp type echo-request ${drop('too many pings, or to another address')}`,
      `${ours} icmpv6 type echo-request ${drop('too many pings, or to another address')}`,
      `${ours} ct state established,related accept`,
      ...allowed('named', `${ours} `),
      `${ours} ${drop('a service of this machine')}`,
      `${theirs} ip daddr ${pool4} ${drop('the pool from outside')}`,
      `${theirs} ip6 daddr ${pool6} ${drop('the pool from outside')}`,
    ],
  }
}

/** What a client may send on. A refusal answers, so that its programs fail at once and do not wait. */
function fromClient({ interfaceName, allowClients }: NatPolicy): Chain {
  // Not refused: the kernel has sent an ICMP redirect already (same link in and out), and its rate limit eats the refusal.
  const between = allowClients ? 'accept' : drop('client to client')
  return {
    name: 'from_client',
    rules: [
      // Untracked: neighbour and multicast listener discovery (nf_conntrack_proto_icmpv6.c), and what an administrator
      // exempted. No address of it would be translated, and it would leave as the client's own.
      `ct state { invalid, untracked } ${drop('no connection')}`,
      `oifname "${interfaceName}" ${between}`,
      ...allowed('allowed'),
      `ip daddr @private4 ${refuse('private network')}`,
      `ip6 daddr @private6 ${refuse('private network')}`,
      'counter accept comment "to the internet"',
    ],
  }
}

function forward({ interfaceName }: NatPolicy): Chain {
  return {
    name: 'forward',
    hook: { type: 'filter', hook: 'forward', priority: 0, policy: 'accept' },
    rules: [
      `iifname "${interfaceName}" jump from_client`,
      `oifname "${interfaceName}" ct state established,related counter accept comment "from the internet"`,
      `oifname "${interfaceName}" ${drop('to a client, unasked')}`,
    ],
  }
}

function nat({ interfaceName, pool4, pool6 }: NatPolicy): Chain {
  const elsewhere = `oifname != { "${interfaceName}", "lo" }`
  return {
    name: 'nat',
    hook: { type: 'nat', hook: 'postrouting', priority: 100, policy: 'accept' },
    rules: [
      `${elsewhere} ip saddr ${pool4} counter masquerade`,
      `${elsewhere} ip6 saddr ${pool6} counter masquerade`,
    ],
  }
}

/** What the config opens. */
function allowed(set: 'allowed' | 'named', before = ''): readonly string[] {
  return [
    `${before}ip daddr @${set}4 accept`,
    `${before}ip6 daddr @${set}6 accept`,
    `${before}ip daddr @resolvers4 meta l4proto { tcp, udp } th dport 53 accept`,
    `${before}ip6 daddr @resolvers6 meta l4proto { tcp, udp } th dport 53 accept`,
  ]
}

function drop(reason: string): string {
  return `counter drop comment "${reason}"`
}

function refuse(reason: string): string {
  return `counter reject with icmpx type admin-prohibited comment "${reason}"`
}

function prefixes(name: string, type: NamedSet['type'], elements: readonly string[]): NamedSet {
  return { name, type, flags: ['interval'], elements }
}

/** One bucket for each client that pings; a full set lets no new one in, which only silences pings. */
function pings(name: string, type: NamedSet['type']): NamedSet {
  return { name, type, flags: ['dynamic', 'timeout'], size: 65536, timeout: 60, elements: [] }
}

/** Whether a prefix is one address. */
function isAddress(prefix: Cidr): boolean {
  return prefixLengthOf(prefix) === (familyOf(prefix) === 4 ? 32 : 128)
}

function ofFamily<T extends Cidr | IpAddress>(addresses: readonly T[], family: 4 | 6): readonly T[] {
  return addresses.filter((address) => familyOf(address) === family)
}

/** For each client. Enough for `ping -i 0.1`, and for the echoes with which a carrier is tried. */
const PING_LIMIT = 'limit rate 20/second burst 50 packets'

/**
 * Where a client has no business: what is not globally reachable (IANA special-purpose registries, RFC 6890) and the
 * addresses at which clouds tell a machine its secrets. The documentation prefixes are left out: no network is there.
 */
const PRIVATE_4: readonly Cidr[] = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10', // carrier-grade NAT (RFC 6598)
  '127.0.0.0/8',
  '168.63.129.16/32', // Azure's host
  '169.254.0.0/16', // link-local; 169.254.169.254 is most clouds' metadata service
  '172.16.0.0/12',
  '192.0.0.0/24', // IETF protocol assignments; 192.0.0.192 is Oracle's metadata service
  '192.168.0.0/16',
  '198.18.0.0/15', // benchmarks (RFC 2544)
  '224.0.0.0/3', // multicast, reserved and broadcast
].map(parseCidr)

const PRIVATE_6: readonly Cidr[] = [
  '::/96', // unspecified, loopback and IPv4-compatible
  '::ffff:0:0/96', // IPv4-mapped
  '64:ff9b:1::/48', // local NAT64 (RFC 8215)
  '100::/63', // discard, and the dummy prefix (RFC 9780)
  '2001:2::/48', // benchmarks (RFC 5180)
  '2002::/16', // 6to4, a tunnel to any IPv4 address (RFC 3056; given up by RFC 7526)
  '5f00::/16', // segment routing inside a network (RFC 9602)
  'fc00::/7', // unique local; fd00:ec2::254 is Amazon's metadata service
  'fe80::/10', // link-local
  'fec0::/10', // site-local
  'ff00::/8', // multicast
  // The same IPv4 networks behind a NAT64 (RFC 6052, 2.1).
  ...PRIVATE_4.map((net) => `64:ff9b::${addressOf(net)}/${96 + prefixLengthOf(net)}`),
].map(parseCidr)
