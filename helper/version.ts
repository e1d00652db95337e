import manifest from './package.json' with { type: 'json' }

/** Culvert's version, as `--version` and `hello` say it. */
export const VERSION: string = manifest.version
