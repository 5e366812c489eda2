/** All kinds of actors of this service. */
import type { Store } from '../persistence/database.ts';
import { diskKind } from './disk/kind.ts';
import type { Volumes } from './disk/ports.ts';
import type { SnapshotRetention } from './disk/retention.ts';
import { poolKind } from './gpu-pool/kind.ts';
import { imageKind } from './image/kind.ts';
import type { ImageBuilder } from './image/ports.ts';
import type { ActorKind } from './kernel/kind.ts';
import { reservationKind } from './reservation/kind.ts';
import type { Names, Routes } from './reservation/name-ports.ts';
import type { DevServers, KeySource } from './reservation/ports.ts';

/** What the actors need of the outside world. */
export interface Ports {
  db: Store;
  servers: DevServers;
  keys: KeySource;
  volumes: Volumes;
  builder: ImageBuilder;
  names?: Names | null;
  routes?: Routes | null;
  /** Which snapshots of disks are kept; left out: the newest 3 and those of 7 days. */
  snapshotRetention?: SnapshotRetention;
  random?: () => number;
}

/** The kinds, ready for a kernel. */
export function gpuDevKinds(ports: Ports): ActorKind[] {
  return [reservationKind(ports, ports.random), poolKind(), diskKind(ports), imageKind(ports)];
}
