/**
 * A network stack in memory, for tests: as much of ip(8), nft(8) and getent(1) as the helper speaks, with the kernel's
 * habits that matter (a link takes its routes along; what is there already or is not there is an error).
 */
import { TunnelError, type Run } from '@culvert/tunnel'

interface MemoryLink {
  mtu: number
  up: boolean
  readonly addresses: Set<string>
}

/** The network of a machine that is not there. */
export class MemoryKernel {
  readonly links = new Map<string, MemoryLink>([
    ['eth0', { mtu: 1500, up: true, addresses: new Set(['192.0.2.7/24']) }],
  ])
  /** Rules as they were added, by family. */
  readonly rules: Readonly<Record<4 | 6, string[]>> = { 4: [], 6: [] }
  /** Routes as they were added, by family, main table apart. */
  readonly routes: Readonly<Record<4 | 6, string[]>> = { 4: [], 6: [] }
  readonly tables = new Map<string, string>()
  /** What getent prints: `group culvert` to a line. */
  readonly entries = new Map<string, string>()
  /** Every command that changed something, in order. */
  readonly changes: string[] = []
  /** A command or batch line that contains this fails. */
  breaks: string | null = null

  readonly run: Run = async (argv, options = {}) => {
    // As a process would, it answers later.
    await Promise.resolve()
    return this.#run([...argv], options.input ?? '')
  }

  /** All of it as one value, to be compared. */
  snapshot(): unknown {
    return structuredClone({
      links: [...this.links],
      rules: this.rules,
      routes: this.routes,
      tables: [...this.tables],
    })
  }

  addLink(name: string, mtu: number): void {
    this.links.set(name, { mtu, up: false, addresses: new Set() })
  }

  /** A link goes, and takes its routes along. */
  removeLink(name: string): void {
    this.links.delete(name)
    this.#forgetRoutesOf(name)
  }

  #run(argv: string[], input: string): string {
    const words = argv.join(' ')
    if (this.breaks !== null && words.includes(this.breaks)) throw refused(words)
    const family = argv.includes('-6') ? 6 : 4
    const ip = argv.filter((word) => !word.startsWith('-')).join(' ')
    if (words.endsWith('-batch -')) return this.#batch(input, family)
    if (argv[0] === 'nft') return this.#nft(words, input)
    if (argv[0] === 'getent') return this.#getent(argv)
    if (ip === 'ip address show') return JSON.stringify([...this.links].map(printLink))
    if (ip === 'ip rule show') return JSON.stringify(this.rules[family].map(printRule))
    if (ip.startsWith('ip route show table ')) {
      const table = ip.slice('ip route show table '.length)
      return JSON.stringify(
        this.routes[family].filter((route) => route.includes(` table ${table}`)).map(printRoute),
      )
    }
    if (ip.startsWith('ip route get '))
      return JSON.stringify([{ dst: argv[4], dev: 'eth0', prefsrc: '192.0.2.7' }])
    throw new Error(`the memory kernel does not know: ${words}`)
  }

  #getent(argv: readonly string[]): string {
    const entry = this.entries.get(`${argv[1]} ${argv[2]}`)
    if (entry === undefined) throw new TunnelError('command-failed', `${argv.join(' ')}: exit status 2`)
    return `${entry}\n`
  }

  #nft(words: string, input: string): string {
    if (words === 'nft list tables') return [...this.tables.keys()].map((name) => `table ${name}\n`).join('')
    this.changes.push(input)
    const [, name = ''] = /^table (\S+ \S+)\n/.exec(input) ?? []
    const body = input.split('\n').slice(2).join('\n')
    if (body === '') this.tables.delete(name)
    else this.tables.set(name, body)
    return ''
  }

  #batch(input: string, family: 4 | 6): string {
    for (const line of input.trimEnd().split('\n')) {
      if (this.breaks !== null && line.includes(this.breaks)) throw refused(line)
      this.changes.push(line)
      const [object = '', verb = '', ...rest] = line.split(' ')
      const text = rest.join(' ')
      if (object === 'address') this.#address(verb, rest)
      else if (object === 'link') this.#link(verb, rest)
      else if (object === 'rule') change(this.rules[family], verb, text, line)
      else if (object === 'route') {
        const device = /dev (\S+)/.exec(text)?.[1]
        if (device !== undefined && this.links.get(device)?.up !== true)
          throw refused(`${line}: network is down`)
        change(this.routes[family], verb, text, line)
      } else throw new Error(`the memory kernel does not know: ${line}`)
    }
    return ''
  }

  #address(verb: string, [address = '', , device = '']: readonly string[]): void {
    const link = this.#linkNamed(device)
    if (verb === 'add' ? link.addresses.has(address) : !link.addresses.has(address)) throw refused(address)
    if (verb === 'add') {
      link.addresses.add(address)
      return
    }
    const [first] = [...link.addresses].filter((other) => networkOf(other) === networkOf(address))
    link.addresses.delete(address)
    // The first IPv4 address of a network takes the others along (promote_secondaries=0).
    if (first !== address || address.includes(':')) return
    for (const other of link.addresses) {
      if (networkOf(other) === networkOf(address)) link.addresses.delete(other)
    }
  }

  #link(verb: string, [, device = '', setting = '', value = '']: readonly string[]): void {
    const link = this.#linkNamed(device)
    if (verb === 'delete') return this.removeLink(device)
    if (setting === 'mtu') link.mtu = Number(value)
    if (setting === 'up') link.up = true
    if (setting !== 'down') return
    link.up = false
    this.#forgetRoutesOf(device)
    for (const address of link.addresses) if (address.includes(':')) link.addresses.delete(address)
  }

  #linkNamed(device: string): MemoryLink {
    const link = this.links.get(device)
    if (link === undefined) throw refused(`cannot find device "${device}"`)
    return link
  }

  #forgetRoutesOf(device: string): void {
    for (const family of [4, 6] as const) {
      const left = this.routes[family].filter((route) => !route.includes(`dev ${device} `))
      this.routes[family].splice(0, Infinity, ...left)
    }
  }
}

/** `10.0.0./24` of 10.0.0.7/24. An address of any other length is a network by itself here. */
function networkOf(address: string): string {
  return address.endsWith('/24') ? address.replace(/\d+\/24$/, '/24') : address
}

function change(list: string[], verb: string, text: string, line: string): void {
  const at = list.indexOf(text)
  if (verb === 'add' ? at >= 0 : at < 0) throw refused(line)
  if (verb === 'add') list.push(text)
  else list.splice(at, 1)
}

function printLink([ifname, { mtu, up, addresses }]: [string, MemoryLink], index: number): object {
  return {
    ifname,
    ifindex: index + 2,
    mtu,
    flags: up ? ['UP'] : [],
    addr_info: [...addresses].map((address) => {
      const [local, prefixlen] = address.split('/')
      return { local, prefixlen: Number(prefixlen) }
    }),
  }
}

function printRule(rule: string): object {
  const word = (name: string) => new RegExp(`${name} (\\S+)`).exec(rule)?.[1]
  const fwmark = word('fwmark')
  const suppress = word('suppress_prefixlength')
  return {
    priority: Number(word('priority')),
    table: word('lookup'),
    ...(rule.includes(' not ') ? { not: null } : {}),
    ...(fwmark === undefined ? {} : { fwmark: `0x${Number(fwmark).toString(16)}` }),
    ...(suppress === undefined ? {} : { suppress_prefixlen: Number(suppress) }),
  }
}

function printRoute(route: string): object {
  const unreachable = /^unreachable (\S+) table \S+ metric (\d+)$/.exec(route)
  if (unreachable !== null) {
    return { type: 'unreachable', dst: printPrefix(unreachable[1]), metric: Number(unreachable[2]) }
  }
  const [dst, , dev] = route.split(' ')
  return { dst: printPrefix(dst), dev }
}

/** As ip prints one: `default` for the whole family, no length for a single address. */
function printPrefix(prefix = ''): string {
  if (prefix.endsWith('/0')) return 'default'
  return prefix.replace(prefix.includes(':') ? /\/128$/ : /\/32$/, '')
}

function refused(what: string): TunnelError {
  return new TunnelError('command-failed', `refused: ${what}`)
}
