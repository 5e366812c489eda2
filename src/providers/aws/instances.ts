/** Which EC2 instance a node of the cluster is. */
import type { KubernetesClient } from '../kubernetes/client.ts';
import { attempt } from '../kubernetes/errors.ts';
import type { Ec2 } from './ec2.ts';
import { allOf } from './pages.ts';

/** `aws:///us-east-2a/i-0abc`: how the cloud's controller names the machine of a node. */
const PROVIDER_ID = /^aws:\/\/\/?[^/]*\/(i-[0-9a-f]+)$/;

/** The instance that the node says it is; null if it does not say. */
export function instanceIn(providerId: string | undefined): string | null {
  return PROVIDER_ID.exec(providerId ?? '')?.[1] ?? null;
}

/**
 * Instance of the node, by its own word, else by its name in DNS.
 * @throws KubernetesError, AwsError; Error if EC2 knows none, or more than one
 */
export async function instanceOf(client: KubernetesClient, ec2: Ec2, node: string): Promise<string> {
  const { spec } = await attempt(`reading node ${node}`, () => client.core.readNode({ name: node }));
  const said = instanceIn(spec?.providerID);
  if (said !== null) return said;
  const ids = await allOf(async (NextToken) => {
    const page = await ec2.service.call(
      `looking for the instance of node ${node}`,
      ({ client: sender, sdk }, abortSignal) =>
        sender.send(
          new sdk.DescribeInstancesCommand({
            Filters: [
              { Name: 'private-dns-name', Values: [node] },
              { Name: 'instance-state-name', Values: ['pending', 'running'] },
            ],
            NextToken,
          }),
          { abortSignal },
        ),
      { repeatable: true },
    );
    const instances = (page.Reservations ?? []).flatMap(({ Instances = [] }) => Instances);
    return { items: instances.flatMap(({ InstanceId }) => InstanceId ?? []), next: page.NextToken };
  });
  if (ids.length !== 1)
    throw new Error(`EC2 knows ${ids.length} instances of the name ${node}, and the node does not say which it is`);
  return ids[0]!;
}
