/** The door for tests, here and elsewhere: the conformance suite, and a lab of devices over memory data planes. */
export { conforms } from './conformance.ts'
export type { Subject } from './conformance.ts'
export { memoryPrimitives } from './crypto-memory.ts'
export { holdsVectors } from './crypto-vectors.ts'
export { MemoryDataplane } from './dataplane-memory.ts'
export type { MemoryWorld } from './dataplane-memory.ts'
export { clear, Lab, LabHost } from './lab.ts'
export type { Transit, Weather } from './lab.ts'
