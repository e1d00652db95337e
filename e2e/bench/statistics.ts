/** What is said of several measurements of one thing: noise here comes in bursts, so the middle and the extremes, no means. */

export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

/** The spread of what was measured; null: nothing was. */
export function spread(values: readonly number[]): Spread | null {
  const sorted = values.toSorted((a, b) => a - b)
  const [min, max] = [sorted.at(0), sorted.at(-1)]
  if (min === undefined || max === undefined) return null
  const [below, above] = [Math.floor, Math.ceil].map((round) => sorted[round((sorted.length - 1) / 2)])
  return { median: ((below ?? NaN) + (above ?? NaN)) / 2, min, max }
}

/** Somebody's median of something. */
export interface Standing {
  readonly name: string
  readonly median: number
}

/** How `own` stands to the best of `peers`: over 1 is better, whichever way better is. Null: there is nobody to compare with. */
export function againstBest(
  own: number,
  peers: readonly Standing[],
  better: 'more' | 'less',
): { readonly against: string; readonly ratio: number } | null {
  const order = peers.toSorted((a, b) => (better === 'more' ? b.median - a.median : a.median - b.median))
  const [best] = order
  if (best === undefined) return null
  return { against: best.name, ratio: better === 'more' ? own / best.median : best.median / own }
}
