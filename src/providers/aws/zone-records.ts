/**
 * What stands in a zone for a server, as pure decisions. Beside the record that leads to it stands a second one that says whose both are: the
 * first may be a CNAME, which bears no company. What has no such record beside it, or one of another installation, is a stranger's.
 */
import { isIPv4, isIPv6 } from 'node:net';
import type { PublishedName } from '../../../actors/reservation/name-ports.ts';
import type { Change, RecordSet } from './route53.ts';

const TTL_SECONDS = 60;
const LABEL = '_gpu-dev';
/** Types of records that lead somewhere. What else somebody puts under a name of ours is not ours. */
const LEADS: ReadonlySet<string> = new Set(['A', 'AAAA', 'CNAME']);

/** Whose records are, by their own word. */
export interface Ownership {
  cluster: string;
  reservationId: string;
  generation: number;
  port: number;
}

/** Name under which it stands whose `fqdn` is. */
export const ownerName = (fqdn: string): string => `${LABEL}.${fqdn}`;

/** The name that this record speaks of; null if it is no such record. */
export function namedBy({ name, type }: RecordSet): string | null {
  return type === 'TXT' && name.startsWith(`${LABEL}.`) ? name.slice(LABEL.length + 1) : null;
}

/** An installation's name as it may stand in a record. */
export const clusterLabel = (cluster: string): string => cluster.replace(/[^A-Za-z0-9_.:/-]/g, '_').slice(0, 100);

function wordOf({ cluster, reservationId, generation, port }: Ownership): string {
  return `"heritage=gpu-dev,cluster=${clusterLabel(cluster)},reservation=${reservationId},life=${generation},port=${port}"`;
}

const WORD = /^"heritage=gpu-dev,cluster=([^,"]*),reservation=([0-9a-f-]{36}),life=(\d+),port=(\d+)"$/;

/** What the record says, if it is one of ours, and of nobody else besides. */
export function readOwnership(record: RecordSet): Ownership | null {
  const [cluster, reservationId, generation, port] =
    record.values.length === 1 ? (WORD.exec(record.values[0]!) ?? []).slice(1) : [];
  if (cluster === undefined || reservationId === undefined) return null;
  return { cluster, reservationId, generation: Number(generation), port: Number(port) };
}

/** All that stands under one name. */
export interface Standing {
  /** Records of the name itself. */
  own: RecordSet[];
  /** The record that says whose they are. */
  word: RecordSet | null;
}

/** What the name is to become. */
export type Wish =
  | { do: 'publish'; name: PublishedName; target: string | null }
  | { do: 'withdraw'; reservationId: string; fqdn: string };

export type Decision = { changes: Change[] } | { refused: string };

/** What must be changed so that the wish comes true; nothing if it has. */
export function decide(wish: Wish, { own, word }: Standing, cluster: string): Decision {
  const says = word === null ? null : readOwnership(word);
  const reservationId = wish.do === 'publish' ? wish.name.reservationId : wish.reservationId;
  const isOurs = says !== null && says.cluster === clusterLabel(cluster) && says.reservationId === reservationId;
  const old = isOurs ? [...own.filter(({ type }) => LEADS.has(type)), word!] : [];
  // Nothing of this reservation's stands there. What else does is none of its business.
  if (wish.do === 'withdraw') return { changes: old.map((record) => ({ action: 'DELETE', record: record.whole })) };
  const { fqdn } = wish.name;
  if (!isOurs && (own.length > 0 || word !== null)) return { refused: `A record of somebody else's stands at ${fqdn}` };
  const wanted = recordsFor(wish.name, wish.target, cluster);
  const isThere = (record: Change['record']) =>
    old.some(({ name, type, ttl, values }) => {
      const value = record.ResourceRecords?.[0]?.Value;
      return name === record.Name && type === record.Type && ttl === record.TTL && values.length === 1 && values[0] === value;
    });
  const stays = (record: RecordSet) =>
    wanted.some((wish) => wish.Name === record.name && wish.Type === record.type && isThere(wish));
  return {
    changes: [
      ...old.flatMap((record): Change[] => (stays(record) ? [] : [{ action: 'DELETE', record: record.whole }])),
      ...wanted.flatMap((record): Change[] => (isThere(record) ? [] : [{ action: 'CREATE', record }])),
    ],
  };
}

/** The two records of a name. @param target where all names lead (a load balancer), or null for each to its own node */
function recordsFor({ fqdn, host, ...owner }: PublishedName, target: string | null, cluster: string): Change['record'][] {
  const to = target ?? host;
  const Type = isIPv4(to) ? 'A' : isIPv6(to) ? 'AAAA' : 'CNAME';
  const record = (Name: string, type: 'A' | 'AAAA' | 'CNAME' | 'TXT', Value: string) => ({
    Name,
    Type: type,
    TTL: TTL_SECONDS,
    ResourceRecords: [{ Value }],
  });
  return [record(fqdn, Type, to), record(ownerName(fqdn), 'TXT', wordOf({ cluster, ...owner }))];
}
