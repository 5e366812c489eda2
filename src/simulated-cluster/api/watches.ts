import { expired } from '../errors.ts';
import { apiVersionOf, type Target } from '../resources.ts';
import type { Matcher } from '../selectors.ts';
import type { Query, StoreEvent, WatchEvent } from '../types.ts';
import type { World } from '../world.ts';
import { listPage, parseVersion, requestMatcher } from './lists.ts';
import { flag, one } from './query.ts';

/** An open watch as data: what to send at once, and how to turn each later change into what this watcher sees. */
export interface Watch {
  initial: WatchEvent[];
  /** Whether the watch ends after `initial` (it asked for a version that is gone). */
  ended: boolean;
  bookmarks: boolean;
  /** What this watcher sees of a change; undefined when it does not see it. */
  view(change: StoreEvent): WatchEvent | undefined;
  bookmark(version: number): WatchEvent;
}

/** Opens a watch. A version that is no longer known gives one ERROR event with a 410 Status, as the API server does. */
export function openWatch(world: World, target: Target, query: Query | undefined): Watch {
  const matches = requestMatcher(target, query);
  const from = one(query, 'resourceVersion');
  const bookmark = (version: number, annotations?: Record<string, string>): WatchEvent => ({
    type: 'BOOKMARK',
    object: {
      kind: target.resource.kind,
      apiVersion: apiVersionOf(target.resource),
      metadata: {
        resourceVersion: String(version),
        creationTimestamp: null,
        ...(annotations === undefined ? {} : { annotations }),
      },
    },
  });
  const watch: Watch = {
    initial: [],
    ended: false,
    bookmarks: flag(query, 'allowWatchBookmarks'),
    view: (change) => (change.resource === target.resource.id ? viewOf(matches, change) : undefined),
    bookmark,
  };
  const everything = flag(query, 'sendInitialEvents');
  if (everything || from === undefined || from === '' || from === '0') {
    const { labelSelector, fieldSelector } = query ?? {};
    const { items } = listPage(world, target, { labelSelector, fieldSelector });
    watch.initial = items.map((object) => ({ type: 'ADDED', object }));
    if (everything && watch.bookmarks) watch.initial.push(bookmark(world.store.version, { 'k8s.io/initial-events-end': 'true' }));
    return watch;
  }
  const changes = world.store.eventsSince(parseVersion(from));
  if (changes === undefined) {
    const error = expired(`too old resource version: ${from} (${world.store.compactedVersion})`);
    watch.initial = [{ type: 'ERROR', object: error.status() }];
    watch.ended = true;
    return watch;
  }
  for (const change of changes) {
    const event = watch.view(change);
    if (event !== undefined) watch.initial.push(event);
  }
  return watch;
}

/** An object that begins to match is ADDED, one that no longer matches is DELETED, whatever really happened to it. */
function viewOf(matches: Matcher, change: StoreEvent): WatchEvent | undefined {
  const before = change.previous !== undefined && matches(change.previous);
  const now = change.type !== 'DELETED' && matches(change.object);
  if (!before && !now) return undefined;
  if (now) return { type: before ? 'MODIFIED' : 'ADDED', object: change.object };
  if (change.type === 'DELETED') return { type: 'DELETED', object: change.object };
  const { resourceVersion } = change.object.metadata;
  const last = change.previous ?? change.object;
  return { type: 'DELETED', object: { ...last, metadata: { ...last.metadata, resourceVersion } } };
}
