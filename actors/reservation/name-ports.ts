/** What a reservation needs of DNS and of a load balancer. Neither is needed for a server to run. Every call may be repeated after a crash. */

/** Where a name is to lead. */
export interface PublishedName {
  reservationId: string;
  generation: number;
  /** The whole name, without a dot at its end. */
  fqdn: string;
  /** Address, or host name, of the server's node. */
  host: string;
  /** Port of the node that leads to the server's SSH port. */
  port: number;
}

/** Whose a record is, by what was written when it was made. */
export interface NameRef {
  reservationId: string;
  fqdn: string;
}

/** The zone of those who make no records, because one for all names stands there already. */
export const NO_ZONE = '*';

/** Names of servers in DNS. */
export interface Names {
  /** Where the records stand (a hosted zone, or {@link NO_ZONE}): what was made in another one cannot be unmade here. */
  readonly zone: string;
  /**
   * Let the name lead there. What leads elsewhere and is this reservation's is changed.
   * @throws TerminalError if a record of somebody else's stands there: it is never touched
   */
  publish(name: PublishedName): Promise<void>;
  /** Let the name lead nowhere. Done only when it is proven that nothing of this reservation's stands there. */
  withdraw(name: NameRef): Promise<void>;
}

/** A way to the Jupyter of a server. */
export interface PublishedRoute {
  reservationId: string;
  generation: number;
  fqdn: string;
  node: string;
  /** Port of the node that leads to Jupyter. */
  port: number;
  /** From the pool of places: the priority of its rule, or the port of its listener. */
  place: number;
}

/** What was made for a way. */
export interface RouteObjects {
  url: string;
  targetGroup: string;
  rule: string;
}

/** The place is another's, whom our database does not know. */
export class PlaceTakenError extends Error {
  override readonly name = 'PlaceTakenError';
  /** All places that are in use there. */
  readonly taken: readonly number[];
  constructor(taken: readonly number[]) {
    super('The place on the load balancer is taken by somebody else');
    this.taken = taken;
  }
}

/** Ways to Jupyter through a load balancer. */
export interface Routes {
  /** The load balancer's own name: what was made on another one cannot be unmade here. */
  readonly loadBalancer: string;
  /** First and last place of the pool. */
  readonly places: readonly [number, number];
  /**
   * Create or adopt the way, and let it lead to this node and port alone.
   * @throws PlaceTakenError; TerminalError if a quota is used up or what has its name is not ours, in words for the user
   */
  publish(route: PublishedRoute): Promise<RouteObjects>;
  /** Remove the way. Done only when it is proven that nothing of it is left. */
  withdraw(route: { reservationId: string; rule: string | null }): Promise<void>;
}
