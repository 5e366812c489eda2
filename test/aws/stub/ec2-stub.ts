/**
 * A recording stand-in for EC2, behind the real SDK, for what moto gets wrong: client tokens, pages, states that lag, volumes in use, zones,
 * throttling, failures, and answers that are lost after the deed.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { ACCOUNT, Ec2State, Refusal, type Snapshot, type Volume } from './ec2-state.ts';
import { Form, refusalXml, xml } from './query.ts';
import { StubServer } from './stub-server.ts';
import { DISKS_POLICY } from '../../../src/providers/aws/policy.ts';

/** Tags that the policy lets be put on what exists. */
const LABELS = new Set(
  DISKS_POLICY.filter(({ Sid }) => Sid === 'LabelOurs').flatMap(({ Condition = {} }) => {
    const { 'aws:TagKeys': keys } = Condition['ForAllValues:StringEquals'] as Record<string, string[]>;
    return keys ?? [];
  }),
);

/**
 * throttle, fail: nothing is done. failAfter, loseAfter: it is done, and the answer is a 500, or the connection breaks. deny: a right is missing.
 */
export type Fault = 'throttle' | 'fail' | 'failAfter' | 'loseAfter' | 'deny';

export class Ec2Stub extends StubServer {
  readonly state = new Ec2State();
  /** Actions in the order in which they came. */
  readonly calls: string[] = [];
  /** Actions that the caller may not do; DryRun tells so too. */
  readonly denied = new Set<string>();
  /** Actions that are refused, and with what code. */
  readonly refuses = new Map<string, string>();
  /** Most items of a page, whatever is asked for. */
  pageSize = 1_000;
  /** Whether this call goes wrong; asked once a call. */
  fault: (action: string) => Fault | null = () => null;

  static start(): Promise<Ec2Stub> {
    return new Ec2Stub().listen();
  }

  count(action: string): number {
    return this.calls.filter((each) => each === action).length;
  }

  /** The next calls of this action go wrong like that, one after the other. */
  failNext(action: string, ...faults: Fault[]): void {
    const before = this.fault;
    this.fault = (called) => (called === action && faults.length > 0 ? faults.shift()! : before(called));
  }

  protected override async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const form = new Form(Buffer.concat(chunks).toString());
    const { action } = form;
    this.calls.push(action);
    const fault = this.fault(action);
    try {
      if (fault === 'throttle') throw new Refusal('RequestLimitExceeded', 'Request limit exceeded.', 503);
      if (fault === 'fail') throw new Refusal('InternalError', 'An internal error has occurred', 500);
      // As the policy has it: what exists already is given no other tags than these.
      const isStrange = action === 'CreateTags' && [...form.tags('Tag').keys()].some((key) => !LABELS.has(key));
      if (fault === 'deny' || this.denied.has(action) || isStrange)
        throw new Refusal('UnauthorizedOperation', 'You are not authorized to perform this operation.', 403);
      if (form.text('DryRun') === 'true')
        throw new Refusal('DryRunOperation', 'Request would have succeeded, but DryRun flag is set.', 412);
      const refusal = this.refuses.get(action);
      if (refusal !== undefined) throw new Refusal(refusal, `${action} ends with ${refusal}`);
      const answer = this.#answer(form);
      if (fault === 'loseAfter') {
        request.socket.destroy();
        return;
      }
      if (fault === 'failAfter') throw new Refusal('InternalError', 'An internal error has occurred', 500);
      response.writeHead(200, { 'content-type': 'text/xml' }).end(xml(`${action}Response`, answer));
    } catch (error) {
      const known = error instanceof Refusal ? error : new Refusal('InternalFailure', String(error), 500);
      response.writeHead(known.status, { 'content-type': 'text/xml' }).end(refusalXml(known.code, known.message));
    }
  }

  #answer(form: Form): Parameters<typeof xml>[1] {
    const { state } = this;
    const id = form.text('VolumeId') ?? '';
    switch (form.action) {
      case 'CreateVolume':
        return volumeXml(
          state.createVolume({
            zone: form.text('AvailabilityZone') ?? '',
            sizeGb: form.number('Size'),
            snapshotId: form.text('SnapshotId'),
            type: form.text('VolumeType') ?? '',
            encrypted: form.text('Encrypted') === 'true',
            token: form.text('ClientToken') ?? '',
            tags: form.tags('TagSpecification.1.Tag'),
          }),
        );
      case 'DescribeVolumes':
        return this.#page(form, 'volumeSet', this.#volumes(form), volumeXml);
      case 'DeleteVolume':
        state.deleteVolume(id);
        return { return: true };
      case 'AttachVolume':
        state.attach(id, form.text('InstanceId') ?? '');
        return { volumeId: id, status: 'attached' };
      case 'DetachVolume':
        state.detach(id, form.text('InstanceId') ?? '', form.text('Force') === 'true');
        return { volumeId: id, status: 'detaching' };
      case 'ModifyVolume':
        state.grow(id, form.number('Size') ?? 0);
        return { volumeModification: { volumeId: id, modificationState: 'modifying' } };
      case 'DescribeVolumesModifications': {
        const { grows } = state.volume(form.list('VolumeId')[0] ?? '');
        return { volumeModificationSet: grows === null ? [] : [{ modificationState: 'modifying', targetSize: grows.to }] };
      }
      case 'DescribeInstances': {
        const instances = form.list('InstanceId').map((instanceId) => ({
          instancesSet: [{ instanceId, instanceState: { name: state.instance(instanceId).state } }],
        }));
        return { reservationSet: instances };
      }
      case 'CreateSnapshot':
        return snapshotXml(state.createSnapshot(id, form.tags('TagSpecification.1.Tag')));
      case 'DescribeSnapshots':
        return this.#page(form, 'snapshotSet', this.#snapshots(form), snapshotXml);
      case 'DeleteSnapshot':
        state.deleteSnapshot(form.text('SnapshotId') ?? '');
        return { return: true };
      case 'CreateTags':
        for (const each of form.list('ResourceId')) {
          const { tags } = each.startsWith('vol-') ? state.volume(each) : state.snapshot(each);
          for (const [key, value] of form.tags('Tag')) tags.set(key, value);
        }
        return { return: true };
      default:
        throw new Refusal('InvalidAction', `The action ${form.action} is not valid for this web service.`);
    }
  }

  #volumes(form: Form): Volume[] {
    this.state.settle();
    const ids = form.list('VolumeId');
    if (ids.length > 0) return ids.map((id) => this.state.volume(id));
    return [...this.state.volumes.values()].filter(
      (volume) => volume.showsAt <= performance.now() && matches(form, volume.tags, {}),
    );
  }

  #snapshots(form: Form): Snapshot[] {
    this.state.settle();
    const ids = form.list('SnapshotId');
    if (ids.length > 0) return ids.map((id) => this.state.snapshot(id));
    const own = form.list('Owner').includes('self');
    return [...this.state.snapshots.values()].filter(
      (snapshot) =>
        snapshot.showsAt <= performance.now() &&
        (!own || snapshot.owner === ACCOUNT) &&
        matches(form, snapshot.tags, { 'volume-id': snapshot.volumeId }),
    );
  }

  #page<T>(form: Form, name: string, all: T[], render: (item: T) => Parameters<typeof xml>[1]): Parameters<typeof xml>[1] {
    const from = form.number('NextToken') ?? 0;
    const to = from + Math.min(form.number('MaxResults') ?? this.pageSize, this.pageSize);
    return { [name]: all.slice(from, to).map(render), ...(to < all.length ? { nextToken: String(to) } : {}) };
  }
}

function matches(form: Form, tags: Map<string, string>, fields: Record<string, string>): boolean {
  return form.filters().every(({ name, values }) => {
    const value = name.startsWith('tag:') ? tags.get(name.slice(4)) : fields[name];
    return value !== undefined && values.includes(value);
  });
}

const tagsXml = (tags: Map<string, string>) => [...tags].map(([key, value]) => ({ key, value }));

function volumeXml(volume: Volume): Parameters<typeof xml>[1] {
  return {
    volumeId: volume.id,
    size: volume.sizeGb,
    ...(volume.fromSnapshot === '' ? {} : { snapshotId: volume.fromSnapshot }),
    availabilityZone: volume.zone,
    status: volume.state,
    createTime: new Date(volume.createdAt).toISOString(),
    attachmentSet: [...volume.attachments].map(([instanceId, status]) => ({ volumeId: volume.id, instanceId, status })),
    tagSet: tagsXml(volume.tags),
    volumeType: volume.type,
    encrypted: volume.encrypted,
  };
}

function snapshotXml(snapshot: Snapshot): Parameters<typeof xml>[1] {
  return {
    snapshotId: snapshot.id,
    volumeId: snapshot.volumeId,
    status: snapshot.state,
    startTime: new Date(snapshot.startedAt).toISOString(),
    progress: snapshot.state === 'completed' ? '100%' : '50%',
    ownerId: snapshot.owner,
    volumeSize: snapshot.sizeGb,
    tagSet: tagsXml(snapshot.tags),
  };
}
