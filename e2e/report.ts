/** A node:test reporter that gives nothing but the totals of the whole run, as one line of JSON: run.ts adds them up. */
import type { TestEvent } from 'node:test/reporters'

/** What ran, and how it ended. */
export interface Totals {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

// node:test takes a reporter as a module's default export.
// oxlint-disable-next-line import/no-default-export
export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of events) {
    // One summary for each file, and one, without a name, for all.
    if (event.type !== 'test:summary' || event.data.file !== undefined) continue
    const { counts } = event.data
    const skipped = counts.skipped + counts.todo
    const totals: Totals = { passed: counts.passed, failed: counts.tests - counts.passed - skipped, skipped }
    yield `${JSON.stringify(totals)}\n`
  }
}
