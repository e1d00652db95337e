/**
 * The failures that the server's own code names. A message is one plain sentence: what is wrong, where, and what to do.
 * Those of the tunnel and of the host's commands stay TunnelError.
 */
import { TunnelError } from '@culvert/tunnel/pure'

export type ServerErrorCode =
  | 'exists' // init would overwrite something
  | 'not-initialised' // there is no state yet
  | 'bad-config' // config.toml does not say what it should
  | 'bad-state' // a key file, the registry or the journal is damaged
  | 'no-privilege' // this needs root
  | 'already-running' // another culvert-server holds this state
  | 'not-running' // nobody answers at the control socket
  | 'pool-taken' // the address pool lies over an address that this machine has
  | 'pool-full' // every address of the pool is given out
  | 'refused' // the request does not fit what is there
  | 'fault' // the running server cannot go on

/** A failure of the server's own, with a code from a closed list and, where there is one, the cause. */
export class ServerError extends Error {
  override readonly name = 'ServerError'
  readonly code: ServerErrorCode

  constructor(code: ServerErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.code = code
  }
}

/** The sentence of a failure that we know, or null for one that is a bug of ours. Of failures in a row the first counts. */
export function sentenceOf(error: unknown): string | null {
  if (error instanceof SuppressedError) return sentenceOf(error.suppressed)
  return error instanceof ServerError || error instanceof TunnelError ? error.message : null
}

/** The errno name of a system call's failure (`ENOENT`), or null. */
export function errnoOf(error: unknown): string | null {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null
}
