/** Logging in with an identity of AWS: the request that tells it is signed here, and nothing secret leaves this machine. */
import type { LoginAnswer } from './session.ts';
import { CliError, EXIT } from './exit.ts';
import type { Surroundings } from './surroundings.ts';

/** Log in with the credentials that the AWS tools would use. @throws CliError */
export async function signedLogin(_base: URL, _surroundings: Surroundings): Promise<LoginAnswer> {
  throw new CliError(EXIT.failed, 'not yet');
}
