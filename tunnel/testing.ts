/** The door for tests, here and elsewhere: the conformance suite, and a lab of devices over memory data planes. */
export { conforms } from './conformance.ts'
export type { Subject } from './conformance.ts'
export { holdsVectors } from './crypto-vectors.ts'
