/** The door for whoever speaks with the helper, a renderer included: types and plain constants, nothing that runs. */
export { PROTOCOL_VERSION } from './methods.ts'
export type {
  Access,
  Hello,
  HelperErrorCode,
  Method,
  MethodName,
  Methods,
  ParamsOf,
  ResultOf,
  Welcome,
} from './methods.ts'
export type { PeerConfig, PeerDraft, Profile, ProfileDraft, ProfileId } from './profile.ts'
export { availableSettings, defaultSettings } from './settings.ts'
export type { CarrierChoice, KillSwitch, Settings, SettingsChange } from './settings.ts'
export type {
  CarrierId,
  FailCause,
  FullSnapshot,
  Outline,
  Snapshot,
  Stage,
  Traffic,
  TunnelState,
} from './state.ts'
