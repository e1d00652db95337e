/** What the conformance suite asks of an implementation, so that it can be tested at all. */
import type { SocketAddress } from '../address.ts'
import type { Dataplane } from '../dataplane.ts'

/** A data plane with its TUN and its network in the hands of a test. It is not started yet, and its MTU is 1420. */
export interface Subject extends AsyncDisposable {
  readonly dataplane: Dataplane
  /** The kernel routes an IP packet into the TUN. With `segment` it is a TCP super-packet of segments that long (TSO). */
  fromKernel(packet: Uint8Array, segment?: number): Promise<void>
  /** The next packet written to the TUN, super-packets cut into the packets that they stand for; null after ~500 ms of none. */
  toKernel(): Promise<Uint8Array | null>
  /** Host `host` (0 to 3, each with an address of its own) sends the data plane a datagram. */
  fromNetwork(host: number, datagram: Uint8Array): Promise<void>
  /** The next datagram that the data plane sent to host `host`; null after ~500 ms of none. */
  toNetwork(host: number): Promise<Uint8Array | null>
  /** Where host `host` is. */
  address(host: number): SocketAddress
  /** Waits until everything handed in so far, and what `advance` made due, has been dealt with and every event can be drained. */
  settle(): Promise<void>
}
