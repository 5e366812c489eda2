import type { KubeObject } from './types.ts';

const PREFIX = 'simulation.gpu-dev/';

/**
 * How a pod (or a Job, which passes them to its pods) is told to behave:
 * never-ready: "true"; crash-after-ms: N (each start ends with exit 1 after N ms); pull-ms: N; pull-error: TEXT (the image never comes);
 * complete-after-ms: N (exit 0 after N ms); job-outcome: fail | succeed | hang; log: TEXT (what its containers print on start);
 * termination-message: TEXT (what a build tells at its end; empty: nothing).
 */
export type Knob =
  | 'never-ready'
  | 'crash-after-ms'
  | 'pull-ms'
  | 'pull-error'
  | 'complete-after-ms'
  | 'job-outcome'
  | 'log'
  | 'termination-message';

export function knob(object: KubeObject, name: Knob): string | undefined {
  return object.metadata.annotations?.[PREFIX + name];
}

/** A knob in milliseconds; undefined when it is absent or no number. */
export function knobMs(object: KubeObject, name: Knob): number | undefined {
  const value = Number(knob(object, name) ?? Number.NaN);
  return Number.isFinite(value) && value >= 0 ? value : undefined;
}

/** Only the annotations of the simulation, for a Job to hand on. */
export function simulationAnnotations(object: KubeObject): Record<string, string> {
  return Object.fromEntries(Object.entries(object.metadata.annotations ?? {}).filter(([key]) => key.startsWith(PREFIX)));
}
