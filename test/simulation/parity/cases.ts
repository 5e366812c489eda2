/** For every statement that has a twin: how its parameters are drawn. */
import fc from 'fast-check';
import * as capacity from '../../../actors/gpu-pool/capacity.ts';
import { KNOWN_ACTORS } from '../../../actors/gpu-pool/facts.ts';
import * as gangs from '../../../actors/gpu-pool/gangs.ts';
import { GRANTED_NODE } from '../../../actors/gpu-pool/kind.ts';
import * as ledger from '../../../actors/gpu-pool/ledger.ts';
import * as maintenance from '../../../actors/gpu-pool/maintenance.ts';
import { BELIEVED_PODS } from '../../../actors/gpu-pool/missing.ts';
import * as types from '../../../actors/gpu-pool/node-types.ts';
import { OWNERS } from '../../../actors/gpu-pool/orphans.ts';
import * as catalogue from '../../../actors/intake/catalogue.ts';
import * as doors from '../../../actors/intake/doors.ts';
import { LOCK_GANG, SIBLINGS } from '../../../actors/intake/gangs.ts';
import * as lookup from '../../../actors/intake/lookup.ts';
import { EVENT_OF_KEY } from '../../../actors/intake/repeated.ts';
import { CLAIM_IDS } from '../../../actors/intake/together.ts';
import { DROP_MAIL } from '../../../actors/kernel/set-aside.ts';
import * as names from '../../../actors/reservation/names.ts';
import * as projection from '../../../actors/reservation/projection.ts';
import * as provision from '../../../actors/reservation/provision.ts';
import * as published from '../../../actors/reservation/published-names.ts';
import * as routes from '../../../actors/reservation/routes.ts';
import { NODE_READY } from '../../../actors/reservation/teardown.ts';
import * as actors from '../../../persistence/actor-store.ts';
import { RECORD_AUDIT } from '../../../persistence/audit.ts';
import { ADD_LETTER } from '../../../persistence/dead-letters.ts';
import * as nodes from '../../../persistence/gpu-nodes.ts';
import * as leases from '../../../persistence/leases.ts';
import * as mailbox from '../../../persistence/mailbox.ts';
import * as pgmq from '../../../persistence/pgmq.ts';
import * as a from './arbitrary.ts';
import { DISK_CASES } from './disk-cases.ts';
import { KERNEL_CASES, KNOWN } from './kernel-cases.ts';
import { QUOTA_CASES } from './quota-cases.ts';

type Parameters = fc.Arbitrary<unknown[]>;

const { maybe, of, someOf, columns } = a;
const all = (...parts: fc.Arbitrary<unknown>[]): Parameters => fc.tuple(...parts);
const queue = fc.constant('gpu_reservations');
const fqdn = of('box.dev.test', 'www-dev.dev.test');
const json = (value: unknown) => JSON.stringify(value);
const place = (row: unknown[]) => `${row[0]} ${row[1]}`;
const first = (row: unknown[]) => String(row[0]);
const nodeRows = fc
  .uniqueArray(
    fc.record({
      node: a.node,
      uid: a.text,
      gpuType: a.gpuType,
      ready: fc.boolean(),
      schedulable: fc.boolean(),
      reason: maybe(a.text),
      slots: of(1, 2, 4),
      foreignSlots: of(0, 1),
      cpuMillis: of(64_000),
      memoryBytes: of(2 ** 36),
      foreignCpu: of(0, 1_000),
      foreignMemory: of(0, 1_024),
      address: maybe(of('10.0.0.1')),
      zone: maybe(of('z')),
      labels: of({}, { fast: 'yes' }),
    }),
    { minLength: 1, maxLength: 2, selector: (row) => row.node },
  )
  .map(json);
const requestRows = fc
  .uniqueArray(
    fc.record({
      reservation_id: a.reservation,
      gpu_type: a.gpuType,
      owner: a.user,
      generation: of(1, 2),
      slots: of(1, 2),
      cpu_millis: of(1_000),
      memory_bytes: of(2 ** 30),
      duration_hours: of(0.5),
      node_labels: of({}),
      gang_id: maybe(of('gang')),
      gang_size: of(2),
      submitted_at: a.iso,
      disk_id: maybe(a.disk),
    }),
    { minLength: 1, maxLength: 3, selector: (row) => row.reservation_id },
  )
  .map(json);
const reservationRow = fc
  .record({
    reservation_id: a.reservation,
    user_id: a.user,
    status: of('queued', 'running', 'expired'),
    expires_at: a.iso,
    gang: maybe(of('gang')),
  })
  .map(({ gang, ...row }) =>
    json([
      {
        ...row,
        ...{
          substate: null,
          gpu_type: 't4',
          gpu_count: 1,
          duration_hours: 1,
          total_hours: 1,
          created_at: '2026-03-02T08:00:00.000Z',
        },
        ...{
          launched_at: '2026-03-02T08:00:00.000Z',
          ended: row.status === 'expired',
          name: 'box',
          github_user: null,
          image: null,
        },
        ...{
          pod_name: null,
          node_name: null,
          node_ip: null,
          node_port: null,
          ssh_command: null,
          jupyter_enabled: false,
          jupyter_state: 'off',
        },
        ...{ jupyter_url: null, jupyter_port: null, jupyter_error: null, disk_id: null, disk_name: null, snapshot_id: null },
        ...{
          failure_reason: null,
          current_detailed_status: 'detail',
          secondary_users: [],
          warnings_sent: [],
          last_extension: null,
        },
        ...{ oom_count: 0, last_oom_at: null, oom_container: null, is_multinode: gang !== null, master_reservation_id: gang },
        ...{ node_index: null, total_nodes: null, preserve_entrypoint: false, cli_version: null },
      },
    ]),
  );
export const CASES: readonly (readonly [string, Parameters])[] = [
  ...DISK_CASES,
  ...KERNEL_CASES,
  ...QUOTA_CASES,
  [actors.LOCK_READY, all(of(1, 10), of(1, 3), ...KNOWN, maybe(a.at), of([], [a.ACTORS[0]]))],
  [actors.WAIT_BRIEFLY, fc.constant([])],
  [actors.LOCK_OLDEST, all(of(1, 10), of(1, 3), ...KNOWN, maybe(a.at), of([], [a.ACTORS[0]]))],
  [actors.LOCK_ONE, all(a.actor, maybe(a.at), ...KNOWN)],
  [actors.LOCK_THESE, all(someOf(a.ACTORS), ...KNOWN)],
  [
    actors.READ_MAIL,
    fc
      .tuple(
        columns(fc.tuple(a.actor, of(true, false)), ([actor]) => actor),
        of(1, 3),
      )
      .map(([locked, most]) => [...locked, most]),
  ],
  [actors.READ_MORE_MAIL, all(someOf(a.ACTORS), of([], [1, 2]), of(1, 3))],
  [
    actors.UPDATE_ACTORS,
    all(
      columns(
        fc
          .tuple(a.actor, a.small, of(0, 1, 3), maybe(a.snapshot), of('queued', 'running', 'provisioning'))
          .map(([id, seq, version, snapshot, state]): unknown[] => {
            const status = snapshot === null ? of('active') && 'active' : (JSON.parse(snapshot).status as string);
            return [id, seq, version, status, state, snapshot];
          }),
        first,
      ),
      a.at,
    ).map(([rows, at]) => [...(rows as unknown[][]), at]),
  ],
  [
    actors.OPEN_ACTORS,
    columns(
      a.actor.map((id): unknown[] => [id, id.slice(0, id.indexOf('/')), 1]),
      first,
    ),
  ],
  [actors.FIND_ACTOR, all(a.actor)],
  [actors.QUARANTINE, all(a.actor, a.text)],
  [
    mailbox.ENQUEUE,
    all(
      columns(fc.tuple(a.actor, a.key, a.mailEvent, of('http', 'deadline', 'effect'), maybe(a.iso), of(0, 3)), place),
      maybe(a.at),
    ).map(([rows, at]) => [...(rows as unknown[][]).slice(0, 5), at, (rows as unknown[][])[5]]),
  ],
  [mailbox.REMOVE, columns(fc.tuple(a.actor, of(1, 2, 3, 4, 5, 6)), place)],
  [DROP_MAIL, all(a.actor, of(1, 2, 3))],
  [mailbox.RELEASE, all(maybe(someOf(a.ACTORS)))],
  [
    mailbox.FIND_PROCESSED,
    all(columns(fc.tuple(a.actor, a.key), place), maybe(a.at)).map(([rows, at]) => [...(rows as unknown[][]), at]),
  ],
  [mailbox.TAKE_ORPHANS, all(maybe(a.at), a.seconds)],
  [
    RECORD_AUDIT,
    columns(
      fc.tuple(
        a.text,
        of('http', 'queue:q'),
        of('disk.create'),
        a.text,
        of('{}'),
        maybe(of('::1')),
        maybe(a.text),
        maybe(of('gpudev_abc')),
      ),
      first,
    ),
  ],
  [
    ADD_LETTER,
    all(
      of('queue', 'mailbox'),
      maybe(of('q')),
      maybe(of(1)),
      maybe(a.actor),
      maybe(a.key),
      of(json({ a: 1 })),
      a.text,
      maybe(a.text),
      a.text,
      maybe(of(json({ type: 'cancel' }))),
      maybe(of('http')),
    ),
  ],
  [nodes.UPSERT, all(nodeRows)],
  [nodes.ADD_SLOTS, all(nodeRows)],
  [nodes.DROP_SLOTS, all(nodeRows)],
  [nodes.HOLDERS_ON, all(a.node)],
  [nodes.REMOVE_NODES, all(someOf(a.NODES))],
  [nodes.REMOVE_FREE_SLOTS, all(someOf(a.NODES))],
  [capacity.NODES, all(a.gpuType)],
  [capacity.NODE_LABELS, all(a.gpuType, of([], ['fast'], ['fast', 'absent']))],
  [capacity.WAITING, all(a.gpuType, maybe(of(0, 1, 5)), maybe(of([], ['ann'])))],
  [
    maintenance.KEEP_MAINTENANCE,
    all(
      a.gpuType,
      a.text,
      of([], ['ann']),
      of('2020-01-01T00:00:00Z', '2120-01-01T00:00:00Z'),
      maybe(of('2121-01-01T00:00:00Z')),
      a.user,
      a.at,
    ),
  ],
  [maintenance.DROP_MAINTENANCE, all(a.gpuType)],
  [maintenance.TELL_MAINTENANCE, all(a.gpuType, of([], ['ann']), a.text)],
  [capacity.GANGS_GRANTED, all(of(['gang', 'gang']), of(['ann', 'bob'], ['ann', 'nobody']))],
  [capacity.GANGS_WAITING, all(of(['gang', 'other']), of(['ann', 'bob'], ['bob', 'ann']))],
  [capacity.HOLDERS, all(a.gpuType)],
  [capacity.WRITE_AVAILABILITY, all(a.gpuType, a.small, a.small, a.small, a.small, a.small, maybe(a.text), a.iso)],
  [capacity.COUNT_LINE, all(a.gpuType)],
  [capacity.WRITE_REASONS, columns(fc.tuple(a.reservation, maybe(a.text)), first)],
  [capacity.CLEAR_REASONS, all(a.gpuType, of([], [a.RESERVATIONS[0]]))],
  [ledger.SHARE_SLOTS, all()],
  [ledger.LOCK_SLOTS, all()],
  [ledger.ADD_REQUESTS, all(requestRows)],
  [
    ledger.GRANT_SLOTS,
    all(columns(fc.tuple(a.node, of(0, 1, 3), a.reservation, of(1, 2)), place), a.at).map(([rows, at]) => [
      ...(rows as unknown[][]),
      at,
    ]),
  ],
  [
    ledger.GRANT_REQUESTS,
    all(columns(fc.tuple(a.reservation, of(1, 2), a.node), first), a.at).map(([rows, at]) => [...(rows as unknown[][]), at]),
  ],
  [ledger.DROP_REQUEST, all(a.reservation, maybe(of(1, 2)))],
  [ledger.FREE_SLOTS, all(a.reservation)],
  [ledger.DROP_NODELESS_SLOTS, all(someOf(a.NODES))],
  [ledger.ENDED_REQUESTS, all(a.gpuType)],
  [gangs.JOIN_GANG, all(of('gang'), a.user, maybe(of(0, 1)), a.reservation, a.gpuType, of(2))],
  [gangs.GANG_MEMBERS, all(of('gang'), a.user)],
  [gangs.LEAVE_GANG, all(a.reservation)],
  [GRANTED_NODE, all(a.reservation)],
  [KNOWN_ACTORS, all(someOf(a.ACTORS))],
  [BELIEVED_PODS, all()],
  [types.NODE_TYPES, all()],
  [types.RECORDED_TYPES, all()],
  [types.MOVE_SLOTS, all(someOf(a.NODES))],
  [OWNERS, all(someOf(a.ACTORS))],
  [leases.HOLD_LEASE, all(of('tracker'), of('p1', 'p2'), of(3))],
  [leases.DROP_LEASE, all(of('tracker'), of('p1', 'p2'))],
  [leases.ASSERT_LEASE, all(of('tracker'), of(1, 2))],
  [names.CLAIM_NAMES, columns(fc.tuple(of('box', 'www-dev', 'box box-2', 'www-dev box box-2'), a.reservation), ([, id]) => id)],
  [names.FREE_NAMES, all(someOf(a.RESERVATIONS))],
  [names.LEAVE_NAMES, all(someOf(a.RESERVATIONS))],
  [published.READ_NAME, all(a.reservation)],
  [published.ASK_NAME, all(a.reservation, fqdn, of('z1', 'z2'))],
  [published.NAME_PUBLISHED, all(a.reservation, fqdn)],
  [published.NAME_PROBLEM, all(a.reservation, a.text)],
  [published.NAME_GONE, all(a.reservation, fqdn)],
  [published.DROP_FREED_NAME, all(a.reservation)],
  [routes.READ_ROUTE, all(a.reservation)],
  [routes.ASK_ROUTE, all(a.reservation, fqdn, of('b1', 'b2'), a.node, of(30_001))],
  [routes.TAKE_PLACE, all(a.reservation, of(1), of(1, 3), fc.subarray([1, 2]))],
  [routes.ROUTE_PUBLISHED, all(a.reservation, of('group'), of('rule'))],
  [routes.ROUTE_PROBLEM, all(a.reservation, a.text)],
  [routes.ROUTE_GONE, all(a.reservation)],
  [projection.UPSERT, all(reservationRow, a.at)],
  [
    projection.ROUTES,
    all(a.reservation, maybe(of('10.0.0.1')), a.iso).map(([reservation_id, node_ip, expires_at]) => [
      json([{ reservation_id, node_ip, node_port: 22, expires_at }]),
    ]),
  ],
  [provision.READ_SECRETS, all(a.reservation)],
  [provision.WHAT_TO_CREATE, all(of(a.ACTORS[0], a.ACTORS[1]), a.node)],
  [NODE_READY, all(a.node)],
  [catalogue.READ_CATALOGUE, all()],
  [catalogue.CATALOGUE_VERSION, all()],
  [doors.CLAIM_ID, all(a.reservation, a.user, of(json({ jupyterToken: 't', fingerprint: 'f' })))],
  [EVENT_OF_KEY, all(a.actor, a.key)],
  [CLAIM_IDS, columns(fc.tuple(a.reservation, a.user, of(json({ jupyterToken: 't' }))), first)],
  [doors.KEEP_CONTEXT, all(of('h1'), a.user, fc.constant(Buffer.from('x')))],
  [doors.OWNER_OF_ID, all(a.reservation).map(([id]) => [id, `reservation/${id as string}`])],
  [LOCK_GANG, all(of('gang'))],
  [SIBLINGS, all(of('gang'))],
  [lookup.OWNER_BY_ID, all(a.reservation)],
  [lookup.FIND_BY_PREFIX, all(of('0000', a.RESERVATIONS[0]), maybe(a.user))],
  [pgmq.READ_QUEUE, all(queue, of(30), of(1, 5))],
  [pgmq.TAKE_FROM_QUEUE, all(queue, of(1, 5))],
  [pgmq.DELETE_FROM_QUEUE, all(queue, of([1], [1, 2]))],
  [pgmq.ARCHIVE_MESSAGE, all(queue, of(1, 2))],
  [pgmq.HIDE_MESSAGE, all(queue, of(1, 2), of(30))],
  [pgmq.COUNT_FAILURE, all(queue, of(1, 2), a.text)],
];
