/** What culvert.node exports (src/node.rs, src/node_primitives.rs), as types. Only index.ts imports this. */

/** The addon's functions and its one class. */
export interface Addon {
  publicKey(privateKey: Uint8Array): Uint8Array
  x25519(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | null
  hash(parts: readonly Uint8Array[]): Uint8Array
  mac(key: Uint8Array, parts: readonly Uint8Array[]): Uint8Array
  hmac(key: Uint8Array, parts: readonly Uint8Array[]): Uint8Array
  seal(key: Uint8Array, counter: bigint, plaintext: Uint8Array, associated: Uint8Array): Uint8Array
  open(key: Uint8Array, counter: bigint, sealed: Uint8Array, associated: Uint8Array): Uint8Array | null
  xseal(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, associated: Uint8Array): Uint8Array
  xopen(key: Uint8Array, nonce: Uint8Array, sealed: Uint8Array, associated: Uint8Array): Uint8Array | null
  random(length: number): Uint8Array
  peerCredentials(fd: number): { pid: number; uid: number; gid: number }
  /** @throws with a code of TunnelErrorCode, as `NodePlane.open` does. */
  markedSocket(family: number, kind: string, mark: number): number
  packetPair(): number[]
  readonly NodePlane: { open(options: NodeOptions): NodePlane }
}

/** `name` or `fd`. */
export interface NodeOptions {
  readonly name?: string
  readonly fd?: number
  readonly mtu: number
  readonly port: number
  readonly fwmark: number
  readonly gso: string
  readonly txQueueLength?: number
  readonly limitSuperPackets?: boolean
}

export interface NodePath {
  readonly address: Uint8Array
  readonly port: number
  readonly source?: Uint8Array | undefined
  readonly interfaceIndex: number
}

/** Which of the fields are there, the tag says. */
export interface NodeEvent {
  readonly tag: string
  readonly message?: Uint8Array
  readonly from?: NodePath
  readonly peer?: number
  readonly index?: number
  readonly reason?: string
  readonly text?: string
}

export interface NodeTraffic {
  readonly datagrams: number
  readonly packets: number
  readonly bytes: number
  readonly batched: number
  readonly calls: number
}

export interface NodeCounters {
  readonly received: NodeTraffic
  readonly sent: NodeTraffic
  readonly cookies: number
  /** In the order of `dropReasons`. */
  readonly dropped: readonly number[]
}

export interface NodePeerCounters {
  readonly rxBytes: number
  readonly txBytes: number
  readonly path?: NodePath
  readonly sinceReceived?: number
  readonly sinceSent?: number
  readonly alive: boolean
}

export interface NodePlane {
  readonly port: number
  readonly offloads: readonly string[]
  readonly isIdle: boolean
  onWake(listener: () => void): void
  start(): void
  stop(): void
  drain(most: number): NodeEvent[]
  setIdentity(publicKey: Uint8Array): void
  setGate(underLoadAt: number, perSecond: number, burst: number, silent: boolean): void
  putPeer(peer: number, persistentKeepalive: number): void
  removePeer(peer: number): void
  setAllowedIps(peer: number, prefixes: readonly { address: Uint8Array; length: number }[]): void
  setPath(peer: number, path: NodePath | null, pinned: boolean): void
  clearSource(peer: number): void
  allocateIndex(peer: number): number
  freeIndex(index: number): void
  installSession(
    peer: number,
    index: number,
    remoteIndex: number,
    sendKey: Uint8Array,
    receiveKey: Uint8Array,
    isInitiator: boolean,
  ): boolean
  wipeSessions(peer: number): void
  forbidSending(peer: number): void
  sendHandshake(peer: number, message: Uint8Array): void
  reply(to: NodePath, message: Uint8Array): void
  keepalive(peer: number): void
  flushStaged(peer: number): number
  giveUp(peer: number): void
  counters(): NodeCounters
  peerCounters(peer: number): NodePeerCounters | null
  advance(milliseconds: number): void
}
