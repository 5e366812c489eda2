import type { ServerResponse } from 'node:http';
import { formatOf, metadataOnly } from './api/formats.ts';
import { containerLives, openLog } from './api/logs.ts';
import { one } from './api/query.ts';
import { tableOf } from './api/tables.ts';
import type { Watch } from './api/watches.ts';
import type { Cluster } from './cluster.ts';
import { expired } from './errors.ts';
import { resourceById, type Target } from './resources.ts';
import type { ApiRequest, Commit, Query, WatchEvent } from './types.ts';
import { encodingOf, objectJson } from './wire.ts';

/** A watcher that reads this much less than it is sent is cut off. */
const BACKLOG_LIMIT = 64 * 1024 * 1024;
/** Watches without timeoutSeconds end after this long, as the API server ends them. */
const LONGEST_WATCH = 45 * 60 * 1000;

interface OpenWatch {
  resource: string;
  watch: Watch;
  response: ServerResponse;
  line(event: WatchEvent): string;
}

interface OpenLog {
  uid: string;
  container: string;
  response: ServerResponse;
  format(line: { at: number; text: string }): string;
}

/** Long answers: watches and followed logs, fed by every commit of the cluster. */
export class Streams {
  private readonly cluster: Cluster;
  private readonly watches = new Map<string, Set<OpenWatch>>();
  private readonly logs = new Set<OpenLog>();

  constructor(cluster: Cluster) {
    this.cluster = cluster;
    cluster.subscribe((commit) => this.publish(commit));
  }

  get openWatches(): number {
    return [...this.watches.values()].reduce((sum, set) => sum + set.size, 0);
  }

  watch(target: Target, request: ApiRequest, response: ServerResponse): void {
    const { query, accept } = request;
    const seconds = Number(one(query, 'timeoutSeconds') ?? 0);
    const watch = this.cluster.watch(target, query, Date.now());
    const open: OpenWatch = { resource: target.resource.id, watch, response, line: this.lineFormat(target, accept, query) };
    response.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'no-cache, private' });
    response.flushHeaders();
    if (watch.initial.length > 0) response.write(watch.initial.map(open.line).join(''));
    if (watch.ended) {
      response.end();
      return;
    }
    const set = this.watches.get(open.resource) ?? new Set();
    this.watches.set(open.resource, set.add(open));
    const end = setTimeout(() => this.end(open), seconds > 0 ? seconds * 1000 : LONGEST_WATCH);
    const bookmark = watch.bookmarks ? setInterval(() => this.bookmark(open), this.cluster.world.settings.bookmarkMs) : undefined;
    response.on('close', () => {
      clearTimeout(end);
      clearInterval(bookmark);
      set.delete(open);
    });
  }

  log(target: Target, query: Query, response: ServerResponse): void {
    const log = openLog(this.cluster.world, target, query);
    response.writeHead(200, { 'Content-Type': 'text/plain' });
    response.flushHeaders();
    if (log.lines.length > 0) response.write(log.lines.map(log.format).join(''));
    if (!log.follow) {
      response.end();
      return;
    }
    const open: OpenLog = { uid: log.uid, container: log.container, response, format: log.format };
    this.logs.add(open);
    response.on('close', () => this.logs.delete(open));
  }

  /** Ends every open stream; with `gone`, watches get a 410 first. */
  cut(gone = false): number {
    const all = [...this.watches.values()].flatMap((set) => [...set]);
    for (const open of all) {
      if (gone)
        open.response.write(
          open.line({ type: 'ERROR', object: expired('too old resource version: the history was compacted').status() }),
        );
      if (gone) this.end(open);
      else open.response.destroy();
    }
    for (const open of this.logs) open.response.end();
    return all.length;
  }

  private end(open: OpenWatch): void {
    this.watches.get(open.resource)?.delete(open);
    open.response.end();
  }

  private bookmark(open: OpenWatch): void {
    open.response.write(open.line(open.watch.bookmark(this.cluster.world.store.version)));
  }

  private publish(commit: Commit): void {
    const resources = new Set<string>();
    for (const event of commit.events) if (this.watches.has(event.resource)) resources.add(event.resource);
    for (const resource of resources) {
      const events = commit.events.filter((event) => event.resource === resource);
      for (const open of this.watches.get(resource) ?? []) {
        let text = '';
        for (const event of events) {
          const seen = open.watch.view(event);
          if (seen !== undefined) text += open.line(seen);
        }
        if (text === '') continue;
        // One write for all that a commit changed: each is a chunk of its own on the wire.
        open.response.write(text, encodingOf(text));
        if (open.response.writableLength > BACKLOG_LIMIT) open.response.destroy();
      }
    }
    if (this.logs.size > 0) this.publishLogs(commit);
  }

  private publishLogs(commit: Commit): void {
    for (const open of this.logs) {
      for (const operation of commit.side) {
        if (operation.op !== 'append' || operation.table !== `log:${open.uid}` || operation.key !== open.container) continue;
        open.response.write(open.format(operation.value));
      }
      if (!containerLives(this.cluster.world, open.uid, open.container)) {
        this.logs.delete(open);
        open.response.end();
      }
    }
  }

  private lineFormat(target: Target, accept: string | undefined, query: Query | undefined): (event: WatchEvent) => string {
    const format = formatOf(accept);
    const resource = resourceById(target.resource.id);
    let first = true;
    return ({ type, object }) => {
      if (type === 'ERROR' || format === 'json') {
        return `{"type":"${type}","object":${object.metadata?.uid === undefined ? JSON.stringify(object) : objectJson(object)}}\n`;
      }
      if (format === 'metadata') return `${JSON.stringify({ type, object: metadataOnly(object) })}\n`;
      const rows = type === 'BOOKMARK' ? [] : [object];
      const table = tableOf(
        resource,
        rows,
        { resourceVersion: object.metadata.resourceVersion },
        this.cluster.world.store.now,
        query?.includeObject,
      );
      // Only the first table of a watch carries its columns.
      if (!first) table.columnDefinitions = null;
      first = false;
      return `${JSON.stringify({ type, object: table })}\n`;
    };
  }
}
