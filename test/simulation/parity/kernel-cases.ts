/** How the parameters of the statements about history, effects and deadlines are drawn. */
import fc from 'fast-check';
import * as deadlines from '../../../persistence/deadlines.ts';
import * as history from '../../../persistence/history.ts';
import * as outbox from '../../../persistence/outbox.ts';
import * as a from './arbitrary.ts';

type Parameters = fc.Arbitrary<unknown[]>;

const { maybe, of, someOf, columns } = a;
const all = (...parts: fc.Arbitrary<unknown>[]): Parameters => fc.tuple(...parts);
const KINDS = [
  ['reservation', 'disk', 'gpu-pool'],
  [2, 2, 0],
];
/** Kinds of actors, and the newest version of each that is understood. */
export const KNOWN = [fc.constant(KINDS[0]), fc.constant(KINDS[1])];
const effectId = of('e1', 'e2', 'e3', 'e4');
const lane = of('pod', 'volume');
const json = (value: unknown) => JSON.stringify(value);
const place = (row: unknown[]) => `${row[0]} ${row[1]}`;
/** Every effect has a place of its own. */
const newEffects = fc
  .uniqueArray(fc.tuple(effectId, of(...a.ACTORS), a.small, lane, fc.boolean(), of('pending', 'superseded'), fc.boolean()), {
    minLength: 1,
    maxLength: 2,
    selector: (row) => row[0],
  })
  .map((rows) => [
    ...[rows.map((row) => row[0]), rows.map((row) => row[1]), rows.map((row) => row[2])],
    ...[rows.map((row) => Number(row[0].slice(1))), rows.map(() => 'light'), rows.map((row) => row[3])],
    ...[rows.map((row) => row[4]), rows.map(() => json({ type: 'light' })), rows.map((row) => row[5])],
    rows.map((row) => row[6] && row[5] === 'pending'),
  ]);

export const KERNEL_CASES: readonly (readonly [string, Parameters])[] = [
  [
    history.APPEND,
    all(
      columns(
        fc
          .tuple(a.actor, a.small, a.key, of('applied', 'ignored'), maybe(a.text), maybe(a.iso), maybe(of('lit')))
          .map(([id, seq, key, outcome, reason, sentAt, leaf]): unknown[] => [
            ...[id, seq, key, json({ type: 'press', at: 'now' }), outcome, reason, 'off', 'on', leaf, 1, 'http', sentAt],
          ]),
        place,
        2,
      ),
      a.at,
    ).map(([rows, at]) => [...(rows as unknown[][]), at]),
  ],
  [history.FIND_BY_KEY, all(a.actor, a.key)],
  [history.READ_HISTORY, all(a.actor, a.small, of(1, 10))],
  [history.LATEST_CHECKPOINT, all(a.actor)],
  [history.ADD_CHECKPOINT, all(a.actor, a.small, of(1), a.snapshot, of('prune', 'migration'))],
  [
    outbox.SUPERSEDE,
    all(columns(fc.tuple(a.actor, lane, a.small, a.small), place), a.at).map(([rows, at]) => [...(rows as unknown[][]), at]),
  ],
  [
    outbox.ADD,
    all(newEffects, a.at, a.token, a.seconds).map(([rows, at, ...rest]) => [...(rows as unknown[][]), at, ...rest, at]),
  ],
  // All that are due or none: of those due at one time nobody says which comes first.
  [
    outbox.LEASE,
    all(maybe(a.at), of(0, 5), a.token, a.seconds, of(['light']), of([], ['e1']), ...KNOWN, of(0, 1, 5), of(1, 30), of(60)),
  ],
  [outbox.RENEW, all(maybe(a.at), someOf(['e1', 'e2', 'e3']), a.token, a.seconds)],
  [outbox.END_DONE, all(someOf(['e1', 'e2', 'e3', 'e4']), a.token, maybe(a.at))],
  [outbox.FAIL, all(effectId, a.token, a.text, maybe(a.at))],
  [outbox.RETRY, all(effectId, a.token, of(0, 1), maybe(a.text), maybe(a.at), a.seconds)],
  [outbox.UNTIL_NEXT, all(a.at)],
  [
    deadlines.SET,
    columns(
      // No two are due at one time: nobody says in which order they fire then.
      fc.tuple(a.actor, of('warn5', 'expiry'), a.at, a.small).map(([id, name, at, seq]): unknown[] => {
        const own = a.ACTORS.indexOf(id) * 2 + name.length;
        return [id, name, new Date(at.getTime() + own * 100).toISOString(), seq];
      }),
      place,
    ),
  ],
  [deadlines.CLEAR, columns(fc.tuple(a.actor, of('warn5', 'expiry')), place)],
  [deadlines.CLEAR_OF, all(someOf(a.ACTORS))],
  [deadlines.REARM, all(a.actor, of('warn5', 'expiry'), a.seconds, maybe(a.at))],
  [deadlines.FIRE, all(maybe(a.at), of(100))],
  [deadlines.UNTIL_NEXT, all(a.at)],
];
