/** Takes a running server over: the slots that it holds, its name and ways, its secrets, its disk, and its birth as one that runs. */
import { randomBytes } from 'node:crypto';
import { LOCK_SLOTS } from '../../actors/gpu-pool/ledger.ts';
import { JOIN_GANG } from '../../actors/gpu-pool/gangs.ts';
import type { ReservationMessage } from '../../machines/reservation.events.ts';
import type { Transaction } from '../../persistence/database.ts';
import type { Message } from '../../persistence/mailbox.ts';
import { adoptDisk, Refused, SENDER } from './adopt-disk.ts';
import type { ServerPlan } from './plan.ts';
import type { DiskRemains, ServerSecrets } from './ports.ts';

// Its own slots if they are free, else others of the node: a slot is a number, which of them a pod computes on nobody knows.
const FREE_SLOTS = `
  select slot from gpu_slots where node = $1 and reservation_id is null
   order by not (slot = any($2::int[])), slot limit $3 for update`;
const HOLDERS = `select distinct reservation_id as id from gpu_slots where node = $1 and reservation_id is not null`;
const HOLD_SLOTS = `
  update gpu_slots set reservation_id = $2, generation = $3, held_since = $4
   where node = $1 and slot = any($5::int[]) and reservation_id is null`;
const ADD_GRANTED = `
  insert into capacity_requests (reservation_id, gpu_type, owner, generation, slots, cpu_millis, memory_bytes, duration_hours, node_labels,
                                 gang_id, gang_size, submitted_at, status, node, granted_at)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'granted', $13, $14)`;
const ADD_SECRETS = 'insert into secrets (secret_ref, owner, value) values ($1, $2, $3) on conflict do nothing';
const CLAIM_NAME = `
  insert into domain_mappings (domain_name, reservation_id, fqdn, zone, published_at)
  values ($1, $2, $3::text, $4, case when $3 is not null then now() end) on conflict do nothing`;
// A place that was given to somebody else meanwhile is his: publishing takes another.
const ADD_WAY = `
  insert into alb_target_groups (reservation_id, domain_name, load_balancer, place, node, node_port, jupyter_target_group_arn, jupyter_rule_arn,
                                 published_at)
  values ($1, $2, $3, $4, $5, $6, $7, $8, now())
  on conflict do nothing`;

/**
 * Take it over, in the transaction of the caller, with its disk.
 * @returns the messages by which both are born, and that of its pool
 * @throws Refused if its id, name, disk or GPUs are somebody else's by now
 */
export async function adoptServer(
  tx: Transaction,
  remains: DiskRemains,
  plan: ServerPlan,
  secrets: ServerSecrets,
): Promise<Message[]> {
  const { id, record, disk, server } = plan;
  const { owner, request, policy, domain, stay } = record;
  const { generation, grant } = stay;
  await keepSecrets(tx, plan, secrets);
  await claimName(tx, plan);
  const slots = await holdSlots(tx, plan);
  const held = { reservationId: id, generation, node: grant.node, zone: grant.zone };
  const births = disk === null ? [] : await adoptDisk(tx, remains, disk, held);
  const event: ReservationMessage = {
    type: 'reservation.adopted',
    id,
    owner,
    request,
    policy,
    domain,
    adopted: { ...stay, grant: { ...grant, slots }, pod: { uid: server.uid, name: server.pod, ready: server.ready } },
  };
  return [
    ...births,
    { actor: `reservation/${id}`, key: `adopted:${server.uid}`, event, sender: SENDER },
    {
      actor: `gpu-pool/${request.gpuType}`,
      key: `adopted:${id}`,
      event: { type: 'nodes.changed', nodes: [grant.node] } as { type: string },
      sender: SENDER,
    },
  ];
}

/** Without a token nothing around the pod could be made again: one that is lost gets another. */
async function keepSecrets(tx: Transaction, { id, record }: ServerPlan, secrets: ServerSecrets): Promise<void> {
  const jupyterToken = secrets.jupyterToken ?? randomBytes(32).toString('hex');
  const value = JSON.stringify({ environment: secrets.environment, jupyterToken });
  const { rowCount } = await tx.query(ADD_SECRETS, [record.request.secretsRef ?? id, record.owner, value]);
  if (rowCount === 0) throw new Refused('The database knows a reservation of this id');
}

async function claimName(tx: Transaction, { id, record, names }: ServerPlan): Promise<void> {
  const { request, domain, stay } = record;
  const standing = domain !== null && names?.fqdn === `${request.name}.${domain}` ? names : null;
  const { rowCount } = await tx.query(CLAIM_NAME, [request.name, id, standing?.fqdn ?? null, standing?.zone ?? null]);
  if (rowCount === 0) throw new Refused(`Its name ${request.name} is another reservation's by now`);
  const way = names?.way ?? null;
  if (way === null || domain === null) return;
  const { loadBalancer, place, targetGroup, rule } = way;
  const fqdn = `${request.name}.${domain}`;
  await tx.query(ADD_WAY, [id, fqdn, loadBalancer, place, stay.grant.node, stay.jupyter.port, targetGroup, rule]);
}

/** As the tracker does it: no pool plans, grants or takes back until the transaction ends. */
async function holdSlots(tx: Transaction, { id, record }: ServerPlan): Promise<number[]> {
  const { owner, request, policy, stay } = record;
  const { node } = stay.grant;
  await tx.query(LOCK_SLOTS, []);
  const { rows } = await tx.query<{ slot: number }>(FREE_SLOTS, [node, stay.grant.slots, policy.slots]);
  if (rows.length < policy.slots) {
    const holders = (await tx.query<{ id: string }>(HOLDERS, [node])).rows.map((row) => row.id);
    const by = holders.length === 0 ? '' : `; ${holders.join(', ')} hold the others`;
    throw new Refused(`It holds ${policy.slots} slots of ${node}, and ${rows.length} of them are free in the ledger${by}`);
  }
  const slots = rows.map(({ slot }) => slot).sort((one, other) => one - other);
  const { gang } = request;
  await tx.query(ADD_GRANTED, [
    id,
    request.gpuType,
    owner,
    stay.generation,
    policy.slots,
    policy.cpuMillis,
    policy.memoryBytes,
    request.durationHours,
    JSON.stringify(request.nodeLabels),
    gang?.id ?? null,
    gang?.size ?? null,
    stay.submittedAt,
    node,
    stay.launchedAt,
  ]);
  await tx.query(HOLD_SLOTS, [node, id, stay.generation, stay.launchedAt, slots]);
  if (gang !== null) await tx.query(JOIN_GANG, [gang.id, owner, gang.index, id, request.gpuType, gang.size]);
  return slots;
}
