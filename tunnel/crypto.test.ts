import { memoryPrimitives } from './crypto-memory.ts'
import { holdsVectors } from './crypto-vectors.ts'
import { nativePrimitives } from './native/index.ts'

holdsVectors('node:crypto and noble', memoryPrimitives)
holdsVectors('the addon', nativePrimitives)
