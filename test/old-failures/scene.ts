/** A world whose SSH keys come from a server that speaks like GitHub, and short ways to ask it for servers. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Ports } from '../../actors/kinds.ts';
import { GithubKeys } from '../../src/providers/local/github-keys.ts';
import type { Body } from '../messages/support.ts';
import { startWorld, type World, type WorldOptions } from '../support/world.ts';

export const namespace = 'gpu-dev';
export const newId = () => crypto.randomUUID() as string;

export interface Scene {
  world: World;
  ports: Ports;
  submit(fields?: Record<string, unknown>): Promise<string>;
  running(fields?: Record<string, unknown>): Promise<string>;
  cancel(...ids: string[]): Promise<void>;
  /** Pods whose name bears the id. */
  podsOf(id: string): Promise<{ metadata?: { name?: string } }[]>;
  /** Wait until nothing is left to do, and check that nothing is left behind. */
  checkEnd(): Promise<void>;
  stop(): Promise<void>;
}

/** Everybody has a key, but for the user `ghost`, who does not exist. */
export async function startScene(options: WorldOptions): Promise<Scene> {
  const github = createServer((request, answer) => {
    if (request.url === '/ghost.keys') return void answer.writeHead(404).end();
    answer.end('ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUZ7o8z0pJcE3XW0Yc1N2Wb1c2N2Wb1c2N2Wb1c2N2W someone\n');
  });
  await new Promise<void>((resolve) => void github.listen(0, '127.0.0.1', resolve));
  const baseUrl = `http://127.0.0.1:${(github.address() as AddressInfo).port}`;
  let ports: Ports | null = null;
  const world = await startWorld({
    ...options,
    ports: (base) => {
      ports = { ...(options.ports?.(base) ?? base), keys: new GithubKeys({ baseUrl }) };
      return ports;
    },
  });
  const submit: Scene['submit'] = async (fields = {}) => {
    const id = (fields['reservation_id'] as string | undefined) ?? newId();
    await world.send({
      action: 'create_reservation',
      user_id: 'ann',
      gpu_type: 't4',
      disk_name: null,
      ...fields,
      reservation_id: id,
    });
    return id;
  };
  const open = async () => {
    const { rows } = await world.db.query<Body>(
      `select 'mail to ' || actor || ' ' || (event ->> 'type') || case when held then ' (held)' else '' end as what from mailbox
       union all select 'effect ' || type || ' of ' || actor || ': ' || coalesce(last_error, '') from effects where status = 'pending'`,
    );
    return rows.map((row) => row.what as string);
  };
  return {
    world,
    ports: ports!,
    submit,
    running: async (fields) => {
      const id = await submit(fields);
      await world.reaches(id, 'running');
      return id;
    },
    cancel: async (...ids) => {
      for (const id of ids) await world.send({ action: 'cancel', reservation_id: id });
      for (const id of ids) await world.reaches(id, 'cancelled');
    },
    podsOf: async (id) =>
      (await world.client.core.listNamespacedPod({ namespace })).items.filter((pod) => pod.metadata!.name!.includes(id)),
    checkEnd: async () => {
      let left: string[] = [];
      await world
        .until('mail is read and effects have ended', async () => {
          left = await open();
          return left.length === 0;
        })
        .catch((error: Error) => {
          throw new Error(`${error.message}: ${left.join('; ')}`);
        });
      await world.checkClean();
    },
    stop: async () => {
      await world.stop();
      github.close();
    },
  };
}
