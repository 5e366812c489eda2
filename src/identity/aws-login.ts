/** Login with AWS: from what was sent to a user of ours who is allowed in. */
import { z } from 'zod';
import type { Secret } from '../../actors/secret.ts';
import { userOfLogin } from '../../persistence/api-users.ts';
import { recordAudit } from '../../persistence/audit.ts';
import type { Database } from '../../persistence/database.ts';
import { spendSignature } from '../../persistence/login-requests.ts';
import { Problem } from '../errors.ts';
import { type AwsUser, awsUserOf } from './aws-identity.ts';
import { type Login, logIn, type Origin } from './login.ts';
import { forwardable, type SignedRequest } from './signed-request.ts';
import type { IdentitySettings } from './settings.ts';
import { askSts, type CallerIdentity, signingRegion, stsOf } from './sts.ts';

const Id = z.string().regex(/^[A-Z0-9]{16,128}$/, 'must be an AWS access key id');
/** Printable ASCII without spaces. */
const Printable = z.string().regex(/^[\x21-\x7e]+$/, 'must be printable characters without spaces');

/** The known body: the credentials themselves. */
export const AwsKeys = z.strictObject({
  aws_access_key_id: Id,
  aws_secret_access_key: Printable.min(40).max(128),
  aws_session_token: Printable.min(100).max(2_048).nullish(),
});
export type AwsKeys = z.infer<typeof AwsKeys>;

/** @throws Problem if no account may log in */
export function refuseIfOff({ accounts }: IdentitySettings['aws']): void {
  if (accounts.length > 0) return;
  throw new Problem('GPU_LOGIN_OFF', 'No AWS account may log in here: ALLOWED_AWS_ACCOUNTS is empty');
}

/**
 * Log in by a signed request.
 * @param localNames names of this service that the connection itself vouches for
 * @throws Problem that says why not
 */
export async function logInSigned(
  db: Database,
  settings: IdentitySettings,
  request: SignedRequest,
  localNames: readonly string[],
  origin: Omit<Origin, 'source'>,
): Promise<Login> {
  const { aws } = settings;
  refuseIfOff(aws);
  const serverIds = [...aws.serverIds, ...localNames];
  if (serverIds.length === 0) {
    throw new Problem('GPU_LOGIN_OFF', 'Signed requests are not accepted here: GPU_DEV_SERVER_ID is not set');
  }
  const { host, origin: sts } = stsOf(aws);
  const checked = forwardable(request, { host, region: signingRegion(aws), serverIds, now: Date.now() });
  const identity = await askSts(sts, checked);
  return enter(db, settings, identity, origin, { hash: checked.fingerprint, until: new Date(checked.validUntil) });
}

/**
 * Log in by the credentials themselves. They are held for one question to AWS, and go nowhere else.
 * @throws Problem that says why not
 */
export async function logInWithKeys(
  db: Database,
  settings: IdentitySettings,
  keys: Secret<AwsKeys>,
  origin: Omit<Origin, 'source'>,
): Promise<Login> {
  const { aws } = settings;
  refuseIfOff(aws);
  const { host, origin: sts } = stsOf(aws);
  const given = keys.reveal();
  // Few services ever need it, and it takes a while to load.
  const { signIdentityRequest } = await import('./sign.ts');
  const signed = await signIdentityRequest(
    {
      accessKeyId: given.aws_access_key_id,
      secretAccessKey: given.aws_secret_access_key,
      sessionToken: given.aws_session_token ?? undefined,
    },
    { host, region: signingRegion(aws), serverId: null },
  );
  const { method, headers, body } = signed;
  return enter(db, settings, await askSts(sts, { method, path: '/', headers, body: body ?? '' }), origin, null);
}

async function enter(
  db: Database,
  settings: IdentitySettings,
  identity: CallerIdentity,
  origin: Omit<Origin, 'source'>,
  signature: { hash: string; until: Date } | null,
): Promise<Login> {
  let user: AwsUser;
  try {
    user = awsUserOf(identity, settings.aws);
  } catch (error) {
    if (error instanceof Problem) await noteRefusal(db, identity, error, origin);
    throw error;
  }
  return db.withTransaction(async (tx) => {
    if (signature !== null && !(await spendSignature(tx, signature.hash, signature.until))) {
      throw new Problem('GPU_LOGIN_REPLAYED', 'This signed request has logged somebody in before');
    }
    const { account, username, arn: awsArn, atHome } = user;
    const row = await userOfLogin(tx, { account, username, awsArn, atHome });
    if (row === null) throw new Problem('GPU_NAME_TAKEN', `The name ${username}@${account} belongs to another user`);
    return logIn(tx, row, settings, { ...origin, source: 'aws' });
  });
}

/** Somebody whom AWS knows, and who may not come in. */
async function noteRefusal(
  db: Database,
  identity: CallerIdentity,
  problem: Problem,
  origin: Omit<Origin, 'source'>,
): Promise<void> {
  await recordAudit(db, {
    actor: identity.arn,
    door: 'http',
    action: 'user.login_refused',
    object: `account/${identity.account}`,
    details: { code: problem.code },
    ...origin,
  });
}
