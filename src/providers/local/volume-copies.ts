/**
 * Snapshots of disks as copies: a claim of its own for each, filled by a Job. The claim says by an annotation that all of it is there, and gets
 * that only after the Job has succeeded; until then it is no snapshot.
 */
import { PatchStrategy, setHeaderOptions, type V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { type SnapshotProgress, Filling } from '../../../actors/disk/ports.ts';
import { NotYet, TerminalError } from '../../../actors/errors.ts';
import type { KubernetesClient } from '../kubernetes/client.ts';
import { attempt, attemptOrNull, hasStatus } from '../kubernetes/errors.ts';
import { ANNOTATION, LABEL, labelValue } from '../kubernetes/objects.ts';
import { bytes, quantityOf } from '../kubernetes/quantities.ts';
import { COPY_DEFAULTS, type CopyEnd, type CopySettings } from './copy-job.ts';
import { CopyRuns } from './copy-runs.ts';
import { bears, diskLabels, snapshotName } from './volume-snapshots.ts';

type Claim = V1PersistentVolumeClaim;

/** How often a claim is looked at anew before it is left to whoever purges its disk. */
const DROP_TRIES = 5;

/** Whether a claim is a copy, complete or not, of this disk; left out, of any. */
export function isCopyOf(claim: Claim, snapshotId: string, diskId?: string): boolean {
  const { labels = {}, annotations = {} } = claim.metadata ?? {};
  const owner = diskId ?? labels[LABEL.disk];
  return (
    owner !== undefined &&
    bears(claim, owner) &&
    labels[LABEL.snapshot] !== undefined &&
    annotations[ANNOTATION.snapshot] === snapshotId
  );
}

/** Whether all of a copy is there. */
export function isComplete(copy: Claim): boolean {
  return copy.metadata?.annotations?.[ANNOTATION.complete] !== undefined;
}

/** The snapshot that a disk's claim is still to be filled from; null if it was made empty, or holds all of it. */
export function fillsFrom(claim: Claim): string | null {
  const { annotations = {} } = claim.metadata ?? {};
  return annotations[ANNOTATION.filled] === undefined ? (annotations[ANNOTATION.fillFrom] ?? null) : null;
}

/** Bytes of a claim: as large as it is, or as it is to become. */
export function sizeOf(claim: Claim): number {
  return Math.max(bytes(claim.status?.capacity?.['storage']), bytes(claim.spec?.resources?.requests?.['storage']));
}

const endOf = (claim: Claim): CopyEnd => ({ claim: claim.metadata?.name ?? '', uid: claim.metadata?.uid ?? '' });

export class Copies {
  readonly #client: KubernetesClient;
  readonly #runs: CopyRuns;

  constructor(client: KubernetesClient, settings: Partial<CopySettings> = {}) {
    this.#client = client;
    this.#runs = new CopyRuns(client, { ...COPY_DEFAULTS, ...settings });
  }

  /** The claim that bears the name of this snapshot, whatever it is; null if there is none. */
  read(snapshotId: string): Promise<Claim | null> {
    const { core, namespace } = this.#client;
    const name = snapshotName(snapshotId);
    return attemptOrNull(`reading copy ${name}`, () => core.readNamespacedPersistentVolumeClaim({ namespace, name }));
  }

  /**
   * Begin the copy of a disk, or look at the one that was begun.
   * @param source the disk's claim, which nobody writes to; null if there is none any more
   * @param found what `read` has found
   */
  async save(diskId: string, snapshotId: string, source: Claim | null, found: Claim | null): Promise<SnapshotProgress> {
    const foreign = { state: 'failed', reason: 'A volume of that name is on the cluster and is no copy of this disk' } as const;
    if (found !== null && !isCopyOf(found, snapshotId, diskId)) return foreign;
    if (found?.metadata?.deletionTimestamp !== undefined) return { state: 'failed', reason: 'The copy is being deleted' };
    const id = { mode: 'save', diskId, snapshotId } as const;
    if (found !== null && isComplete(found)) {
      await this.#runs.remove(id);
      return { state: 'complete', sizeBytes: sizeOf(found) };
    }
    if (source === null) return { state: 'failed', reason: 'The volume of this disk is missing; an operator must look' };
    if (fillsFrom(source) !== null) return { state: 'failed', reason: 'The volume of this disk was never filled' };
    const copy = found ?? (await this.#create(diskId, snapshotId, source));
    if (!isCopyOf(copy, snapshotId, diskId)) return foreign;
    const run = await this.#runs.look({ ...id, source: endOf(source), target: endOf(copy) });
    if (run.state === 'running') {
      const { percent, detail, lookAgainMs } = run;
      return { state: 'pending', percent, detail, lookAgainMs };
    }
    if (run.state === 'failed') {
      await this.#runs.remove(id);
      // What is no copy of ours is not ours to delete, whatever the claim says.
      if (!run.foreign) await this.#dropIncomplete(copy);
      return { state: 'failed', reason: run.reason };
    }
    await this.#annotate(copy, ANNOTATION.complete);
    await this.#runs.remove(id);
    return { state: 'complete', sizeBytes: sizeOf(copy), ...(run.contents === undefined ? {} : { contents: run.contents }) };
  }

  /**
   * Fill the new claim of a disk from the copy that it names, and resolve when all is there.
   * @throws NotYet until then, Filling once it is copied; TerminalError if it cannot be filled: it stays unused, and the next call tries again
   */
  async fill(diskId: string, target: Claim): Promise<void> {
    const snapshotId = fillsFrom(target);
    if (snapshotId === null) return;
    const id = { mode: 'fill', diskId, snapshotId } as const;
    const copy = await this.read(snapshotId);
    if (copy === null || !isCopyOf(copy, snapshotId) || !isComplete(copy)) {
      // It may have been deleted since all of it was here.
      if (!(await this.#runs.isDone(id, target.metadata?.uid ?? ''))) {
        throw new TerminalError(`The snapshot ${snapshotId}, from which this disk was to be made, does not exist`);
      }
    } else {
      const run = await this.#runs.look({ ...id, source: endOf(copy), target: endOf(target) });
      if (run.state === 'running') {
        const how = run.percent > 0 ? `${run.percent} %` : run.detail;
        const what = `The disk is being filled from its snapshot: ${how}`;
        throw run.begun ? new Filling(run.lookAgainMs, run.percent, what) : new NotYet(run.lookAgainMs, what);
      }
      if (run.state === 'failed') {
        await this.#runs.remove(id);
        throw new TerminalError(`The disk could not be filled from its snapshot ${snapshotId}: ${run.reason}`);
      }
    }
    await this.#annotate(target, ANNOTATION.filled);
    await this.#runs.remove(id);
  }

  /** Delete a copy of this disk, complete or not; what does not bear the disk's label and the snapshot's id is left alone. */
  async remove(diskId: string, snapshotId: string): Promise<void> {
    const found = await this.read(snapshotId);
    if (found === null || !isCopyOf(found, snapshotId, diskId)) return;
    await this.#runs.remove({ mode: 'save', diskId, snapshotId });
    await this.#delete(found.metadata?.name ?? '', { uid: found.metadata?.uid ?? '' });
  }

  /** Stop what fills this claim, if anything does: it is to be deleted. */
  async stopFill(diskId: string, target: Claim): Promise<void> {
    const snapshotId = fillsFrom(target);
    if (snapshotId !== null) await this.#runs.remove({ mode: 'fill', diskId, snapshotId });
  }

  /** Stop copies that were given up but still read the disk. @throws NotYet while there are any */
  async stopSaves(diskId: string): Promise<void> {
    if ((await this.#runs.stopSaves(diskId)) > 0) throw new NotYet(500, 'An earlier copy of this disk is being stopped');
  }

  /** Create the claim, or join the one that another made at the same moment. */
  async #create(diskId: string, snapshotId: string, source: Claim): Promise<Claim> {
    const { core, namespace } = this.#client;
    const { accessModes = ['ReadWriteOnce'], storageClassName } = source.spec ?? {};
    const owner = source.metadata?.annotations?.[ANNOTATION.owner];
    const body: Claim = {
      metadata: {
        name: snapshotName(snapshotId),
        namespace,
        labels: {
          ...diskLabels(diskId),
          [LABEL.snapshot]: labelValue(snapshotName(snapshotId)),
          ...(owner === undefined ? {} : { [LABEL.owner]: labelValue(owner) }),
        },
        annotations: { [ANNOTATION.snapshot]: snapshotId, ...(owner === undefined ? {} : { [ANNOTATION.owner]: owner }) },
      },
      spec: {
        accessModes,
        // Where the disk can be reached, its copy can.
        ...(storageClassName === undefined ? {} : { storageClassName }),
        resources: { requests: { storage: quantityOf(sizeOf(source)) } },
      },
    };
    try {
      return await attempt(`creating copy ${snapshotId}`, () => core.createNamespacedPersistentVolumeClaim({ namespace, body }));
    } catch (error) {
      const found = hasStatus(error, 409) ? await this.read(snapshotId) : null;
      if (found === null) throw error;
      return found;
    }
  }

  /** Say on exactly this claim that all is there. */
  async #annotate(claim: Claim, what: string): Promise<void> {
    const { core, namespace } = this.#client;
    const { name = '', uid = '' } = claim.metadata ?? {};
    const body = { metadata: { uid, annotations: { [what]: new Date().toISOString() } } };
    await attempt(`recording that ${name} is complete`, () =>
      core.patchNamespacedPersistentVolumeClaim(
        { namespace, name, body },
        setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
      ),
    );
  }

  /** Delete a claim that is no snapshot yet: one that was completed since it was looked at stays. */
  async #dropIncomplete(copy: Claim): Promise<void> {
    for (let seen: Claim | null = copy, tries = 0; seen !== null && tries < DROP_TRIES; tries += 1) {
      const { name = '', uid = '', resourceVersion = '' } = seen.metadata ?? {};
      if (isComplete(seen) || uid !== copy.metadata?.uid) return;
      if (await this.#delete(name, { uid, resourceVersion })) return;
      // The cluster has written into its status.
      seen = await this.read(copy.metadata?.annotations?.[ANNOTATION.snapshot] ?? name);
    }
  }

  /** @returns false if it is another by now */
  async #delete(name: string, preconditions: { uid: string; resourceVersion?: string }): Promise<boolean> {
    const { core, namespace } = this.#client;
    const body = { preconditions };
    try {
      await attemptOrNull(`removing copy ${name}`, () => core.deleteNamespacedPersistentVolumeClaim({ namespace, name, body }));
      return true;
    } catch (error) {
      if (!hasStatus(error, 409)) throw error;
      return false;
    }
  }
}
