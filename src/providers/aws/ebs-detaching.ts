/**
 * Taking a volume off the machines that still hold it when the cluster has let go. The machine's own system is asked first, and again. By force, so
 * that what it has not written yet is lost, only when EC2 says that the machine is terminated: then nothing there writes, or ever will.
 */
import { NotYet } from '../../../actors/errors.ts';
import type { Ec2, VolumeView } from './ec2.ts';
import { AwsError } from './errors.ts';

/** Between two looks at a volume that is being let go, in milliseconds: EC2 takes seconds at best, and its calls are counted. */
const LOOK_MS = 2_000;

/**
 * Ask for all that is missing. Machines that share a volume are each asked, or forced, by themselves.
 * @param view of one that is on record, bears our tags, and that no pod uses
 * @throws NotYet in words for an operator if a machine did not let go at once when it was asked; AwsError
 */
export async function letGo(ec2: Ec2, view: VolumeView): Promise<void> {
  const held: string[] = [];
  let slow = false;
  for (const { instance, state } of view.attachments) {
    if (state === 'attached') {
      const refusal = await unlessUnderWay(() => ec2.detachVolume(view.id, instance));
      held.push(`${instance}, which was asked to let go${refusal}`);
      slow ||= refusal !== '';
      continue;
    }
    slow = true;
    // What is being attached is no machine's to let go yet.
    held.push(state === 'attaching' ? `${instance} (attaching)` : await unstuck(ec2, view.id, { instance, state }));
  }
  if (!slow) return;
  throw new NotYet(LOOK_MS, `The volume ${view.id} is still held by ${held.join(' and ')}`);
}

/** It was asked before, and has not let go: busy or detaching. */
async function unstuck(ec2: Ec2, id: string, { instance, state }: { instance: string; state: string }): Promise<string> {
  if (await ec2.isTerminated(instance)) {
    const refusal = await unlessUnderWay(() => ec2.detachVolume(id, instance, { force: true }));
    return `${instance}, which is terminated: it is taken off by force${refusal}`;
  }
  // A system that was busy may be done by now.
  if (state === 'busy') await unlessUnderWay(() => ec2.detachVolume(id, instance));
  return `${instance} (${state}), which EC2 does not call terminated: nothing is forced as long as it may write`;
}

/** That it is on its way already, or off, is what is wanted: the next look tells. @returns what EC2 answered, if it refused and it is not off */
async function unlessUnderWay(work: () => Promise<void>): Promise<string> {
  try {
    await work();
    return '';
  } catch (error) {
    if (!(error instanceof AwsError) || (error.failure !== 'busy' && error.failure !== 'missing')) throw error;
    // The driver of the cluster was faster.
    if (error.failure === 'missing') return '';
    return ` (EC2 answers: ${error.code})`;
  }
}
