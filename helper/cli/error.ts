/** The command line was used wrongly: exit status 2. The message is one sentence. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}
