/**
 * What actors believe in and the cluster may lack: pods, what is around a running server, volumes of disks that nobody uses. A list that lacks
 * something only raises the question; the proof is the API server's 404 for that very object, twice.
 *
 * The Job of a build is looked for by the build itself, several times a second, and made again if it is gone.
 */
import type { DiskMessage } from '../../machines/disk.events.ts';
import type { ReservationMessage } from '../../machines/reservation.events.ts';
import type { Queryable } from '../../persistence/database.ts';
import { eachOf } from '../gpu-pool/parallel.ts';
import { BELIEVED_PODS, goneProof, type MissingPod } from '../gpu-pool/missing.ts';
import type { FoundObject, Kind, NameKind, Reality, ServerExtras } from './ports.ts';

interface PublishedThing {
  id: string;
  generation: number;
  kind: NameKind;
  name: string;
}

/** One object in which one actor believes. */
export interface Belief {
  actor: string;
  kind: Kind;
  name: string;
  why: string;
  event: ReservationMessage | DiskMessage;
  /** Key of the event if the same fact may come by another way too; null: the finding gives it one. */
  key: string | null;
  /** The pod itself, if it is one. */
  pod: MissingPod | null;
  /** Only asked for while the object of this name, a pod, is there: what belongs to it goes with it. */
  beside: string | null;
}

// Only the first of a gang has its Service.
const BELIEVED_SERVERS = `select substr(a.actor, 13) as id, (a.snapshot #>> '{context,generation}')::int as generation, a.snapshot #>> '{context,pod,uid}' as uid,
            coalesce(a.snapshot #>> '{context,jupyter,state}' = 'on', false) as jupyter,
            coalesce(s.value->'environment', '{}') <> '{}' as environment,
            case when a.snapshot #>> '{context,request,gang,index}' = '0' then a.snapshot #>> '{context,request,gang,id}' end as leads
       from actors a left join secrets s on s.secret_ref = a.snapshot #>> '{context,request,secretsRef}'
      where a.kind = 'reservation' and a.state in ('running', 'extending') and a.snapshot #>> '{context,pod,uid}' is not null`;

const BELIEVED_VOLUMES = `select disk_id, volume_claim from disks
      where volume_claim is not null and state in ('idle', 'deleted') and reservation_id is null and purged_at is null`;

const BELIEVED_NAMES = `select m.reservation_id as id, m.fqdn as name, (a.snapshot #>> '{context,generation}')::int as generation, 'NameRecord' as kind
       from domain_mappings m join actors a on a.actor = 'reservation/' || m.reservation_id
      where m.published_at is not null and m.freed_at is null and m.zone <> '*' and a.state in ('running', 'extending')
     union all
     select g.reservation_id, made.arn, (a.snapshot #>> '{context,generation}')::int, made.kind
       from alb_target_groups g join actors a on a.actor = 'reservation/' || g.reservation_id
       cross join lateral (values (g.jupyter_target_group_arn, 'TargetGroup'), (g.jupyter_rule_arn, 'JupyterRule')) as made(arn, kind)
      where g.published_at is not null and a.state in ('running', 'extending')`;

/** Read before the cluster is listed: what was made since then is not missed. @throws the database's error */
export async function readBeliefs(db: Queryable, reality: Reality): Promise<Belief[]> {
  const { rows: pods } = await db.query<MissingPod>(BELIEVED_PODS, []);
  const { rows: servers } = await db.query<MissingPod & ServerExtras>(BELIEVED_SERVERS, []);
  const { rows: disks } = await db.query<{ disk_id: string; volume_claim: string }>(BELIEVED_VOLUMES, []);
  const { rows: published } = await db.query<PublishedThing>(BELIEVED_NAMES, []);
  const ref = ({ id, generation }: MissingPod) => ({ reservationId: id, generation });
  return [
    ...pods.map(
      (pod): Belief => ({
        actor: `reservation/${pod.id}`,
        kind: 'Pod',
        name: reality.podOf(ref(pod)),
        why: 'The reservation has this pod, and the API server does not',
        event: { type: 'pod.gone', generation: pod.generation, proof: goneProof(undefined) },
        key: `pod:${pod.uid}:gone`,
        pod,
        beside: null,
      }),
    ),
    ...servers.flatMap((server) =>
      reality.accessOf(ref(server), server).map(
        ({ kind, name }): Belief => ({
          actor: `reservation/${server.id}`,
          kind,
          name,
          why: 'The server runs without it',
          event: { type: 'access.missing', generation: server.generation, what: `${kind} ${name}` },
          key: null,
          pod: null,
          beside: reality.podOf(ref(server)),
        }),
      ),
    ),
    ...published.map(
      ({ id, generation, kind, name }): Belief => ({
        actor: `reservation/${id}`,
        kind,
        name,
        why: 'It was published for this server, and is not there',
        event: { type: kind === 'NameRecord' ? 'name.missing' : 'route.missing', generation },
        key: null,
        pod: null,
        beside: null,
      }),
    ),
    ...disks.map(
      ({ disk_id: diskId, volume_claim: claim }): Belief => ({
        actor: `disk/${diskId}`,
        kind: 'PersistentVolumeClaim',
        name: claim,
        why: 'The disk has this volume, and the cluster does not',
        event: { type: 'volume.missing', claim },
        key: null,
        pod: null,
        beside: null,
      }),
    ),
  ];
}

/** Two beliefs are the same if they are about the same object of the same life. */
export const nameOf = ({ actor, kind, name }: Pick<Belief, 'actor' | 'kind' | 'name'>): string => `${actor} ${kind} ${name}`;

/**
 * Which of these beliefs are wrong.
 * @param lists complete lists by kind; kinds without one are not asked about
 * @param onError told of each question that found no answer
 */
export async function findMissing(
  beliefs: readonly Belief[],
  lists: ReadonlyMap<Kind, readonly FoundObject[]>,
  { reality, isOver, onError }: { reality: Reality; isOver: () => boolean; onError: (belief: Belief, error: unknown) => void },
): Promise<Belief[]> {
  const there = new Map([...lists].map(([kind, objects]) => [kind, new Set(objects.map(({ name }) => name))]));
  const livePods = new Set((lists.get('Pod') ?? []).filter(({ terminating }) => !terminating).map(({ name }) => name));
  const suspects = beliefs.filter(
    ({ kind, name, beside }) => there.get(kind)?.has(name) === false && (beside === null || livePods.has(beside)),
  );
  const confirmed = async (asked: readonly Belief[]): Promise<Belief[]> => {
    const gone: Belief[] = [];
    const ask = async (belief: Belief) => {
      if (isOver()) return;
      try {
        if (await reality.isGone(belief.kind, belief.name)) gone.push(belief);
      } catch (error) {
        onError(belief, error);
      }
    };
    await eachOf(asked, ask, () => {});
    return gone;
  };
  return confirmed(await confirmed(suspects));
}
