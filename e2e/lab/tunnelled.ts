/** The lab with Culvert in it: a server that serves, a device of it, and a client whose helper has the profile `home`. */
import { addresses, names, openLab, type Lab } from '../lab.ts'
import { addDevice, importConf, mustCulvert, startHelper, startServer } from './culvert.ts'
import type { Program } from './program.ts'

export interface Tunnelled extends AsyncDisposable {
  readonly lab: Lab
  readonly server: Program
  readonly helper: Program
  /** The .conf that the server made and the client imported. */
  readonly conf: string
}

/** What a client reaches through the tunnel, and whose address the website sees when it does. */
export const families = [
  {
    family: 4,
    url: `http://${addresses.website.v4}`,
    site: addresses.website.v4,
    server: addresses.server.v4,
  },
  {
    family: 6,
    url: `http://[${addresses.website.v6}]`,
    site: addresses.website.v6,
    server: addresses.server.v6,
  },
] as const

export async function openTunnelled(endpoint: string = names.server): Promise<Tunnelled> {
  await using stack = new AsyncDisposableStack()
  const lab = stack.use(await openLab())
  const server = await startServer(lab.server, endpoint)
  const conf = await addDevice(lab.server, 'anna')
  const helper = await startHelper(lab.client)
  await importConf(lab.client, lab.folder, 'home', conf)
  const open = stack.move()
  return { lab, server, helper, conf, [Symbol.asyncDispose]: () => open.disposeAsync() }
}

/** Connects as a user does, and does not come back before it is up. */
export async function connect(lab: Lab, ...profile: readonly string[]): Promise<void> {
  await mustCulvert(lab.client, ['connect', ...profile, '--wait', '10'])
}

export async function disconnect(lab: Lab): Promise<void> {
  await mustCulvert(lab.client, ['disconnect', '--wait', '10'])
}
