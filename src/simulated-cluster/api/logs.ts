import { readLog, type LogLine } from '../controllers/runtime.ts';
import { ApiError, badRequest, notFound } from '../errors.ts';
import { resourceById, type Target } from '../resources.ts';
import { keyFor } from '../store.ts';
import type { KubeObject, Loose, Query } from '../types.ts';
import type { World } from '../world.ts';
import { count, flag, one } from './query.ts';

export interface LogRequest {
  uid: string;
  container: string;
  lines: readonly LogLine[];
  follow: boolean;
  format(line: LogLine): string;
}

/** What a log request gets: its lines so far and how later ones are written. Throws ApiErrors. */
export function openLog(world: World, target: Target, query: Query | undefined): LogRequest {
  const pod = podOf(world, target);
  const container = containerOf(pod, one(query, 'container'));
  const status = [...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? [])].find(
    (each: Loose) => each.name === container,
  );
  const waiting = status?.state?.waiting;
  if (status === undefined || (waiting && status.restartCount === 0)) {
    const reason = waiting?.reason ?? 'not yet scheduled';
    throw badRequest(`container "${container}" in pod "${pod.metadata.name}" is waiting to start: ${reason}`);
  }
  let lines = readLog(world, pod.metadata.uid, container);
  const since = count(query, 'sinceSeconds');
  const sinceTime = one(query, 'sinceTime');
  const from = since !== undefined ? world.store.now - since * 1000 : sinceTime !== undefined ? Date.parse(sinceTime) : undefined;
  if (from !== undefined) lines = lines.filter((line) => line.at >= from);
  const tail = count(query, 'tailLines');
  if (tail !== undefined) lines = tail === 0 ? [] : lines.slice(-tail);
  const stamps = flag(query, 'timestamps');
  const format = (line: LogLine): string => `${stamps ? `${new Date(line.at).toISOString()} ` : ''}${line.text}\n`;
  return {
    uid: pod.metadata.uid,
    container,
    lines: [...lines],
    follow: flag(query, 'follow') && containerLives(world, pod.metadata.uid, container),
    format,
  };
}

/** Whether more lines may come. */
export function containerLives(world: World, uid: string, container: string): boolean {
  const found = world.store.indexes.byUid(uid);
  const pod = found === undefined ? undefined : world.get(found.resource, found.key);
  const status = [...(pod?.status?.containerStatuses ?? []), ...(pod?.status?.initContainerStatuses ?? [])].find(
    (each: Loose) => each.name === container,
  );
  return status !== undefined && status.state?.terminated === undefined;
}

/** The pod a log or exec request names; 404 when it is not there. */
export function podOf(world: World, { namespace, name = '' }: Target): KubeObject {
  const pod = world.get('pods', keyFor(namespace, name));
  if (pod === undefined) throw notFound(resourceById('pods'), name);
  return pod;
}

/** The container asked for, or the only one; 400 when there is a choice and none was made, or there is none of that name. */
export function containerOf(pod: KubeObject, asked: string | undefined): string {
  const names = (list: Loose[] | undefined): string[] => (list ?? []).map((each) => each.name);
  const main = names(pod.spec.containers);
  const init = names(pod.spec.initContainers);
  if (asked) {
    if (main.includes(asked) || init.includes(asked)) return asked;
    throw badRequest(`container ${asked} is not valid for pod ${pod.metadata.name}`);
  }
  const [only, ...others] = main;
  if (only !== undefined && others.length === 0) return only;
  const more = init.length > 0 ? ` or one of the init containers: [${init.join(' ')}]` : '';
  throw new ApiError(
    400,
    'BadRequest',
    `a container name must be specified for pod ${pod.metadata.name}, choose one of: [${main.join(' ')}]${more}`,
  );
}
