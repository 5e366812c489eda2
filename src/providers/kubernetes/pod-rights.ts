/** What the processes of a dev server may do: as little as a machine with sshd, sudo and a package manager needs. */
import type { V1SecurityContext } from '@kubernetes/client-node';
import { PROFILING_LABEL, type ServerSpec } from '../../../actors/reservation/ports.ts';

/**
 * All else is dropped: raw packets, device nodes, the clock, modules.
 * Owners and modes (CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETFCAP) and users (SETUID, SETGID, SETPCAP) for package managers, sshd, su and sudo;
 * KILL for their signals, SYS_CHROOT for sshd's jail, NET_BIND_SERVICE for port 22, AUDIT_WRITE for PAM.
 */
const NEEDED = [
  'AUDIT_WRITE',
  'CHOWN',
  'DAC_OVERRIDE',
  'FOWNER',
  'FSETID',
  'KILL',
  'NET_BIND_SERVICE',
  'SETFCAP',
  'SETGID',
  'SETPCAP',
  'SETUID',
  'SYS_CHROOT',
];

/** Whether the reservation asked for a node where GPUs may be profiled; then it runs on such a node or nowhere. */
export function profiles({ nodeLabels }: Pick<ServerSpec, 'nodeLabels'>): boolean {
  return nodeLabels[PROFILING_LABEL] === 'true';
}

export function securityContext(spec: ServerSpec): V1SecurityContext {
  const add = [
    ...NEEDED,
    // Network cards write to memory that must stay where it is; only whole nodes have such cards.
    ...(spec.efaCount > 0 ? ['IPC_LOCK'] : []),
    // Counters of a GPU need it. With it a user is close to root on the node, so nodes without the label never see it.
    ...(profiles(spec) ? ['SYS_ADMIN'] : []),
  ];
  return {
    ...(spec.preserveEntrypoint ? {} : { runAsUser: 0 }),
    // sudo is a way to gain rights. Where nobody logs in nobody needs it, but the API server refuses to forbid it along with SYS_ADMIN.
    allowPrivilegeEscalation: !spec.preserveEntrypoint || profiles(spec),
    capabilities: { drop: ['ALL'], add },
  };
}
