/** Published vectors for every primitive, as one suite: `holdsVectors(name, primitives)`. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Primitives } from './crypto.ts'

/** Declares the tests of one implementation of the primitives. */
export function holdsVectors(name: string, primitives: Primitives): void {
  describe(`the primitives of ${name}`, () => {
    it('agree on a secret as Alice and Bob do in RFC 7748, 6.1', () => {
      const alice = hex('77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a')
      const bob = hex('5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb')
      const alicePublic = hex('8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a')
      const bobPublic = hex('de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f')
      const shared = hex('4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742')
      assert.deepEqual(
        [
          primitives.publicKey(alice),
          primitives.publicKey(bob),
          primitives.x25519(alice, bobPublic),
          primitives.x25519(bob, alicePublic),
        ],
        [alicePublic, bobPublic, shared, shared],
      )
    })

    it('multiply as RFC 7748, 5.2 says, the top bit of a point ignored', () => {
      const product = primitives.x25519(
        hex('4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d'),
        hex('e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493'),
      )
      assert.deepEqual(product, hex('95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957'))
    })

    it('refuse every point of low order (https://cr.yp.to/ecdh.html#validate)', () => {
      const privateKey = Uint8Array.from({ length: 32 }, (_, i) => i)
      const points = [
        '0000000000000000000000000000000000000000000000000000000000000000',
        '0100000000000000000000000000000000000000000000000000000000000000',
        'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
        '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
        'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
        'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
        'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
      ]
      assert.deepEqual(
        points.map((point) => primitives.x25519(privateKey, hex(point))),
        points.map(() => null),
      )
    })

    it('hash as RFC 7693, appendix B, and the reference implementation do', () => {
      assert.deepEqual(
        [primitives.hash(), primitives.hash(ascii('a'), ascii(''), ascii('bc'))],
        [
          hex('69217a3079908094e11121d042354a7c1f55b6482ca1a51e1b250dfd1ed0eef9'),
          hex('508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982'),
        ],
      )
    })

    // 128-bit keyed BLAKE2s has no table of its own in RFC 7693: from CPython's hashlib.blake2s, the reference code.
    it('authenticate as keyed BLAKE2s-128 does', () => {
      const key = count(32)
      assert.deepEqual(
        [primitives.mac(key, count(100), count(255).subarray(100)), primitives.mac(key.subarray(0, 16))],
        [hex('cd075928ab7e6883e697fe7fd3ac43ee'), hex('af4e5d3bb230e9ff9096ca6f7c501f76')],
      )
    })

    // From CPython's hmac over hashlib.blake2s.
    it('compute HMAC-BLAKE2s as RFC 2104 defines it', () => {
      assert.deepEqual(
        [primitives.hmac(count(32), count(40), count(64).subarray(40)), primitives.hmac(count(0))],
        [
          hex('3b35e945d05ac982850451ac8b6cdfffb98e56f50b95272fab665de081691056'),
          hex('eaf4bb25938f4d20e72656bbbc7a9bf63c0c18537333c35bdb67db1402661acd'),
        ],
      )
    })

    it('seal and open as ChaCha20-Poly1305 does in RFC 8439, A.5', () => {
      const key = hex('1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0')
      const associated = hex('f33388860000000000004e91')
      const counter = 0x0807060504030201n
      const sealed = primitives.seal(key, counter, rfc8439Plaintext, associated)
      assert.deepEqual(sealed, rfc8439Sealed)
      assert.deepEqual(primitives.open(key, counter, sealed, associated), rfc8439Plaintext)
      assert.equal(primitives.open(key, counter + 1n, sealed, associated), null)
      assert.equal(primitives.open(key, counter, sealed, count(0)), null)
      assert.equal(primitives.open(key, counter, flipped(sealed), associated), null)
      assert.equal(primitives.open(key, counter, sealed.subarray(0, 15), associated), null)
    })

    it('seal and open as XChaCha20-Poly1305 does in draft-irtf-cfrg-xchacha-03, A.3.1', () => {
      const key = count(160).subarray(128)
      const nonce = count(88).subarray(64)
      const associated = hex('50515253c0c1c2c3c4c5c6c7')
      const plaintext = ascii(
        "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
      )
      const sealed = primitives.xseal(key, nonce, plaintext, associated)
      assert.deepEqual(sealed, xchachaSealed)
      assert.deepEqual(primitives.xopen(key, nonce, sealed, associated), plaintext)
      assert.equal(primitives.xopen(key, nonce, flipped(sealed), associated), null)
      assert.equal(primitives.xopen(key, nonce, sealed, count(0)), null)
    })

    it('draw as many random bytes as they are asked for, never the same', () => {
      const draws = [primitives.random(32), primitives.random(32)]
      assert.deepEqual(
        draws.map((draw) => draw.length),
        [32, 32],
      )
      assert.notDeepEqual(draws[0], draws[1])
    })
  })
}

function hex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16))
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0))
}

function count(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => i)
}

function flipped(bytes: Uint8Array): Uint8Array {
  return bytes.with(0, (bytes[0] ?? 0) ^ 1)
}

const rfc8439Plaintext = new TextEncoder().encode(
  'Internet-Drafts are draft documents valid for a maximum of six months and may be updated, replaced, or obsoleted by ' +
    'other documents at any time. It is inappropriate to use Internet-Drafts as reference material or to cite them other ' +
    'than as /\u201cwork in progress./\u201d',
)
const rfc8439Sealed = hex(
  '64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0' +
    'bdb7b73c321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c855' +
    '9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e9' +
    '9040c5a40433225ee282a1b0a06c523eaf4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a' +
    '0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130' +
    '305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709beead9d67890cbb22392336fea1851f38',
)
const xchachaSealed = hex(
  'bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39' +
    'ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9' +
    '21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49',
)
