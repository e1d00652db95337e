/** The stage of the conformance suite: a subject, the peers that a test plays itself, and IP packets made by hand. */
import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import { ipBytes, parseCidr } from '../address.ts'
import { CookieMemory } from '../cookie.ts'
import { memoryPrimitives as primitives } from '../crypto-memory.ts'
import type { Dataplane, DataplaneEvent, DropReason, Path, PeerId, SessionIndex } from '../dataplane.ts'
import { writeTcpChecksums } from '../ip-packet.ts'
import { createInitiation } from '../noise.ts'
import * as wire from '../wire.ts'
import type { Subject } from './subject.ts'

/** The MTU of every subject's TUN. */
export const MTU = 1420

/** A session as both ends hold it: the subject has the keys, and so has the test. */
export interface FarSession {
  readonly peer: FarPeer
  readonly index: SessionIndex
  readonly remoteIndex: number
  /** What the subject seals with. */
  readonly subjectKey: Uint8Array
  /** What the far end seals with. */
  readonly farKey: Uint8Array
  next: bigint
}

export interface FarPeer {
  readonly id: PeerId
  readonly host: number
}

export interface PeerSettings {
  readonly host?: number
  readonly prefixes?: readonly string[]
  readonly roaming?: 'follow' | 'pinned'
  readonly persistentKeepalive?: number
  readonly path?: Path | null
}

export class Scene implements AsyncDisposable {
  readonly subject: Subject
  readonly plane: Dataplane
  /** The subject's static key. */
  readonly privateKey = primitives.random(32)
  readonly publicKey = primitives.publicKey(this.privateKey)
  #peers = 0
  #before: Readonly<Record<DropReason, number>>
  readonly #events: DataplaneEvent[] = []

  private constructor(subject: Subject) {
    this.subject = subject
    this.plane = subject.dataplane
    this.#before = this.plane.counters().dropped
  }

  /** A started data plane that knows its public key and has no peer. */
  static async open(open: () => Promise<Subject>): Promise<Scene> {
    const scene = new Scene(await open())
    scene.plane.onWake(() => {})
    scene.plane.setIdentity(scene.publicKey)
    scene.plane.start()
    await scene.subject.settle()
    scene.#before = scene.plane.counters().dropped
    return scene
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.subject[Symbol.asyncDispose]()
  }

  path(host: number): Path {
    return { remote: this.subject.address(host), source: null, interfaceIndex: 0 }
  }

  peer(settings: PeerSettings = {}): FarPeer {
    const {
      host = 0,
      prefixes = ['10.0.0.0/24', 'fd00::/64'],
      roaming = 'follow',
      persistentKeepalive = 0,
    } = settings
    const id = ++this.#peers as PeerId // the test is the caller that chooses
    this.plane.putPeer(id, { persistentKeepalive })
    this.plane.setAllowedIps(id, prefixes.map(parseCidr))
    this.plane.setPath(id, settings.path === undefined ? this.path(host) : settings.path, roaming)
    return { id, host }
  }

  /** Gives the subject a session with fresh keys. */
  session(peer: FarPeer, role: 'initiator' | 'responder' = 'initiator'): FarSession {
    const index = this.plane.allocateIndex(peer.id)
    const subjectKey = primitives.random(32)
    const farKey = primitives.random(32)
    const remoteIndex = new DataView(primitives.random(4).buffer).getUint32(0)
    const keys = { remoteIndex, sendKey: subjectKey.slice(), receiveKey: farKey.slice(), role }
    assert.equal(this.plane.installSession(peer.id, index, keys), true)
    return { peer, index, remoteIndex, subjectKey, farKey, next: 0n }
  }

  /** A data message of the far end; of nothing, a keepalive. */
  seal(session: FarSession, packet: Uint8Array = new Uint8Array(0), counter = session.next++): Uint8Array {
    const padded = new Uint8Array(wire.paddedLength(packet.length, MTU))
    padded.set(packet)
    const sealed = primitives.seal(session.farKey, counter, padded, new Uint8Array(0))
    return wire.encodeData({ receiver: session.index, counter, sealed })
  }

  /** Seals and sends from the peer's host, or another. */
  async send(session: FarSession, packet?: Uint8Array, host = session.peer.host): Promise<void> {
    await this.subject.fromNetwork(host, this.seal(session, packet))
  }

  /** What the subject sealed for this session, without padding; null: nothing came, or not for it. */
  async receive(session: FarSession, host = session.peer.host): Promise<Uint8Array | null> {
    const datagram = await this.subject.toNetwork(host)
    const message = datagram === null ? null : wire.decodeData(datagram)
    if (message === null || message.receiver !== session.remoteIndex) return null
    const padded = primitives.open(session.subjectKey, message.counter, message.sealed, new Uint8Array(0))
    return padded === null ? null : trim(padded)
  }

  /** Everything that waits for this host, until nothing more comes. */
  async all(host: number): Promise<Uint8Array[]> {
    const datagrams: Uint8Array[] = []
    for (let next = await this.subject.toNetwork(host); next; next = await this.subject.toNetwork(host)) {
      datagrams.push(next)
    }
    return datagrams
  }

  /** The events so far with this tag, each given once. */
  async events<Tag extends DataplaneEvent['tag']>(
    tag: Tag,
  ): Promise<Extract<DataplaneEvent, { tag: Tag }>[]> {
    await this.subject.settle()
    this.#events.push(...this.plane.drain(10_000))
    const found = this.#events.filter((event) => event.tag === tag)
    const rest = this.#events.filter((event) => event.tag !== tag)
    this.#events.splice(0, Infinity, ...rest)
    return found as Extract<DataplaneEvent, { tag: Tag }>[] // filtered by that tag
  }

  /** The same, waiting a while for the first. */
  async eventually<Tag extends DataplaneEvent['tag']>(
    tag: Tag,
  ): Promise<Extract<DataplaneEvent, { tag: Tag }>[]> {
    for (let i = 0; i < 40; i++) {
      const found = await this.events(tag)
      if (found.length > 0) return found
      await delay(25)
    }
    return []
  }

  /** What was dropped since this was asked last, without the reasons that have none. */
  async dropped(): Promise<Partial<Record<DropReason, number>>> {
    await this.subject.settle()
    const now = this.plane.counters().dropped
    const entries = Object.entries(now) as [DropReason, number][] // Object.entries forgets the keys' type
    const since = entries.map(([reason, count]) => [reason, count - this.#before[reason]] as const)
    this.#before = now
    return Object.fromEntries(since.filter(([, count]) => count > 0))
  }

  /** An initiation of a stranger to the subject, with mac1, and the memory that stamps it. */
  initiation(): { readonly message: Uint8Array; readonly memory: CookieMemory } {
    const privateKey = primitives.random(32)
    const identity = { privateKey, publicKey: primitives.publicKey(privateKey) }
    const created = createInitiation(primitives, identity, {
      remoteStatic: this.publicKey,
      ephemeral: primitives.random(32),
      timestamp: new Uint8Array(wire.TIMESTAMP_LENGTH),
      localIndex: 77,
    })
    assert.ok(created)
    const memory = new CookieMemory(primitives, this.publicKey)
    memory.stamp(created.message, 0)
    return { message: created.message, memory }
  }

  /** A response of nobody in particular to this index, with mac1: the data plane cannot tell. */
  response(receiver: number): Uint8Array {
    const message = wire.encodeResponse({
      sender: 99,
      receiver,
      ephemeral: primitives.random(32),
      empty: primitives.random(16),
    })
    new CookieMemory(primitives, this.publicKey).stamp(message, 0)
    return message
  }

  /** A cookie reply to this index; the data plane cannot tell whether it is true. */
  cookieReply(receiver: number): Uint8Array {
    return wire.encodeCookieReply({ receiver, nonce: primitives.random(24), cookie: primitives.random(32) })
  }
}

/** Which of these sessions the subject still opens messages of, asked in this order. */
export async function alive(scene: Scene, sessions: readonly FarSession[]): Promise<boolean[]> {
  const answers: boolean[] = []
  for (const session of sessions) {
    await scene.send(session, ipPacket('10.0.0.1', '10.9.0.1'))
    answers.push((await scene.subject.toKernel()) !== null)
  }
  return answers
}

/** Whether the next packet goes out under this session. */
export async function sendsWith(scene: Scene, session: FarSession): Promise<boolean> {
  await scene.subject.fromKernel(ipPacket('10.9.0.1', '10.0.0.1'))
  for (let datagram = await scene.subject.toNetwork(session.peer.host); datagram;) {
    const message = wire.decodeData(datagram)
    if (message !== null && message.sealed.length > wire.TAG_LENGTH)
      return message.receiver === session.remoteIndex
    datagram = await scene.subject.toNetwork(session.peer.host)
  }
  return false
}

/** An IP packet of `length` bytes between two addresses of one family, of a protocol that nobody interprets; `mark` is in it. */
export function ipPacket(source: string, destination: string, length = 100, mark = 0): Uint8Array {
  const packet = ipHeader(source, destination, length, EXPERIMENTAL)
  const header = headerLength(packet)
  for (let i = header; i < length; i++) packet[i] = (mark + i) & 0xff
  if (length >= header + 4) new DataView(packet.buffer).setUint32(header, mark)
  return packet
}

/** The mark of `ipPacket`. */
export function markOf(packet: Uint8Array): number {
  return new DataView(packet.buffer, packet.byteOffset).getUint32(headerLength(packet))
}

export interface TcpFields {
  readonly identification: number
  readonly sequence: number
  readonly flags: number
  readonly payload: Uint8Array
}

/** A TCP packet with a timestamp option and right checksums. */
export function tcpPacket(source: string, destination: string, fields: TcpFields): Uint8Array {
  const header = source.includes(':') ? 40 : 20
  const packet = ipHeader(source, destination, header + TCP_HEADER + fields.payload.length, TCP)
  const view = new DataView(packet.buffer)
  if (header === 20) {
    view.setUint16(4, fields.identification)
    view.setUint16(6, 0x4000) // don't fragment
  }
  view.setUint16(header, 443)
  view.setUint16(header + 2, 50_000)
  view.setUint32(header + 4, fields.sequence)
  view.setUint32(header + 8, 0x01020304)
  view.setUint8(header + 12, (TCP_HEADER / 4) << 4)
  view.setUint8(header + 13, fields.flags)
  view.setUint16(header + 14, 0xffff)
  packet.set([1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4], header + 20)
  packet.set(fields.payload, header + TCP_HEADER)
  writeTcpChecksums(packet, header)
  return packet
}

export const tcpFlags = { fin: 0x01, psh: 0x08, ack: 0x10 } as const

/** A packet without the padding after it; what is no packet is left as it is. */
function trim(padded: Uint8Array): Uint8Array {
  if (padded.length === 0) return padded
  const view = new DataView(padded.buffer, padded.byteOffset)
  return padded.subarray(0, headerLength(padded) === 20 ? view.getUint16(2) : 40 + view.getUint16(4))
}

function headerLength(packet: Uint8Array): 20 | 40 {
  return (packet[0] ?? 0) >> 4 === 4 ? 20 : 40
}

function ipHeader(source: string, destination: string, length: number, protocol: number): Uint8Array {
  const from = ipBytes(source) ?? new Uint8Array(0)
  const to = ipBytes(destination) ?? new Uint8Array(0)
  const packet = new Uint8Array(length)
  const view = new DataView(packet.buffer)
  if (from.length === 4) {
    view.setUint8(0, 0x45)
    view.setUint16(2, length)
    view.setUint8(8, 64)
    view.setUint8(9, protocol)
    packet.set(from, 12)
    packet.set(to, 16)
    let sum = 0
    for (let i = 0; i < 20; i += 2) sum += view.getUint16(i)
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
    view.setUint16(10, ~sum & 0xffff)
  } else {
    view.setUint8(0, 0x60)
    view.setUint16(4, length - 40)
    view.setUint8(6, protocol)
    view.setUint8(7, 64)
    packet.set(from, 8)
    packet.set(to, 24)
  }
  return packet
}

const EXPERIMENTAL = 253 // RFC 3692
const TCP = 6
const TCP_HEADER = 32
