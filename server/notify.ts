/**
 * sd_notify(3). The protocol is one datagram to a Unix socket, and Node has no Unix datagram sockets: systemd's own
 * systemd-notify(1) sends it. As root it speaks in our name, so that `NotifyAccess=main` is enough; a unit without
 * CAP_SYS_ADMIN needs `NotifyAccess=all`.
 */
import { spawn } from 'node:child_process'
import type { Logger } from 'pino'

export type ServiceState = 'READY=1' | 'STOPPING=1'

/** Tells systemd; does nothing when it did not start us, and never fails: nothing depends on it but systemd's patience. */
export function notifySystemd(state: ServiceState, log: Logger): Promise<void> {
  const socket = process.env['NOTIFY_SOCKET']
  if (socket === undefined || socket === '') return Promise.resolve()
  return new Promise((resolve) => {
    const child = spawn('/usr/bin/systemd-notify', [state], {
      stdio: 'ignore',
      env: { NOTIFY_SOCKET: socket },
      timeout: TIMEOUT,
    })
    child.on('error', (error) => {
      log.warn({ error: error.message }, 'systemd could not be told')
      resolve()
    })
    child.on('close', (status) => {
      if (status !== 0) log.warn({ status }, 'systemd could not be told')
      resolve()
    })
  })
}

/** Milliseconds: systemd-notify waits until systemd has read the message, and serving must not wait with it for long. */
const TIMEOUT = 2000
