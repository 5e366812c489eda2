// What the build writes, as it writes it.
import { useEffect, useRef } from 'react';
import { buildLog, useLive } from '../live.ts';
import { useStore } from '../ui/store.ts';

export function BuildLogOf({ id }: { id: string }) {
  useLive('build-log', id);
  return <BuildLog />;
}

export function BuildLog() {
  const log = useStore(buildLog);
  const box = useRef<HTMLPreElement>(null);
  const atEnd = useRef(true);
  const length = log?.lines.length ?? 0;
  // Who reads further up is left there.
  // biome-ignore lint/correctness/useExhaustiveDependencies: new lines move the end
  useEffect(() => {
    if (box.current !== null && atEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [length]);
  if (log === null || log.state === null) return null;
  return (
    <section aria-label="Build log">
      <h2>Build log: {log.state}</h2>
      <pre
        ref={box}
        className="log"
        tabIndex={0}
        role="log"
        aria-label="Lines of the build"
        onScroll={({ currentTarget: { scrollTop, scrollHeight, clientHeight } }) => {
          atEnd.current = scrollTop + clientHeight >= scrollHeight - 20;
        }}
      >
        {log.lines.map(({ line }) => line).join('\n') || 'Nothing yet.'}
      </pre>
    </section>
  );
}
