/** The door for code without Node, a renderer included: addresses, keys and the formats that people paste. */
export {
  addressOf,
  contains,
  familyOf,
  formatEndpoint,
  formatIp,
  ipBytes,
  isDefaultRoute,
  isIp,
  networkOf,
  parseCidr,
  parseEndpoint,
  parseHostName,
  parseInterfaceAddress,
  parseIp,
  parsePort,
  prefixLengthOf,
} from './address.ts'
export type { Cidr, Endpoint, Family, InterfaceAddress, IpAddress, Port, SocketAddress } from './address.ts'
export { TunnelError } from './error.ts'
export type { TunnelErrorCode } from './error.ts'
export { formatPublicKey, parsePublicKey, publicKeyBytes, Secret } from './key.ts'
export type { PublicKey } from './key.ts'
export { formatWgQuick, parseWgQuick } from './wg-quick.ts'
export type { ParsedConf, Refused, WgQuickConf, WgQuickPeer } from './wg-quick.ts'
export type { Chain, Hook, NamedSet, Table, TableName } from './host/nft.ts'
