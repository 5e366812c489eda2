/** Where things are inside a dev server, and on which ports it answers. The scripts beside know the same places. */

export const HOME = '/home/dev';
/** Where the Secret of keys and token is mounted. */
export const ACCESS_FOLDER = '/etc/gpu-dev/access';
/** Where the scripts of this server are mounted. */
export const SCRIPTS_FOLDER = '/etc/gpu-dev/scripts';
/** What must survive a restart of the container, and ends with the pod: keys of the host, what is switched on. */
export const STATE_FOLDER = '/var/lib/gpu-dev';
export const USER = { name: 'dev', id: 1081 } as const;

/**
 * Every port that a dev server answers on. Ports of nodes are in no list: the API server hands them out, so that two can never be the same.
 */
export const PORTS = { ssh: 22, jupyter: 8888, rendezvous: 29_500 } as const;
