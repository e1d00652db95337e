/**
 * Culvert and other people's WireGuard, with preshared keys, at their real constants: every pair talks for 130 s, so that each session is renewed
 * (REKEY_AFTER_TIME is 120 s), and then some clients move.
 *
 *   laptop  wireguard-go ─┐
 *   phone   boringtun ────┼──▶ culvert-server (server)
 *   guest   Culvert ──────┘
 *   client  Culvert ─────────▶ wireguard-go (website)
 */
import assert from 'node:assert/strict'
import { after, before, describe, it, type TestContext } from 'node:test'
import { addresses, openLab, roam, type Lab } from '../lab.ts'
import { peer } from '../peers.ts'
import { makeKeys, makePresharedKey } from '../peers/uapi.ts'
import { startWireGuard, type Kind } from '../peers/wireguard.ts'
import { absent } from './absent.ts'
import { capture, type Capture, type Seen } from './capture.ts'
import { addDevice, commands, importConf, startHelper, startServer } from './culvert.ts'
import type { Host } from './host.ts'
import { talk, type Talked } from './talk.ts'
import { messageKind, type MessageKind } from './wireguard-message.ts'

/** A client that talks: where it is in the LAN, and whom it talks to inside the tunnel. */
interface Talker {
  readonly name: string
  readonly host: Host
  readonly number: number
  readonly targets: readonly string[]
}

/** What was heard of a talker: what became of its questions over IPv4 and IPv6, and its messages on the LAN by kind. */
interface Heard {
  readonly talked: readonly Talked[]
  readonly kinds: ReadonlyMap<MessageKind | null, readonly Seen[]>
}

const clients = [
  ['laptop', 'wireguard-go', 10],
  ['phone', 'boringtun', 11],
  ['guest', 'culvert', 12],
] as const

const pairs = [
  ['laptop', 'a wireguard-go client talks through our server'],
  ['phone', 'a boringtun client talks through our server'],
  ['guest', 'a Culvert client talks through our server'],
  ['client', 'our client talks to a wireguard-go server'],
] as const

/** Where Culvert sends from: its server, guest and client. */
const ours: readonly string[] = [addresses.server.v4, '192.168.77.12', addresses.client.v4]

/** One renewal at 120 s of age, and some to spare. */
const SESSION_SECONDS = 130

describe('interoperation', () => {
  let lab: Lab
  const talkers = new Map<string, Talker>()
  const missing = new Map<string, string>()
  let heard: ReadonlyMap<string, Heard>

  before(
    async () => {
      lab = await openLab()
      await startServer(lab.server, addresses.server.v4)
      // From before the first handshake; on the LAN, where NAT has not made everybody one.
      const watching = await capture(lab.isp, 'br-lan', `${lab.folder}/interop.pcap`)
      for (const [name, kind, number] of clients) await beClient(name, kind, number)
      await beServer()
      heard = await listen(watching)
    },
    { timeout: 300_000 },
  )
  after(() => lab[Symbol.asyncDispose]())

  for (const [name, what] of pairs) {
    it(`${what}, over IPv4 and IPv6, and renews its session in time without losing a packet`, (t) => {
      const found = present(t, name)
      if (found === null) return
      const count = (kind: MessageKind) => found.kinds.get(kind)?.length ?? 0
      t.diagnostic(
        `${count('initiation')} initiations, ${count('response')} responses, ${count('data')} data messages`,
      )
      const whole = { sent: SESSION_SECONDS * 10, lost: 0, which: [] }
      assert.deepEqual(found.talked, [whole, whole])
      // One at the beginning and one at 120 s; a retry or two under load is no fault, an initiation every 5 s is.
      assert.ok(count('initiation') >= 2 && count('initiation') <= 5, `${count('initiation')} initiations`)
      assert.ok(count('response') >= 2)
      // boringtun pads nothing: who is judged is whoever of the two is ours.
      const strange = found.kinds.get(null)?.filter(({ source }) => ours.includes(source)) ?? []
      assert.deepEqual(strange.map(({ source, length }) => `${length} bytes from ${source}`).slice(0, 5), [])
    })
  }

  for (const name of ['laptop', 'guest', 'client'] as const) {
    it(`${name} moves to another address and talks on in the same session`, async (t) => {
      const talker = talkers.get(name)
      if (talker === undefined || present(t, name) === null) return
      const watching = await capture(lab.isp, 'br-lan', `${lab.folder}/roam-${name}.pcap`)
      await roam(talker.host, talker.number, talker.number + 128)
      const talked = await talkTo(talker, 5)
      const seen = (await watching.seen()).filter((packet) => packet.ports !== null && packet.protocol === 17)
      const own = seen.filter((packet) => packet.source === `192.168.77.${talker.number + 128}`)
      const kinds = Map.groupBy(own, messageKind)
      // The first questions may be lost while the move is noticed.
      for (const { sent, lost } of talked) assert.ok(lost < sent / 2, `${lost} of ${sent} lost`)
      assert.equal(kinds.get('initiation')?.length ?? 0, 0, 'no new handshake')
      assert.ok((kinds.get('data')?.length ?? 0) > 20)
    })
  }

  function present(t: TestContext, name: string): Heard | null {
    const why = missing.get(name)
    if (why !== undefined) absent(t, why)
    return heard.get(name) ?? null
  }

  /** A client of our server, by a .conf that our server made. */
  async function beClient(name: string, kind: Kind | 'culvert', number: number): Promise<void> {
    const found = kind === 'culvert' ? null : await peer(kind)
    if (found?.tag === 'absent') {
      missing.set(name, found.why)
      return
    }
    const host = await lab.addToLan(name, number)
    const conf = await addDevice(lab.server, name)
    assert.match(conf, /^PresharedKey\s*=/m, 'the server makes preshared keys')
    if (kind === 'culvert' || found === null) {
      await startHelper(host)
      await importConf(host, lab.folder, name, conf)
      await host.run([commands.culvert, 'connect', '--wait', '10'])
    } else {
      await startWireGuard(host, kind, found.program, 'wg0', conf, ['203.0.113.0/24', '2001:db8:3::/64'])
    }
    talkers.set(name, { name, host, number, targets: Object.values(addresses.website) })
  }

  /** wireguard-go as the server of our client. */
  async function beServer(): Promise<void> {
    const found = await peer('wireguard-go')
    if (found.tag === 'absent') {
      missing.set('client', found.why)
      return
    }
    const [own, its, psk] = [makeKeys(), makeKeys(), makePresharedKey()]
    await startWireGuard(
      lab.website,
      'wireguard-go',
      found.program,
      'wg0',
      `[Interface]
      PrivateKey = ${its.privateKey}
      ListenPort = 51820
      Address = 10.210.0.1/24, fd21::1/64
      [Peer]
      PublicKey = ${own.publicKey}
      PresharedKey = ${psk}
      AllowedIPs = 10.210.0.2/32, fd21::2/128`,
    )
    await startHelper(lab.client)
    const conf = `[Interface]
      PrivateKey = ${own.privateKey}
      Address = 10.210.0.2/24, fd21::2/64
      [Peer]
      PublicKey = ${its.publicKey}
      PresharedKey = ${psk}
      Endpoint = ${addresses.website.v4}:51820
      AllowedIPs = 10.210.0.0/24, fd21::/64`
    await importConf(lab.client, lab.folder, 'client', conf)
    await lab.client.run([commands.culvert, 'connect', '--wait', '10'])
    talkers.set('client', { name: 'client', host: lab.client, number: 2, targets: ['10.210.0.1', 'fd21::1'] })
  }

  /** Lets everybody talk at once, for longer than a session lasts. */
  async function listen(watching: Capture): Promise<ReadonlyMap<string, Heard>> {
    const all = await Promise.all(
      [...talkers.values()].map(async (talker) => [talker, await talkTo(talker, SESSION_SECONDS)] as const),
    )
    const seen = await watching.seen()
    return new Map(
      all.map(([{ name, number }, talked]) => {
        const address = `192.168.77.${number}`
        const own = seen.filter(
          ({ source, destination, protocol }) => protocol === 17 && [source, destination].includes(address),
        )
        return [name, { talked, kinds: Map.groupBy(own.filter(isTunnel), messageKind) }]
      }),
    )
  }
})

/** Talks to every target at once. */
function talkTo({ host, targets }: Talker, seconds: number): Promise<readonly Talked[]> {
  return Promise.all(targets.map((target) => talk(host, target, seconds)))
}

/** Not the question for a server's name. */
function isTunnel({ ports }: Seen): boolean {
  return ports !== null && (ports.source === 51820 || ports.destination === 51820)
}
