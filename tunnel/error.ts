/**
 * The failures that are ours. Garbage from the network is never one of them: it is counted (`Dropped` in
 * dataplane.ts). A message is one plain sentence that says what is wrong and, where a person can mend it, what to do.
 */
export type TunnelErrorCode =
  | 'bad-format' // text that a person gave us does not say what its format asks for
  | 'no-native' // the addon is not built
  | 'no-tun' // /dev/net/tun is missing or refused
  | 'no-privilege' // the kernel refused something that needs CAP_NET_ADMIN
  | 'name-taken' // an interface of that name exists already
  | 'port-taken' // the UDP port is in use
  | 'command-failed' // ip, nft or sysctl said no
  | 'command-missing' // the program is not installed
  | 'fault' // the data plane stopped itself and drops every packet

/** A failure of Culvert's own, with a code from a closed list and, where there is one, the cause. */
export class TunnelError extends Error {
  override readonly name = 'TunnelError'
  readonly code: TunnelErrorCode

  constructor(code: TunnelErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.code = code
  }
}
