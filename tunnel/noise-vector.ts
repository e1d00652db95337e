/**
 * A whole handshake by wireguard-go (golang.zx2c4.com/wireguard v0.0.0-20260522210424-ecfc5a8d5446): its own noise and
 * cookie code, with newPrivateKey, randUint32 and tai64n.Now replaced by the fixed values below.
 */
export const wireguardGo = {
  hex,
  initiatorPrivate: run(0x10),
  responderPrivate: run(0x50),
  initiatorEphemeral: run(0x80),
  responderEphemeral: run(0xb0),
  presharedKey: run(0xc0),
  initiatorIndex: 0x01020304,
  responderIndex: 0xa0b0c0d0,
  initiatorPublic: hex('d89e3bad79437dbed9f843418304f460ff05c7fe81fe4a9577a804cb9367ff66'),
  responderPublic: hex('392d174a38b3b1beafaf1fe824870841c5fa531bc6eafdb6402c124664488c1c'),
  /** Of 1700000000 s and 123456789 ns. */
  timestamp: hex('400000006553f10a07000000'),
  /** With mac1. */
  initiation: hex(
    '0100000004030201493e82fc74464a59268817623d2053c5eb8e2cc4a988b4fee179ec6b010d531d1e7c6f1288c303cc' +
      '3a4ce87454ff413f2239a302a564b0794c05b87e6a029afa0e308c71b898154740b9d6902a1f451d049d35eaaf3499d7' +
      '2304b970ad291fa507bbe6d2cf865548187fd613002ff2265726a07dda35d4fc61597172000000000000000000000000' +
      '00000000',
  ),
  /** With mac1. */
  response: hex(
    '02000000d0c0b0a0040302013f3e5f6d86926c9c128cf84581574f96840d98ee5ab53b1ec3b76e2bb25b945ef5843c3d' +
      'c5148b5e2aa74b6e0abc48dc9ab8560678bbd0ef53fb8b1e0006627f00000000000000000000000000000000',
  ),
  /** The responder's cookie secret, its reply to the initiation from 192.0.2.1:4660, and the cookie sealed in it. */
  cookieSecret: hex('ecc8bc535e4cfa8322128baa33d3104fe1604d2d3cc477f027c75e8b703712fe'),
  cookieReply: hex(
    '03000000040302019aa769c350e8af5b5f20414dfb41592387446a3137c0a80a61315723b2f72add9e2b06b8ab231a22' +
      '12009ad403bab482a6524ff995c09de0',
  ),
  cookie: hex('7afc6eb12af0af1501f3f3466ec3ddbe'),
  /** mac2 of the same initiation, with that cookie. */
  mac2: hex('e46140c8ddb174e33d7ae369c4e4626a'),
  initiatorSend: hex('6450c235c3cf4fe635d31adce1cd9bd74f898948dfc74c03742f0ab752bcfd62'),
  initiatorReceive: hex('779316d66ca2ac8017a8e3a2552cf9ae442f885bf0eb3eaef5ce8cd150eddc2f'),
  /** 'a packet, padded' under initiatorSend and counter 7. */
  sealed7: hex('12d3018b8ab5f04a9fc2e44c617288483d1e473562c723f8552cf87e076168dc'),
}

function hex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16))
}

/** 32 bytes that count up from `first`. */
function run(first: number): Uint8Array {
  return Uint8Array.from({ length: 32 }, (_, i) => (first + i) & 0xff)
}
