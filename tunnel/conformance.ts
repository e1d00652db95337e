/**
 * What every data plane must do, as one suite of tests: `conforms(name, open)` runs it against whatever `open` makes.
 * The subject's TUN and UDP ends are in the test's hands; the peer is a reference written in the suite itself. Times
 * are moved by `advance`; a subject on the real clock runs a little besides, so that no exact time is asked for.
 */
import { describe } from 'node:test'
import { gateTests } from './conformance/gate.ts'
import { incomingTests } from './conformance/incoming.ts'
import { routingTests } from './conformance/routing.ts'
import { Scene } from './conformance/scene.ts'
import { sessionTests } from './conformance/sessions.ts'
import type { Subject } from './conformance/subject.ts'
import { timeTests } from './conformance/time.ts'

export type { Subject } from './conformance/subject.ts'

/** Declares the tests of one implementation. */
export function conforms(name: string, open: () => Promise<Subject>): void {
  const scene = () => Scene.open(open)
  describe(`the data plane ${name}`, () => {
    describe('at its gate', () => gateTests(scene))
    describe('with sessions', () => sessionTests(scene))
    describe('on what comes in', () => incomingTests(scene))
    describe('on where things go', () => routingTests(scene))
    describe('in time', () => timeTests(scene))
  })
}
