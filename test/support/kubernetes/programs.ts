// The programs of a Kubernetes control plane: found where an earlier run left them, else built from Debian's sources, once a machine.
import { accessSync, constants, existsSync, mkdirSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { buildPrograms } from './build.ts';
import { exclusively } from './once.ts';

export const VERSION = 'v1.20.2';
export const PROGRAMS = ['etcd', 'kube-apiserver', 'kube-scheduler', 'kube-controller-manager'] as const;
export type ProgramName = (typeof PROGRAMS)[number];

/** Where the programs are, or why this machine cannot have them. */
export type Programs = { folder: string } | { missing: string };

/** The folder that keeps the programs: KUBEBUILDER_ASSETS, as other tools for testing controllers call it, or one in the user's cache. */
export function programFolder(): string {
  return process.env.KUBEBUILDER_ASSETS || join(homedir(), '.cache', 'gpu-dev', 'kubernetes');
}

/**
 * All programs of the control plane, built if they are not there. Two runs never build at the same time, and a program shows in its folder
 * only when it is whole. Never throws: a machine that cannot build them is told by `missing`.
 * @param tell what goes on, when it takes long
 */
export async function ensurePrograms(tell: (text: string) => void): Promise<Programs> {
  const folder = programFolder();
  if (absent(folder).length === 0) return { folder };
  const obstacle = obstacleOf();
  if (obstacle !== undefined) return { missing: `${folder} has no ${absent(folder).join(', ')}, and ${obstacle}` };
  try {
    mkdirSync(folder, { recursive: true });
    return await exclusively(
      join(folder, '.build'),
      async () => {
        const wanted = absent(folder);
        if (wanted.length > 0) {
          tell(`building ${wanted.join(', ')} ${VERSION} into ${folder}: some two minutes, once a machine`);
          await buildPrograms({ folder, work: join(folder, '.build', 'work'), wanted });
        }
        const still = absent(folder);
        return still.length === 0 ? { folder } : { missing: `the build gave no ${still.join(', ')}` };
      },
      (pid) => tell(`process ${pid} builds the Kubernetes programs; waiting for it`),
    );
  } catch (error) {
    return { missing: `building them failed: ${error instanceof Error ? error.message : String(error)}` };
  }
}

function absent(folder: string): ProgramName[] {
  return PROGRAMS.filter((name) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return false;
    } catch {
      return true;
    }
  });
}

function obstacleOf(): string | undefined {
  if (process.platform !== 'linux') return `they can be built on Linux only, not on ${process.platform}`;
  if (process.arch !== 'x64' && process.arch !== 'arm64')
    return `they can be built for x64 and arm64 only, not for ${process.arch}`;
  for (const tool of ['apt-get', 'dpkg', 'tar']) {
    if (spawnSync(tool, ['--version'], { stdio: 'ignore' }).error !== undefined) return `building them needs ${tool} (Debian)`;
  }
  if (!existsSync('/usr/share/keyrings/debian-archive-keyring.gpg'))
    return 'building them needs the package debian-archive-keyring';
  return undefined;
}
