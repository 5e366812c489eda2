/**
 * Lines of authorized_keys: which are public keys, of every type that OpenSSH takes. Certificates are none: among keys they open nothing,
 * and to trust who signed them would open the server to everybody whom that one signs. DSA is gone from OpenSSH.
 */

const TYPES = /^(ssh-(rsa|ed25519)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)$/;

/**
 * The public keys of a text, one a line, without their options: an option of a foreign line could run a command.
 * Comments stay, stripped of control characters. Duplicates are dropped.
 */
export function publicKeys(text: string): string[] {
  const keys = text.split(/\r?\n/).flatMap((line) => {
    const [type = '', body = '', ...comment] = line.trim().split(/\s+/);
    if (!TYPES.test(type) || !isKeyOf(type, body)) return [];
    // biome-ignore lint/suspicious/noControlCharactersInRegex: exactly these must not reach a terminal.
    return [[type, body, ...comment].join(' ').replace(/[\u0000-\u001f\u007f]/g, '')];
  });
  return [...new Set(keys)];
}

/** The base64 begins with the length and name of the key's own type: that catches cut and mixed-up lines. */
function isKeyOf(type: string, body: string): boolean {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(body)) return false;
  const bytes = Buffer.from(body, 'base64');
  if (bytes.length < 8) return false;
  const length = bytes.readUInt32BE(0);
  return bytes.subarray(4, 4 + length).toString('latin1') === type;
}
