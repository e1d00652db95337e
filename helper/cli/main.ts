/** `culvert`: the command line. (`culvert rescue` never comes here: bin/culvert starts rescue.sh instead.) */
import { TunnelError } from '@culvert/tunnel'
import { Command, CommanderError, InvalidArgumentError } from 'commander'
import { connectHelper, HelperError, SOCKET_PATH, type HelperClient } from '../client.ts'
import { VERSION } from '../version.ts'
import { connect, disconnect } from './connect.ts'
import { UsageError } from './error.ts'
import { importProfile, listProfiles, removeProfile, renameProfile } from './profiles.ts'
import { readSettings, setSetting } from './settings.ts'
import { showStatus, watchStatus } from './status.ts'

async function main(argv: readonly string[]): Promise<number> {
  // A reader that has seen enough (`| head`) is no failure of ours.
  process.stdout.on('error', () => process.exit(0))
  try {
    await program().parseAsync(argv, { from: 'user' })
    return 0
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    if (!(error instanceof HelperError || error instanceof TunnelError || error instanceof UsageError))
      throw error
    console.error(`culvert: ${error.message}`)
    return error instanceof UsageError ? 2 : 1
  }
}

function program(): Command {
  const culvert = new Command('culvert')
    .description('Connects this machine through a Culvert or WireGuard server.')
    .version(VERSION)
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'culvert: ')) })
    .exitOverride()
    .addHelpText(
      'after',
      `
Also:
  rescue [--state DIR]               give the network back, whatever state Culvert left it in (as root)

CULVERT_SOCKET names the helper's socket (default: ${SOCKET_PATH}).
Exit status: 0 done, 1 failed, 2 used wrongly.`,
    )
  culvert
    .command('import <source>')
    .description('add a profile from a WireGuard .conf file, or from standard input ("-")')
    .option('--name <name>', 'what to call it (default: the name of the file)')
    .option('--shared', 'let everyone who may use the helper connect with it')
    .option('--without-hooks', 'leave PreUp, PostUp, PreDown and PostDown out; Culvert never runs them')
    .option('--json', 'print the profile as JSON, without its keys')
    .action((source: string, options: ImportOptions) =>
      call((client) => importProfile(client, source, options)),
    )
  culvert
    .command('list')
    .description('show the profiles')
    .option('--json', 'as JSON')
    .action((options: JsonOption) => call((client) => listProfiles(client, options)))
  culvert
    .command('rename <name> <new-name>')
    .description('give a profile another name')
    .action((name: string, to: string) => call((client) => renameProfile(client, name, to)))
  culvert
    .command('remove <name>')
    .description('forget a profile and its keys')
    .action((name: string) => call((client) => removeProfile(client, name)))
  culvert
    .command('connect [name]')
    .description('connect with a profile; without a name with the only one, or the last used')
    .option('--wait <seconds>', 'return when it is connected, or fail', seconds)
    .action((name: string | undefined, options: WaitOption) =>
      call((client) => connect(client, name ?? null, options.wait ?? null)),
    )
  culvert
    .command('disconnect')
    .description('end the tunnel and give the network back')
    .option('--wait <seconds>', 'return when that is done, or fail', seconds)
    .action((options: WaitOption) => call((client) => disconnect(client, options.wait ?? null)))
  culvert
    .command('status')
    .description('say how things stand')
    .option('--json', 'as JSON; with --watch one object a line')
    .option('--watch', 'say it again at every change')
    .action((options: JsonOption & { readonly watch?: true }) =>
      call((client) => (options.watch === true ? watchStatus(client, options) : showStatus(client, options))),
    )
  const settings = culvert.command('settings').description('show and change settings')
  settings
    .command('get [key]')
    .description('show one setting, or all')
    .option('--json', 'as JSON')
    .action((key: string | undefined, options: JsonOption) =>
      call((client) => readSettings(client, key ?? null, options)),
    )
  settings
    .command('set <key> <value>')
    .description('change a setting')
    .action((key: string, value: string) => call((client) => setSetting(client, key, value)))
  return culvert
}

interface JsonOption {
  readonly json?: true
}

interface WaitOption {
  readonly wait?: number
}

interface ImportOptions extends JsonOption {
  readonly name?: string
  readonly shared?: true
  /** Commander's reading of `--without-hooks`. */
  readonly withoutHooks?: true
}

/** Does something with a connection to the helper. */
async function call(work: (client: HelperClient) => Promise<void>): Promise<void> {
  const path = process.env['CULVERT_SOCKET'] ?? SOCKET_PATH
  await using client = await connectHelper(path, AbortSignal.timeout(CONNECT_WITHIN))
  await work(client)
}

function seconds(text: string): number {
  const value = Number(text)
  if (!/^\d+(\.\d+)?$/.test(text) || value > A_DAY) {
    throw new InvalidArgumentError('expected a number of seconds, at most a day.')
  }
  return value
}

const A_DAY = 86_400
/** Milliseconds. */
const CONNECT_WITHIN = 10_000

// Last: what main uses has to be there.
process.exitCode = await main(process.argv.slice(2))
