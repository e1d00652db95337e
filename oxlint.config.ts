/**
 * Lint, and the law of who may import whom (ARCHITECTURE.md, "The doors"). An import that is not on a folder's list is
 * an error, so that the drawing cannot drift from the code. A later override replaces an earlier one whole: each list
 * below is complete.
 */
import { defineConfig } from 'oxlint'

const folders = ['tunnel', 'helper', 'server', 'app', 'build', 'e2e'] as const
type Folder = (typeof folders)[number]

/** What production code of a folder may import besides `node:` and its own files. */
const allowed: Readonly<Record<Folder, readonly string[]>> = {
  tunnel: [],
  helper: [
    '@culvert/tunnel',
    '@culvert/tunnel/pure',
    'commander',
    'dns-packet',
    'pino',
    'vscode-jsonrpc',
    'zod',
  ],
  server: ['@culvert/tunnel', '@culvert/tunnel/pure', 'commander', 'pino', 'qrcode', 'smol-toml', 'zod'],
  app: ['@culvert/helper/contract', '@culvert/helper/schema', '@culvert/helper/client'],
  build: [],
  e2e: [
    '@culvert/helper/contract',
    '@culvert/helper/schema',
    '@culvert/helper/client',
    '@culvert/tunnel',
    '@culvert/tunnel/pure',
    '@culvert/tunnel/testing',
  ],
}

/**
 * Node cannot mark a socket, and an unmarked one would go into the tunnel or past it: the helper resolves and connects
 * through descriptors that the addon made and marked.
 */
const unmarked: Readonly<Partial<Record<Folder, readonly string[]>>> = {
  helper: ['node:dns', 'node:dns/*', 'node:http', 'node:https', 'node:http2', 'node:tls'],
}

/** What tests and twins may import as well. */
const testing = ['fast-check', '@noble/hashes', '@noble/ciphers', '@culvert/tunnel/testing']

/** No I/O, no clock, no entropy, so no `node:` either: nearly everything that can be wrong about security is here. */
const pure = [
  'tunnel/{pure,address,key,error,crypto,dataplane,wg-quick,wire,noise,tai64n,cookie,peer,device,replay}.ts',
  'tunnel/{allowed-ips,keypair,gate,dataplane-memory}.ts',
  'helper/{machine,plan}.ts',
  'helper/contract/*.ts',
  'helper/host/firewall.ts',
  'server/nat.ts',
]

export default defineConfig({
  plugins: ['typescript', 'import', 'unicorn', 'oxc', 'promise', 'node'],
  categories: { correctness: 'error', suspicious: 'error' },
  ignorePatterns: ['tunnel/native/target/**', 'dist/**'],
  rules: {
    eqeqeq: 'error',
    'max-lines': ['error', { max: 700 }],
    'no-console': 'off',
    'import/no-cycle': 'error',
    'import/no-default-export': 'error',
    'import/no-duplicates': 'error',
    'typescript/no-explicit-any': 'error',
    'typescript/no-non-null-assertion': 'error',
    'typescript/ban-ts-comment': 'error',
    'typescript/consistent-type-imports': 'error',
    'typescript/no-import-type-side-effects': 'error',
    'typescript/no-misused-promises': 'error',
    'typescript/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: false }],
    'typescript/only-throw-error': 'error',
    'typescript/return-await': 'error',
    // `describe` and `it` of node:test give promises that the runner itself awaits.
    'typescript/no-floating-promises': [
      'error',
      {
        allowForKnownSafeCalls: [
          { from: 'package', name: ['describe', 'it', 'test', 'before', 'after'], package: 'node:test' },
        ],
      },
    ],
    // They fight exhaustive switches and brands.
    'typescript/consistent-return': 'off',
    'typescript/no-unsafe-type-assertion': 'off',
    // Sequential work is often what is meant: rules, commands and retries have an order.
    'no-await-in-loop': 'off',
    'no-shadow': 'off',
    'unicorn/no-array-sort': 'off',
    'unicorn/consistent-function-scoping': 'off',
    'import/no-unassigned-import': 'off',
    'import/no-named-as-default-member': 'off',
    // `Primitives` are functions that happen to sit in an object.
    'typescript/unbound-method': 'off',
  },
  overrides: [
    ...folders.flatMap((folder) => [
      { files: [`${folder}/**/*.ts`], rules: imports(folder, allowed[folder], 'node') },
      {
        files: [`${folder}/**/*.test.ts`, `${folder}/**/{testing,conformance,crypto-memory,subject}.ts`],
        rules: imports(folder, [...allowed[folder], ...testing], 'node'),
      },
    ]),
    ...pure.map((files) => ({
      files: [files],
      rules: imports(
        files.split('/')[0] as Folder,
        files.startsWith('tunnel') ? [] : ['@culvert/tunnel/pure'],
        'pure',
      ),
    })),
    {
      files: ['helper/**/*.ts', 'tunnel/**/*.ts'],
      rules: { 'no-restricted-globals': ['error', 'fetch', 'WebSocket'] },
    },
    { files: ['oxlint.config.ts'], rules: { 'import/no-default-export': 'off' } },
  ],
})

/** The one rule, as a positive list: everything, but for what is named. */
function imports(folder: Folder, names: readonly string[], runtime: 'node' | 'pure') {
  const node = runtime === 'node' ? ['!node:*', '!node:*/**', ...(unmarked[folder] ?? [])] : []
  const listed = names.flatMap((name) => {
    const parts = name.split('/')
    return parts
      .map((_, i) => `!${parts.slice(0, i + 1).join('/')}`)
      .concat(name.startsWith('@culvert') ? [] : [`!${name}/**`])
  })
  const others = folders.filter((other) => other !== folder)
  return {
    'no-restricted-imports': [
      'error',
      {
        patterns: [
          {
            regex: `^(\\.\\./)+(${others.join('|')})/`,
            message: "A relative path does not leave its folder: use the other folder's door.",
          },
          {
            group: ['*', '!./**', '!../**', ...node, ...listed],
            message: `${folder} may not import this: see "The doors" in ARCHITECTURE.md and oxlint.config.ts.`,
          },
        ],
      },
    ],
  } as const
}
