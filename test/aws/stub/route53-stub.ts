/**
 * Route 53 as it is where moto is kinder: CREATE of what exists is refused, DELETE wants exactly what stands there, a batch is made whole or not
 * at all, lists have short pages, and more than a few requests in one second are throttled. It remembers every request.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { StubServer } from './stub-server.ts';

export interface StubRecord {
  name: string;
  type: string;
  ttl: number;
  values: string[];
}

interface StubChange {
  action: string;
  record: StubRecord;
}

export interface StubRequest {
  what: 'list' | 'change';
  changes: number;
  at: number;
  status: number;
}

/** What becomes of a request: answered as it should be, refused before anything is done, or done and never answered. */
export type Fate = 'done' | 'throttled' | 'failed' | 'unanswered';

export const ZONE = 'Z0STUB';
const XML = '<?xml version="1.0" encoding="UTF-8"?>\n';
const NAMESPACE = 'xmlns="https://route53.amazonaws.com/doc/2013-04-01/"';

/** Names are ordered by their labels from the right. */
const orderOf = ({ name, type }: Pick<StubRecord, 'name' | 'type'>): string => `${name.split('.').reverse().join('.')} ${type}`;

export class Route53Stub extends StubServer {
  readonly records = new Map<string, StubRecord>();
  readonly requests: StubRequest[] = [];
  /** Requests in any one second; the next is throttled. */
  perSecond = Number.POSITIVE_INFINITY;
  /** Records of a page, whatever is asked for. */
  pageSize = 300;
  /** The fate of each request, by its number from 1. */
  fate: (number: number, what: StubRequest['what']) => Fate = () => 'done';
  /** Called before a change is made: somebody else may be faster. */
  beforeChange: () => void = () => {};

  static start(): Promise<Route53Stub> {
    return new Route53Stub().listen();
  }

  /** Put a record there, as somebody else would. */
  put(record: StubRecord): void {
    this.records.set(`${record.name} ${record.type}`, record);
  }

  get names(): string[] {
    return [...this.records.keys()].sort();
  }

  protected override async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = '';
    for await (const chunk of request) body += chunk;
    const what = request.method === 'POST' ? 'change' : 'list';
    const changes = what === 'change' ? changesIn(body) : [];
    const seen: StubRequest = { what, changes: changes.length, at: performance.now(), status: 0 };
    const recent = this.requests.filter(({ at, status }) => at > seen.at - 1_000 && status !== 400).length;
    this.requests.push(seen);
    const answer = (status: number, xml: string) => {
      seen.status = status;
      response.writeHead(status, { 'content-type': 'text/xml' }).end(XML + xml);
    };
    const refuse = (status: number, code: string, message: string) =>
      answer(
        status,
        `<ErrorResponse ${NAMESPACE}><Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error></ErrorResponse>`,
      );
    const fate = recent >= this.perSecond ? 'throttled' : this.fate(this.requests.length, what);
    if (fate === 'throttled') return refuse(400, 'Throttling', 'Rate exceeded');
    if (fate === 'failed') return refuse(500, 'InternalFailure', 'an internal error');
    if (what === 'list') {
      if (fate === 'unanswered') return void request.socket.destroy();
      return answer(200, this.#list(new URL(request.url ?? '/', this.url).searchParams));
    }
    this.beforeChange();
    const problems = this.#problems(changes);
    if (problems.length === 0) for (const change of changes) this.#apply(change);
    if (fate === 'unanswered') return void request.socket.destroy();
    if (problems.length > 0) {
      const messages = problems.map((problem) => `<Message>${problem}</Message>`).join('');
      return answer(400, `<InvalidChangeBatch ${NAMESPACE}><Messages>${messages}</Messages></InvalidChangeBatch>`);
    }
    const info =
      '<ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status><SubmittedAt>2026-03-02T08:00:00Z</SubmittedAt></ChangeInfo>';
    answer(200, `<ChangeResourceRecordSetsResponse ${NAMESPACE}>${info}</ChangeResourceRecordSetsResponse>`);
  }

  #problems(changes: readonly StubChange[]): string[] {
    const after = new Map(this.records);
    const found: string[] = [];
    for (const { action, record } of changes) {
      const key = `${record.name} ${record.type}`;
      const there = after.get(key);
      const about = `resource record set [name='${record.name}.', type='${record.type}']`;
      const alone = [...after.values()].some(
        ({ name, type }) => name === record.name && (type === 'CNAME') !== (record.type === 'CNAME'),
      );
      if (action === 'DELETE') {
        if (there === undefined) found.push(`Tried to delete ${about} but it was not found`);
        else if (JSON.stringify(there) !== JSON.stringify(record))
          found.push(`Tried to delete ${about} but the values provided do not match`);
        else after.delete(key);
      } else if (action === 'CREATE' && there !== undefined) found.push(`Tried to create ${about} but it already exists`);
      else if (alone) found.push(`RRSet of type ${record.type} with DNS name ${record.name}. is not permitted beside a CNAME`);
      else after.set(key, record);
    }
    return found;
  }

  #apply({ action, record }: StubChange): void {
    const key = `${record.name} ${record.type}`;
    if (action === 'DELETE') this.records.delete(key);
    else this.records.set(key, record);
  }

  #list(query: URLSearchParams): string {
    const from =
      query.get('name') === null ? '' : orderOf({ name: query.get('name')!.replace(/\.$/, ''), type: query.get('type') ?? '' });
    const sorted = [...this.records.values()]
      .sort((a, b) => (orderOf(a) < orderOf(b) ? -1 : 1))
      .filter((record) => orderOf(record) >= from);
    const most = Math.min(Number(query.get('maxitems') ?? 300), this.pageSize);
    const next = sorted[most];
    const sets = sorted
      .slice(0, most)
      .map(
        ({ name, type, ttl, values }) =>
          `<ResourceRecordSet><Name>${name}.</Name><Type>${type}</Type><TTL>${ttl}</TTL><ResourceRecords>${values
            .map((value) => `<ResourceRecord><Value>${value.replaceAll('"', '&quot;')}</Value></ResourceRecord>`)
            .join('')}</ResourceRecords></ResourceRecordSet>`,
      );
    const more =
      next === undefined
        ? '<IsTruncated>false</IsTruncated>'
        : `<IsTruncated>true</IsTruncated><NextRecordName>${next.name}.</NextRecordName><NextRecordType>${next.type}</NextRecordType>`;
    return `<ListResourceRecordSetsResponse ${NAMESPACE}><ResourceRecordSets>${sets.join('')}</ResourceRecordSets>${more}<MaxItems>${most}</MaxItems></ListResourceRecordSetsResponse>`;
  }
}

const inner = (xml: string, tag: string): string[] =>
  [...xml.matchAll(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`, 'g'))].map(([, text]) => text!);
const plain = (xml: string): string => xml.replaceAll('&quot;', '"').replaceAll('&#34;', '"').replaceAll('&amp;', '&');

function changesIn(body: string): StubChange[] {
  return inner(body, 'Change').map((change) => ({
    action: inner(change, 'Action')[0]!,
    record: {
      name: plain(inner(change, 'Name')[0]!).replace(/\.$/, ''),
      type: inner(change, 'Type')[0]!,
      ttl: Number(inner(change, 'TTL')[0]),
      values: inner(change, 'Value').map(plain),
    },
  }));
}
