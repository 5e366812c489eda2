/** Golden snapshots: one stored snapshot of every state of every machine and version, which must revive for ever. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ActorKind } from '../../actors/kernel/kind.ts';
import { dehydrate } from '../../actors/kernel/revive.ts';
import { isTransient, nodesOf } from '../../machines/rules.ts';
import type { StoredSnapshot } from '../../persistence/actor-store.ts';
import { diskModel } from '../model/disk.model.ts';
import { type Model, pathsOf } from '../model/explore.ts';
import { poolModel } from '../model/gpu-pool.model.ts';
import { statePath } from '../model/graph.ts';
import { imageModel } from '../model/image.model.ts';
import { reservationModel } from '../model/reservation.model.ts';

export const GOLDEN = import.meta.dirname;
export const GOLDEN_MODELS = [reservationModel, poolModel, diskModel, imageModel] as unknown as Model[];

export interface Golden {
  kind: string;
  version: number;
  state: string;
  snapshot: StoredSnapshot;
}

/** Hash of what defines a machine: its chart, and the shape of its context where that is written down. */
export function definitionHash(kind: ActorKind): string {
  return createHash('sha256').update(JSON.stringify([kind.machine.definition, kind.context?.toJSONSchema() ?? null])).digest('hex').slice(0, 16);
}

export type Hashes = Record<string, { version: number; hash: string }>;

/** What the checked-in files were made from. */
export function readHashes(): Hashes {
  const file = join(GOLDEN, 'hashes.json');
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Hashes) : {};
}

/** Paths of the states in which an actor can rest or end. */
export function restingStates(kind: ActorKind): string[] {
  return nodesOf(kind.machine)
    .filter((node) => (node.type === 'atomic' || node.type === 'final') && !isTransient(node))
    .map((node) => node.path.join('.'));
}

/** The golden snapshots of the present version: the first that the model reaches in each state, with as much in its context as comes along. */
export function makeGolden(model: Model): Golden[] {
  const { kind } = model;
  const made = new Map<string, Golden>();
  for (const scenario of [...model.scenarios].reverse()) {
    for (const { snapshot } of pathsOf(model, scenario)) {
      const state = statePath(snapshot.value);
      if (!made.has(state)) made.set(state, { kind: kind.kind, version: kind.version, state, snapshot: dehydrate(kind, snapshot) });
    }
  }
  return [...made.values()].sort((a, b) => (a.state < b.state ? -1 : 1));
}

/** All golden snapshots of a kind, of every version that was ever released. */
export function readGolden(kind: string): Golden[] {
  const folder = join(GOLDEN, kind);
  if (!existsSync(folder)) return [];
  return readdirSync(folder).flatMap((version) =>
    readdirSync(join(folder, version)).map((file) => JSON.parse(readFileSync(join(folder, version, file), 'utf8')) as Golden),
  );
}

/** Write the files of the present version. @returns how many. */
export function writeGolden(models: readonly Model[] = GOLDEN_MODELS): number {
  let written = 0;
  const hashes: Hashes = {};
  for (const model of models) {
    const { kind, version } = model.kind;
    const folder = join(GOLDEN, kind, `v${version}`);
    mkdirSync(folder, { recursive: true });
    for (const golden of makeGolden(model)) {
      writeFileSync(join(folder, `${golden.state}.json`), `${JSON.stringify(golden, null, 2)}\n`);
      written++;
    }
    hashes[kind] = { version, hash: definitionHash(model.kind) };
  }
  writeFileSync(join(GOLDEN, 'hashes.json'), `${JSON.stringify(hashes, null, 2)}\n`);
  return written;
}
