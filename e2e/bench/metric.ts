/** What is measured, in the order of the table. */

export interface Metric {
  /** In JSON. */
  readonly id: MetricId
  readonly title: string
  readonly unit: string
  /** Which way is better; null: it says whether the rest is to be believed. */
  readonly better: 'more' | 'less' | null
  /** Decimals in the table. */
  readonly digits: number
}

export type MetricId =
  | 'tcpForward'
  | 'tcpBackward'
  | 'cpuTunnel'
  | 'cpuMachine'
  | 'rttIdleMin'
  | 'rttIdle'
  | 'rttIdleMax'
  | 'tcpLoaded'
  | 'rttLoaded'
  | 'rttLoadedMax'
  | 'smallPackets'
  | 'smallPacketsOffered'
  | 'smallPacketCpu'
  | 'tunDrops'
  | 'retransmits'
  | 'checksumErrors'
  | 'load'

/** One contender's numbers of one round. A metric that does not apply to it is not there. */
export type Sample = Readonly<Partial<Record<MetricId, number>>>

export const metrics: readonly Metric[] = [
  metric('tcpForward', 'one TCP flow, there', 'Gbit/s', 'more', 2),
  metric('tcpBackward', 'one TCP flow, back', 'Gbit/s', 'more', 2),
  metric('cpuTunnel', 'CPU of both tunnel ends', 'core-s/Gbit', 'less', 3),
  metric('cpuMachine', 'CPU of the machine', 'core-s/Gbit', 'less', 3),
  // What the rest of the machine does can only make it longer.
  metric('rttIdleMin', 'RTT idle, shortest', 'ms', 'less', 2),
  metric('rttIdle', 'RTT idle, average', 'ms', 'less', 2),
  metric('rttIdleMax', 'RTT idle, longest', 'ms', 'less', 2),
  metric('tcpLoaded', '8 TCP flows', 'Gbit/s', 'more', 2),
  metric('rttLoaded', 'RTT under them, average', 'ms', 'less', 2),
  metric('rttLoadedMax', 'RTT under them, longest', 'ms', 'less', 1),
  metric('smallPackets', '64-byte UDP, arrived', 'thousand/s', 'more', 1),
  metric('smallPacketsOffered', '64-byte UDP, offered', 'thousand/s', null, 1),
  metric('smallPacketCpu', 'tunnel CPU of one', 'core-us', 'less', 2),
  metric('tunDrops', 'drops at the TUNs (TCP)', 'packets', null, 0),
  metric('retransmits', 'TCP retransmits', 'segments', null, 0),
  metric('checksumErrors', 'checksum errors', 'packets', null, 0),
  metric('load', 'load average before', '', null, 1),
]

function metric(id: MetricId, title: string, unit: string, better: Metric['better'], digits: number): Metric {
  return { id, title, unit, better, digits }
}
