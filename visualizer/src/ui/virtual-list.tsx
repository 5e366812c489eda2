// A list of any length that draws only what is in sight. Rows are of one height.
import { type ReactNode, useCallback, useEffect, useLayoutEffect, useRef, useState } from 'react';

interface Props<T> {
  items: readonly T[];
  rowHeight: number;
  keyOf: (item: T) => string;
  label: string;
  /** Height of the whole in pixels at most. */
  height: number;
  children: (item: T, index: number) => ReactNode;
  /** Called when the end comes into sight. */
  onEnd?: () => void;
}

const BEYOND = 4;

export function VirtualList<T>({ items, rowHeight, keyOf, label, height, children, onEnd }: Props<T>) {
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const total = items.length * rowHeight;
  const seen = Math.min(height, total);
  const first = Math.max(0, Math.floor(top / rowHeight) - BEYOND);
  const last = Math.min(items.length, Math.ceil((top + seen) / rowHeight) + BEYOND);
  const onScroll = useCallback(() => {
    setTop(box.current?.scrollTop ?? 0);
  }, []);
  // A list that became shorter may have scrolled by itself.
  // biome-ignore lint/correctness/useExhaustiveDependencies: the number of items moves the place
  useLayoutEffect(onScroll, [items.length, onScroll]);
  useEffect(() => {
    if (last >= items.length && items.length > 0) onEnd?.();
  }, [last, items.length, onEnd]);
  return (
    <div ref={box} className="virtual" style={{ height: seen }} onScroll={onScroll} tabIndex={0} role="group" aria-label={label}>
      <ul style={{ height: total }} aria-label={label}>
        {items.slice(first, last).map((item, index) => (
          <li
            key={keyOf(item)}
            style={{ transform: `translateY(${(first + index) * rowHeight}px)`, height: rowHeight }}
            aria-setsize={items.length}
            aria-posinset={first + index + 1}
          >
            {children(item, first + index)}
          </li>
        ))}
      </ul>
    </div>
  );
}
