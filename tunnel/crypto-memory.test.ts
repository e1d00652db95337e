import { memoryPrimitives } from './crypto-memory.ts'
import { holdsVectors } from './crypto-vectors.ts'

holdsVectors('node:crypto and noble', memoryPrimitives)
