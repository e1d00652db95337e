/** The door for helper/ and server/: the running tunnel, the host's commands, and everything pure. */
export * from './pure.ts'
export { openTunnel } from './tunnel.ts'
export type { PeerStatus, Tunnel, TunnelEvent, TunnelOptions, TunnelPeer } from './tunnel.ts'
export { dropReasons } from './dataplane.ts'
export type { Counters, DropReason, Path } from './dataplane.ts'
export { run } from './host/run.ts'
export type { Run, RunOptions } from './host/run.ts'
