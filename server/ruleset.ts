/** The whole firewall of this machine, ours and others', as far as it matters here: chains, and how many rules they have. */
import type { Run } from '@culvert/tunnel'
import { z } from 'zod'

export interface ListedChain {
  readonly family: string
  readonly table: string
  readonly name: string
  /** Null: no base chain. */
  readonly hook: string | null
  readonly policy: string | null
  readonly rules: number
}

/** Asks nft(8). @throws TunnelError `no-privilege`: only root may look; `command-missing`. */
export async function listRuleset(run: Run): Promise<readonly ListedChain[]> {
  return parseRuleset(await run(['nft', '--json', '--terse', 'list', 'ruleset']))
}

/** Reads what `nft --json list ruleset` printed (libnftables-json(5)). */
export function parseRuleset(text: string): readonly ListedChain[] {
  const { nftables } = shape.parse(JSON.parse(text))
  return nftables.flatMap(({ chain }) => {
    if (chain === undefined) return []
    const { family, table, name, hook, policy } = chain
    const rules = nftables.filter(
      ({ rule }) => rule?.chain === name && rule.table === table && rule.family === family,
    ).length
    return [{ family, table, name, hook: hook ?? null, policy: policy ?? null, rules }]
  })
}

const shape = z.object({
  nftables: z.array(
    z.object({
      chain: z
        .object({
          family: z.string(),
          table: z.string(),
          name: z.string(),
          hook: z.string().optional(),
          policy: z.string().optional(),
        })
        .optional(),
      rule: z.object({ family: z.string(), table: z.string(), chain: z.string() }).optional(),
    }),
  ),
})
