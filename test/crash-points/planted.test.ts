/** What the comparison would not see would be worth nothing: kinds with one bug each, in the few paths of an image. */
import { expect, it } from 'vitest';
import type { CrashPoint } from '../../actors/kernel/crash-points.ts';
import type { ActorKind } from '../../actors/kernel/kind.ts';
import type { Database } from '../../persistence/database.ts';
import { imageModel } from '../model/image.model.ts';
import type { Model } from '../model/explore.ts';
import { idOf, MODELS, ownedBy } from '../model/owned.ts';
import { choosePaths } from '../model/paths.ts';
import { differences, dumpOf } from './dump.ts';
import { planJourney } from './journey.ts';
import { Run } from './run.ts';

const model = MODELS.find(({ kind }) => kind === imageModel.kind) as Model;
const journeys = choosePaths(model).map((path, number) => {
  const id = idOf(model, number);
  return planJourney(model.kind, ownedBy(path, number, id), number, id);
});

const dumpAfter = async (points: readonly CrashPoint[], change?: (kind: ActorKind, db: Database) => ActorKind) => {
  const run = await Run.begin(points, journeys, { change });
  try {
    await run.go(journeys);
    return await dumpOf(run.db);
  } finally {
    await run.end();
  }
};

const NOTE = `insert into queue_failures as f (queue, msg_id, tries, reason, last_at) values ('noted', 1, 1, '', 'epoch')
              on conflict (queue, msg_id) do update set tries = f.tries + 1`;
const note = async (db: Database) => void (await db.query(NOTE, []));

/** A read model written beside the transaction of the turn. */
const projectsBeside = (kind: ActorKind, db: Database): ActorKind => ({ ...kind, project: () => note(db) });
/** A step that does not depend on its event and state alone. */
const rememberingKind = (): ((kind: ActorKind) => ActorKind) => {
  let prepared = 0;
  return (kind) =>
    kind.kind === 'image'
      ? { ...kind, prepare: async (_tx, event) => ({ ...event, prepared: ++prepared }) as typeof event }
      : kind;
};
/** A handler whose work is done twice when it runs twice. */
const countingHandlers = (kind: ActorKind, db: Database): ActorKind => ({
  ...kind,
  handlers: Object.fromEntries(
    Object.entries(kind.handlers).map(([type, handler]) => [
      type,
      async (...given: Parameters<typeof handler>) => {
        const result = await handler(...given);
        await note(db);
        return result;
      },
    ]),
  ),
});

it('a kind without a planted bug leaves the same behind, wherever it dies', async () => {
  const undisturbed = await dumpAfter([]);
  expect(differences(undisturbed, await dumpAfter(['turn.beforeCommit', 'effect.done']))).toEqual([]);
});

it.each<[string, CrashPoint, () => (kind: ActorKind, db: Database) => ActorKind, RegExp]>([
  ['a read model outside the transaction', 'turn.beforeCommit', () => projectsBeside, /public\.queue_failures/],
  ['a step that remembers', 'turn.stepped', rememberingKind, /public\.history/],
  ['a handler that is not idempotent', 'effect.done', () => countingHandlers, /public\.queue_failures/],
])('%s is seen by a death at %s', async (_what, point, planted, table) => {
  const undisturbed = await dumpAfter([], planted());
  expect(differences(undisturbed, await dumpAfter([point], planted())).join('\n')).toMatch(table);
});
