/** Who an identity of AWS is here, and whether they may log in. */
import { Problem } from '../errors.ts';
import type { AwsLoginSettings } from './settings.ts';
import type { CallerIdentity } from './sts.ts';

export interface AwsUser {
  account: string;
  username: string;
  arn: string;
  /** Users of the first account own by their plain name. */
  atHome: boolean;
}

const ASSUMED_ROLE = /^arn:aws(?:-cn|-us-gov)?:sts::(\d{12}):assumed-role\/([\w+=,.@-]{1,64})\/([^/]+)$/;
const USERNAME = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/;

/**
 * The user of an identity.
 * @throws Problem if the account or the role is not allowed, or the session's name cannot be a user name
 */
export function awsUserOf({ account, arn }: CallerIdentity, { accounts, roles }: AwsLoginSettings): AwsUser {
  const [, inArn, role, session] = ASSUMED_ROLE.exec(arn) ?? [];
  if (!accounts.includes(account) || (inArn !== undefined && inArn !== account)) {
    throw new Problem('GPU_ACCOUNT_NOT_ALLOWED', `Users of the AWS account ${account} may not log in here`);
  }
  if (role === undefined || session === undefined) {
    throw new Problem(
      'GPU_ROLE_NOT_ALLOWED',
      `Log in with the role ${roles.join(' or ')}, not as a user or as the account itself`,
    );
  }
  if (!roles.includes(role)) {
    throw new Problem('GPU_ROLE_NOT_ALLOWED', `The role ${role} may not log in here; use ${roles.join(' or ')}`);
  }
  // A name that ends like the ones of users of other accounts could be taken for one.
  if (!USERNAME.test(session) || /@\d{12}$/.test(session)) {
    throw new Problem(
      'GPU_LOGIN_REFUSED',
      'The session name must be 1 to 64 letters, digits and . _ @ -, and not end with an account id',
    );
  }
  return { account, username: session, arn, atHome: account === accounts[0] };
}
