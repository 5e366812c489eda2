/** What we ask of Route 53, and how its answers read. */
import type * as Sdk from '@aws-sdk/client-route-53';
import { type AwsSettings, AwsService } from './client.ts';

/** One record set of a zone: all values of one type under one name. */
export interface RecordSet {
  /** Without a dot at its end. */
  name: string;
  type: string;
  ttl: number | null;
  values: string[];
  /** As it came, whole: only that can be deleted. */
  whole: Sdk.ResourceRecordSet;
}

/** CREATE fails if there is one of that name and type, DELETE if it is not exactly this: no change overwrites what it has not seen. */
export interface Change {
  action: 'CREATE' | 'DELETE';
  record: Sdk.ResourceRecordSet;
}

/** Of a page: what Route 53 gives at most. */
const PAGE = 300;
const READ = { repeatable: true } as const;

export class Route53 {
  readonly service: AwsService<typeof Sdk, Sdk.Route53Client>;

  constructor(settings: AwsSettings) {
    this.service = new AwsService(
      settings,
      () => import('@aws-sdk/client-route-53'),
      (sdk, config) => new sdk.Route53Client(config),
    );
  }

  /** Some records of the zone, in its own order, from this name on. @throws AwsError */
  async from(zone: string, name: string, most: number): Promise<{ records: RecordSet[]; more: boolean }> {
    const page = await this.#page(zone, { StartRecordName: name, MaxItems: most });
    return { records: (page.ResourceRecordSets ?? []).map(recordOf), more: page.IsTruncated === true };
  }

  /** All records of the zone, page by page. @throws AwsError; Error if a page leads back to itself */
  async *all(zone: string): AsyncGenerator<RecordSet[]> {
    let from: Partial<Sdk.ListResourceRecordSetsCommandInput> = {};
    for (;;) {
      const page = await this.#page(zone, { ...from, MaxItems: PAGE });
      yield (page.ResourceRecordSets ?? []).map(recordOf);
      if (page.IsTruncated !== true) return;
      const { NextRecordName, NextRecordType, NextRecordIdentifier } = page;
      const next = {
        StartRecordName: NextRecordName,
        StartRecordType: NextRecordType,
        ...(NextRecordIdentifier === undefined ? {} : { StartRecordIdentifier: NextRecordIdentifier }),
      };
      if (NextRecordName === undefined || JSON.stringify(next) === JSON.stringify(from))
        throw new Error('The list of records leads back to the page it came from');
      from = next;
    }
  }

  /** Make all of these changes, or none. It is not waited for until every name server has them. @throws AwsError */
  async change(zone: string, changes: readonly Change[]): Promise<void> {
    await this.service.call(
      `changing ${changes.length} records`,
      ({ client, sdk }, abortSignal) =>
        client.send(
          new sdk.ChangeResourceRecordSetsCommand({
            HostedZoneId: zone,
            ChangeBatch: { Changes: changes.map(({ action, record }) => ({ Action: action, ResourceRecordSet: record })) },
          }),
          { abortSignal },
        ),
      // One that was done already is refused, and whoever asked looks again.
      { repeatable: true },
    );
  }

  /** Name of the zone, without a dot at its end. @throws AwsError */
  async nameOf(zone: string): Promise<string> {
    const { HostedZone } = await this.service.call(
      `looking at the zone ${zone}`,
      ({ client, sdk }, abortSignal) => client.send(new sdk.GetHostedZoneCommand({ Id: zone }), { abortSignal }),
      READ,
    );
    return plain(HostedZone?.Name ?? '');
  }

  #page(zone: string, from: Partial<Sdk.ListResourceRecordSetsCommandInput>) {
    return this.service.call(
      'listing records',
      ({ client, sdk }, abortSignal) =>
        client.send(new sdk.ListResourceRecordSetsCommand({ HostedZoneId: zone, ...from }), { abortSignal }),
      READ,
    );
  }
}

function recordOf(whole: Sdk.ResourceRecordSet): RecordSet {
  const { Name = '', Type = '', TTL = null, ResourceRecords = [] } = whole;
  return { name: plain(Name), type: Type, ttl: TTL, values: ResourceRecords.map(({ Value = '' }) => Value), whole };
}

/** As people write it: Route 53 ends names with a dot, and writes a star as \052. */
function plain(name: string): string {
  return name.toLowerCase().replace(/\\052/g, '*').replace(/\.$/, '');
}
