/**
 * The settings: their fields, what they are to begin with, and what this version carries out. A value that the code does
 * not carry out yet is refused by name, so that no setting says something that is not so.
 */
import type { ProfileId } from './profile.ts'
import type { CarrierId } from './state.ts'

/**
 * What happens to traffic outside the tunnel. `off`: nothing. `session`: blocked from connect to disconnect, whatever
 * breaks between. `lockdown`: blocked whenever the tunnel is not up, from boot on.
 */
export type KillSwitch = 'off' | 'session' | 'lockdown'

/** A carrier to use and no other, or how to choose: `fast` tries the quickest first, `quiet` the least conspicuous. */
export type CarrierChoice = 'fast' | 'quiet' | CarrierId

export interface Settings {
  readonly killSwitch: KillSwitch
  /** Whether the local network can be reached while the tunnel is up. */
  readonly allowLan: boolean
  /** The profile that the helper connects when it starts; null: none. */
  readonly autoConnect: ProfileId | null
  /** A profile from a .conf file speaks plain WireGuard, so `fast` means `udp` for it. */
  readonly carrier: CarrierChoice
}

/** Some settings and their new values. */
export type SettingsChange = Partial<Settings>

/** The settings of a new installation, among what this version carries out. */
export const defaultSettings: Settings = {
  killSwitch: 'off',
  allowLan: true,
  autoConnect: null,
  carrier: 'fast',
}

/** What this version carries out, setting by setting; null: every value that its type allows. */
export const availableSettings: {
  readonly [K in keyof Settings]: readonly Settings[K][] | null
} = {
  killSwitch: ['off'],
  allowLan: [true],
  autoConnect: null,
  carrier: ['fast', 'udp'],
}
