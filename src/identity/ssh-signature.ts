/**
 * Signatures as `ssh-keygen -Y sign` writes them (PROTOCOL.sshsig of OpenSSH), with Ed25519, ECDSA and RSA keys. A signature counts only for
 * the namespace that it was made for, so that none that was made for something else can be used here.
 */
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';

const MAGIC = Buffer.from('SSHSIG');
const LONGEST = 16 * 1024;
const SMALLEST_RSA_BITS = 2_048;

/** The text is no signature that can be checked here; the message says why. */
export class SignatureError extends Error {
  override readonly name = 'SignatureError';
}

/** Reads the parts of which SSH's formats are made. */
class Reader {
  #rest: Buffer;
  constructor(bytes: Buffer) {
    this.#rest = bytes;
  }
  take(length: number): Buffer {
    if (length > this.#rest.length) throw new SignatureError('it is cut off');
    const part = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return part;
  }
  number(): number {
    return this.take(4).readUInt32BE(0);
  }
  string(): Buffer {
    return this.take(this.number());
  }
  text(): string {
    return this.string().toString('latin1');
  }
  end(): void {
    if (this.#rest.length > 0) throw new SignatureError('something follows it');
  }
}

const CURVES: Record<string, { crv: string; size: number; hash: string }> = {
  nistp256: { crv: 'P-256', size: 32, hash: 'sha256' },
  nistp384: { crv: 'P-384', size: 48, hash: 'sha384' },
  nistp521: { crv: 'P-521', size: 66, hash: 'sha512' },
};

/**
 * Whether `armored` is a signature of `message` for `namespace` by one of these public keys.
 * @param keys lines as in authorized_keys
 * @throws SignatureError if it is no signature, or of a kind that is not accepted
 */
export function isSignedBy(keys: readonly string[], armored: string, message: string, namespace: string): boolean {
  const { publicKey, namespace: of, hash, signature } = unpack(armored);
  if (of !== namespace) throw new SignatureError(`it was made for "${of.slice(0, 40)}", not for "${namespace}"`);
  const known = keys.some((line) => Buffer.from(line.split(/\s+/)[1] ?? '', 'base64').equals(publicKey));
  if (!known) return false;
  const digest = createHash(hash).update(message).digest();
  const signed = Buffer.concat([MAGIC, packed(namespace), packed(''), packed(hash), packed(digest)]);
  return checks(publicKey, signature, signed);
}

function unpack(armored: string): { publicKey: Buffer; namespace: string; hash: string; signature: Buffer } {
  const [, base64] =
    /^\s*-----BEGIN SSH SIGNATURE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END SSH SIGNATURE-----\s*$/.exec(
      armored.slice(0, LONGEST),
    ) ?? [];
  if (base64 === undefined) throw new SignatureError('it is no SSH SIGNATURE block');
  const reader = new Reader(Buffer.from(base64, 'base64'));
  if (!reader.take(MAGIC.length).equals(MAGIC) || reader.number() !== 1)
    throw new SignatureError('it is of a version that is not known');
  const publicKey = reader.string();
  const namespace = reader.text();
  const reserved = reader.text();
  const hash = reader.text();
  const signature = reader.string();
  reader.end();
  if (reserved !== '') throw new SignatureError('it holds something that is not known');
  if (hash !== 'sha256' && hash !== 'sha512') throw new SignatureError('its hash is neither sha256 nor sha512');
  return { publicKey, namespace, hash, signature };
}

function checks(publicKey: Buffer, signature: Buffer, signed: Buffer): boolean {
  const key = new Reader(publicKey);
  const reader = new Reader(signature);
  const type = key.text();
  const algorithm = reader.text();
  const value = reader.string();
  reader.end();
  if (type === 'ssh-ed25519') {
    if (algorithm !== type) return false;
    const x = key.string();
    key.end();
    return verify(null, signed, publicKeyOf({ kty: 'OKP', crv: 'Ed25519', x: x.toString('base64url') }), value);
  }
  if (type === 'ssh-rsa') {
    const hash = { 'rsa-sha2-256': 'sha256', 'rsa-sha2-512': 'sha512' }[algorithm];
    if (hash === undefined) throw new SignatureError('an RSA key must sign with rsa-sha2-256 or rsa-sha2-512');
    const [e, n] = [unsigned(key.string()), unsigned(key.string())];
    key.end();
    if (n.length * 8 < SMALLEST_RSA_BITS) throw new SignatureError(`an RSA key must have ${SMALLEST_RSA_BITS} bits or more`);
    return verify(hash, signed, publicKeyOf({ kty: 'RSA', n: n.toString('base64url'), e: e.toString('base64url') }), value);
  }
  const curve = /^ecdsa-sha2-/.test(type) ? CURVES[key.text()] : undefined;
  if (curve === undefined)
    throw new SignatureError(`keys of the type ${type.slice(0, 40)} are not accepted here; use Ed25519, ECDSA or RSA`);
  if (algorithm !== type) return false;
  return ecdsa(key, curve, value, signed);
}

function ecdsa(key: Reader, { crv, size, hash }: (typeof CURVES)[string], value: Buffer, signed: Buffer): boolean {
  const point = key.string();
  key.end();
  if (point.length !== 1 + 2 * size || point[0] !== 4) throw new SignatureError('its key is not a point of its curve');
  const [x, y] = [point.subarray(1, 1 + size), point.subarray(1 + size)];
  const numbers = new Reader(value);
  const parts = [unsigned(numbers.string()), unsigned(numbers.string())];
  numbers.end();
  if (parts.some((part) => part.length > size)) return false;
  const raw = Buffer.concat(parts.map((part) => Buffer.concat([Buffer.alloc(size - part.length), part])));
  const jwk = { kty: 'EC', crv, x: x.toString('base64url'), y: y.toString('base64url') };
  return verify(hash, signed, { key: publicKeyOf(jwk), dsaEncoding: 'ieee-p1363' }, raw);
}

function publicKeyOf(jwk: Record<string, string>): KeyObject {
  try {
    return createPublicKey({ key: jwk, format: 'jwk' });
  } catch {
    throw new SignatureError('its key cannot be read');
  }
}

/** A number without the zeros that only keep it positive. */
function unsigned(number: Buffer): Buffer {
  const first = number.findIndex((byte) => byte !== 0);
  return first < 0 ? Buffer.alloc(0) : number.subarray(first);
}

function packed(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value as string);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}
