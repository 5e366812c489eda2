/** How people and programs show who they are to this service. */
import type { KeySource } from '../../actors/reservation/ports.ts';

/** Login with an identity of AWS. */
export interface AwsLoginSettings {
  /** Accounts whose users may log in; users of the first own by their plain name. Empty: nobody may. */
  accounts: readonly string[];
  /** Names of roles, exactly as they stand in the ARN. */
  roles: readonly string[];
  region: string;
  /** Ask the global endpoint instead of the region's. */
  globalEndpoint: boolean;
  /** Another place than AWS's, for tests; null for AWS. */
  endpoint: string | null;
  /** Names of this service, one of which a signed request must bear. */
  serverIds: readonly string[];
  /** Whether secret access keys are accepted as well. */
  acceptKeys: boolean;
}

export interface IdentitySettings {
  /** Local mode: whoever comes over the loopback address is believed who they are. */
  local: boolean;
  /** Users who are admins. */
  admins: readonly string[];
  /** Life of a key, in hours. */
  keyTtlHours: number;
  /** Keys of one user that may be used at the same time. */
  keysPerUser: number;
  aws: AwsLoginSettings;
  /** Public SSH keys as they are now, by GitHub name; null where that cannot be asked. */
  proofKeys: KeySource | null;
}

/** The settings of a service of which nothing was said. */
export const DEFAULT_IDENTITY: IdentitySettings = {
  local: false,
  admins: [],
  keyTtlHours: 2,
  keysPerUser: 50,
  aws: {
    accounts: [],
    roles: ['SSOCloudDevGpuReservation'],
    region: 'us-east-1',
    globalEndpoint: false,
    endpoint: null,
    serverIds: [],
    acceptKeys: true,
  },
  proofKeys: null,
};
