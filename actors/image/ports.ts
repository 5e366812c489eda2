/** What an image needs of the world: something that builds it. */

export interface BuildRequest {
  hash: string;
  attempt: number;
  owner: string;
  /** Time of the newest line of its log that is known; left out: nobody wants the log. */
  lastLine?: () => Promise<string | null>;
}

/** A line that the build wrote, at a time as the cluster tells it. Free of secrets. */
export interface LogLine {
  at: string;
  text: string;
}

export type BuildProgress = (
  | { state: 'running'; detail: string }
  | { state: 'succeeded'; image: string }
  | { state: 'failed'; reason: string }
) & {
  /** What it wrote since the line that is known, that one included; oldest first. */
  lines?: readonly LogLine[];
};

export interface ImageBuilder {
  /** Start the build of this hash and attempt, or look at it. Single flight: N calls, one build. Reasons are free of secrets. */
  build(request: BuildRequest): Promise<BuildProgress>;
  /** Stop it; missing is fine. */
  cancel(request: Pick<BuildRequest, 'hash' | 'attempt'>): Promise<void>;
}
