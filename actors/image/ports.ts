/** What an image needs of the world: something that builds it. */

export interface BuildRequest {
  hash: string;
  attempt: number;
  owner: string;
}

export type BuildProgress =
  | { state: 'running'; detail: string }
  | { state: 'succeeded'; image: string }
  | { state: 'failed'; reason: string };

export interface ImageBuilder {
  /** Start the build of this hash and attempt, or look at it. Single flight: N calls, one build. Reasons are free of secrets. */
  build(request: BuildRequest): Promise<BuildProgress>;
  /** Stop it; missing is fine. */
  cancel(request: Pick<BuildRequest, 'hash' | 'attempt'>): Promise<void>;
}
