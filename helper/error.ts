/** The helper's own failures, on both sides of the socket. */
import type { HelperErrorCode } from './contract/index.ts'

/** A failure with a code from a closed list. The message is one plain sentence that may be shown as it stands. */
export class HelperError extends Error {
  override readonly name = 'HelperError'
  readonly code: HelperErrorCode

  constructor(code: HelperErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.code = code
  }
}
