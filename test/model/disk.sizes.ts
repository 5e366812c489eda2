/** The size of a disk in its model: who may change it, and what it promises. */
import type { AnyMachineSnapshot } from 'xstate';
import type { DiskContext } from '../../machines/disk.machine.ts';
import { promise, type Step } from './drive.ts';
import type { Case } from './graph.ts';

const contextOf = (snapshot: AnyMachineSnapshot) => snapshot.context as DiskContext;

/** Events, and those of a disk that others want larger, and that cannot always be. */
export const growing =
  (events: (snapshot: AnyMachineSnapshot) => Case[]) =>
  (snapshot: AnyMachineSnapshot): Case[] => {
    const { round } = contextOf(snapshot);
    const stays = (again: boolean) => ({ sizeGb: 200, reason: 'it cannot grow', again });
    return [
      ...events(snapshot),
      { type: 'disk.grow', sizeGb: 300 },
      { type: 'disk.grow', sizeGb: 100 },
      { type: 'volume.ready', round, claim: 'claim-1', stays: stays(true) },
      { type: 'volume.ready', round, claim: 'claim-1', stays: stays(false) },
    ];
  };

/** A disk is made larger by whoever asks for it, in every state, and smaller by nobody; what cannot be is told and no longer wanted. */
export function sizes({ event, before, after, intents }: Step, path: string): void {
  const { sizeGb, problem } = contextOf(after);
  const earlier = before === null ? sizeGb : contextOf(before).sizeGb;
  const stays = event['stays'] as { sizeGb: number; reason: string; again: boolean } | undefined;
  if (event.type === 'disk.grow' && after.status === 'active')
    promise(
      sizeGb === Math.max(earlier, Number(event['sizeGb'])),
      `a disk of ${earlier} GB has ${sizeGb} GB after a wish in ${path}`,
    );
  if (stays !== undefined && after !== before && before !== null && path === 'attached') {
    promise(problem === stays.reason, 'a disk stays small, and nobody is told');
    promise(sizeGb === (stays.again ? earlier : stays.sizeGb), 'a disk is not as large as its volume');
  } else promise(sizeGb >= earlier, 'a disk shrinks');
  const told = intents.flatMap((intent) => (intent.do === 'record' && intent.entry.type === 'disk.sized' ? [intent.entry] : []));
  promise(
    told.length === (sizeGb === earlier ? 0 : 1),
    `a disk of ${earlier} GB has ${sizeGb} GB, recorded ${told.length} times`,
  );
  for (const intent of intents)
    if (intent.do === 'effect' && intent.effect.type === 'volume.ensure')
      promise((intent.effect as Case)['sizeGb'] === sizeGb, 'a volume of another size is asked for');
}
