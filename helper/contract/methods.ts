/**
 * The helper's methods, each one entry: who may call it, what goes down, what comes up. `schema.ts` holds the same table
 * as shapes to check with, `handlers.ts` as functions; a method that is missing there is a compile error.
 */
import type { Profile, ProfileDraft, ProfileId } from './profile.ts'
import type { Settings, SettingsChange } from './settings.ts'
import type { Snapshot } from './state.ts'

/** Raised when an older client would misread a newer helper, or the other way about. */
export const PROTOCOL_VERSION = 1

/** `member`: root, or whoever the group database lists in the helper's group. `stranger`: everyone else. */
export type Access = 'member' | 'stranger'

/** One method: the least access that it asks for, its parameters and its result, as they are on the wire. */
export interface Method<A extends Access, P, R> {
  readonly access: A
  readonly params: P
  readonly result: R
}

export interface Methods {
  /** The first call of every client: says who is speaking, and what the caller may do. */
  readonly hello: Method<'stranger', Hello, Welcome>
  /** The state now. Changes follow as notifications named `state`, each a whole Snapshot. */
  readonly state: Method<'stranger', Nothing, Snapshot>
  readonly 'profiles.add': Method<'member', ProfileDraft, Profile>
  /** The profiles that the caller may connect with. */
  readonly 'profiles.list': Method<'member', Nothing, readonly Profile[]>
  readonly 'profiles.rename': Method<'member', { readonly id: ProfileId; readonly name: string }, Profile>
  readonly 'profiles.remove': Method<'member', { readonly id: ProfileId }, null>
  /** Returns when the wish is accepted; how it goes is told by the state. Null: the only profile, or the last used. */
  readonly 'tunnel.connect': Method<
    'member',
    { readonly profile: ProfileId | null },
    { readonly profile: ProfileId }
  >
  readonly 'tunnel.disconnect': Method<'member', Nothing, null>
  readonly 'settings.read': Method<'member', Nothing, Settings>
  /** Changes all that are given, or none. */
  readonly 'settings.update': Method<'member', SettingsChange, Settings>
}

export type MethodName = keyof Methods
export type ParamsOf<M extends MethodName> = Methods[M]['params']
export type ResultOf<M extends MethodName> = Methods[M]['result']

/** A client's first words. */
export interface Hello {
  readonly protocol: number
}

export interface Welcome {
  readonly protocol: number
  /** Of Culvert, for a person. */
  readonly version: string
  readonly access: Access
  /** One sentence that says why a stranger is one, and what to do; null for a member. */
  readonly reason: string | null
}

/** Why a call failed. The message beside it is one sentence. */
export type HelperErrorCode =
  | 'not-running' // nobody listens at the socket
  | 'gone' // the helper went away, or closed the connection, before it answered
  | 'not-permitted' // the caller may not do this
  | 'bad-request' // the message is not what the method asks for
  | 'version' // helper and client do not speak the same protocol
  | 'unknown-profile'
  | 'name-taken'
  | 'in-use' // the profile is connected
  | 'not-available' // this version does not do that yet
  | 'bad-state' // a file of the helper's is not what it should be
  | 'failed' // anything else

/** The parameters of a method that has none. */
export type Nothing = Readonly<Record<string, never>>
