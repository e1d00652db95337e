import type { TestContext } from 'node:test'

/** Something is not to be had: the test is skipped by name on somebody's own machine and fails in CI, where it must be there. */
export function absent(test: TestContext, why: string): void {
  if (process.env['CI'] !== undefined) throw new Error(`${why}; with CI set that is a failure`)
  test.skip(why)
}
