// Builds Kubernetes 1.20.2 from the source package of Debian 12, with the Go of Debian 12. Nothing is installed and no root is needed.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, existsSync, readdirSync, readFileSync } from 'node:fs';
import { copyFile, cp, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ProgramName, VERSION } from './programs.ts';

const RELEASE = 'bookworm';
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const PACKAGES = ['golang-1.19-go', 'golang-1.19-src', 'golang-github-modern-go-reflect2-dev', 'etcd-server'];
const MODULE = 'k8s.io/kubernetes';

export interface BuildOptions {
  /** Where the programs go, each in one step when it is whole. */
  folder: string;
  /** Takes 2 GB while it works, and is removed at the end. What an interrupted build left is thrown away. */
  work: string;
  wanted: readonly ProgramName[];
}

/** @throws Error with the last words of the step that failed; the whole log stays in `<work>.log` */
export async function buildPrograms({ folder, work, wanted }: BuildOptions): Promise<void> {
  await rm(work, { recursive: true, force: true });
  await mkdir(join(work, 'packages'), { recursive: true });
  const run = runner(`${work}.log`);
  await download(run, work);
  const unpacked = join(work, 'unpacked');
  for (const file of filesIn(join(work, 'packages'), '.deb')) await run('dpkg', ['-x', file, unpacked], { cwd: work });
  if (wanted.includes('etcd')) await install(join(unpacked, 'usr/bin/etcd'), folder, 'etcd');
  const ours = wanted.filter((name) => name !== 'etcd');
  if (ours.length > 0) {
    const { source, environment } = await prepareSource(run, work, unpacked);
    const out = join(work, 'out');
    await mkdir(out);
    const commands = ours.map((name) => `./cmd/${name}`);
    // Without the code of cloud providers a third of the work is saved; nothing here speaks to a cloud.
    const flags = ['-tags', 'providerless', '-trimpath', '-ldflags', stamp()];
    await run('go', ['build', ...flags, '-o', `${out}/`, ...commands], { cwd: source, env: environment });
    for (const name of ours) await install(join(out, name), folder, name);
  }
  await rm(work, { recursive: true, force: true });
}

type Run = (command: string, args: string[], options: { cwd: string; env?: NodeJS.ProcessEnv }) => Promise<void>;

function runner(logFile: string): Run {
  const log = createWriteStream(logFile);
  return async (command, args, { cwd, env }) => {
    log.write(`\n$ ${command} ${args.join(' ').slice(0, 500)}\n`);
    // PWD: Go finds its place in GOPATH by the path that was walked, not by the one that links resolve to.
    const child = spawn(command, args, { cwd, env: { ...process.env, ...env, PWD: cwd }, stdio: ['ignore', 'pipe', 'pipe'] });
    let tail = '';
    const hear = (data: Buffer): void => {
      log.write(data);
      tail = (tail + data.toString()).slice(-600);
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    const [code] = (await once(child, 'close')) as [number | null];
    if (code !== 0) throw new Error(`${command} ${args[0] ?? ''} ended with ${code}: ${tail.trim()} (log: ${logFile})`);
  };
}

/** Through apt with lists and settings of our own, so that signatures are checked and the machine's own apt is not touched. */
async function download(run: Run, work: string): Promise<void> {
  const apt = join(work, 'apt');
  for (const folder of ['lists/partial', 'archives/partial']) await mkdir(join(apt, folder), { recursive: true });
  const list = join(apt, 'sources.list');
  const from = `[signed-by=${KEYRING}] ${mirror()} ${RELEASE} main`;
  await writeFile(list, `deb ${from}\ndeb-src ${from}\n`);
  const settings = {
    'Dir::Etc::SourceList': list,
    'Dir::Etc::SourceParts': '/dev/null',
    'Dir::State::Lists': join(apt, 'lists'),
    'Dir::Cache': apt,
    // Else apt drops to a user that may not be able to enter our folder.
    'APT::Sandbox::User': 'root',
  };
  const common = ['-q', ...Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])];
  const cwd = join(work, 'packages');
  await run('apt-get', [...common, 'update'], { cwd });
  await run('apt-get', [...common, 'download', ...PACKAGES], { cwd });
  await run('apt-get', [...common, 'source', '--download-only', 'kubernetes=1.20*'], { cwd }).catch(() =>
    run('apt-get', [...common, 'source', '--download-only', 'kubernetes'], { cwd }),
  );
}

/** The mirror that the machine itself uses, if it is a Debian; DEBIAN_MIRROR wins. */
function mirror(): string {
  if (process.env.DEBIAN_MIRROR) return process.env.DEBIAN_MIRROR;
  const file = '/etc/apt/sources.list.d/debian.sources';
  const uri = existsSync(file) ? /^URIs:\s*(\S+)/m.exec(readFileSync(file, 'utf8'))?.[1] : undefined;
  return uri ?? 'http://deb.debian.org/debian';
}

async function prepareSource(run: Run, work: string, unpacked: string) {
  const place = join(work, 'src', MODULE);
  await mkdir(place, { recursive: true });
  const [tarball] = filesIn(join(work, 'packages'), '.orig.tar.gz');
  if (tarball === undefined) throw new Error('the source package of kubernetes has no .orig.tar.gz');
  await run('tar', ['-xzf', tarball, '-C', place, '--strip-components=1'], { cwd: work });
  // This release knows no Go modules as Debian ships it: it must lie inside a GOPATH.
  const gopath = join(work, 'gopath');
  await mkdir(gopath);
  await symlink('../src', join(gopath, 'src'));
  const source = join(gopath, 'src', MODULE);
  const goroot = join(unpacked, 'usr/lib/go-1.19');
  const environment = {
    PATH: `${join(goroot, 'bin')}:${process.env.PATH}`,
    GOROOT: goroot,
    GOPATH: gopath,
    GO111MODULE: 'off',
    GOTOOLCHAIN: 'local',
    GOFLAGS: '',
    CGO_ENABLED: '0',
    GOCACHE: join(work, 'cache'),
  };
  await replaceReflect2(source, unpacked);
  await generateOpenapi(run, { work, source, environment });
  return { source, environment };
}

/** The vendored one reads the innards of Go's maps as they were before 1.18 and crashes with ours; Debian's own package is newer. */
async function replaceReflect2(source: string, unpacked: string): Promise<void> {
  const name = 'github.com/modern-go/reflect2';
  const vendored = join(source, 'vendor', name);
  for (const file of filesIn(vendored, '.go')) await rm(file);
  await cp(join(unpacked, 'usr/share/gocode/src', name), vendored, {
    recursive: true,
    filter: (path) => !path.endsWith('_test.go'),
  });
}

/** The one generated file that the tarball does not bring: definitions of every package marked for it. */
async function generateOpenapi(run: Run, at: { work: string; source: string; environment: NodeJS.ProcessEnv }): Promise<void> {
  const { work, source, environment } = at;
  const generator = join(work, 'openapi-gen');
  const options = { cwd: source, env: environment };
  await run('go', ['build', '-o', generator, './vendor/k8s.io/kube-openapi/cmd/openapi-gen'], options);
  const marked = new Set(['pkg', 'staging/src/k8s.io'].flatMap((top) => markedFolders(source, top)));
  const inputs = [...marked]
    .map((folder) => folder.replace(/^staging\/src\//, 'vendor/'))
    .sort()
    .map((folder) => `${MODULE}/${folder}`);
  await run(
    generator,
    [
      '--logtostderr',
      ...['-i', inputs.join(',')],
      ...['-p', `${MODULE}/pkg/generated/openapi`],
      ...['-O', 'zz_generated.openapi'],
      ...['-h', 'vendor/k8s.io/code-generator/hack/boilerplate.go.txt'],
      ...['-r', join(work, 'violations')],
    ],
    options,
  );
}

function markedFolders(source: string, folder: string): string[] {
  if (/\/(code-generator|sample-apiserver)$/.test(folder)) return [];
  const entries = readdirSync(join(source, folder), { withFileTypes: true });
  const here = entries.some(
    (entry) =>
      entry.isFile() &&
      entry.name.endsWith('.go') &&
      !entry.name.startsWith('zz_generated') &&
      readFileSync(join(source, folder, entry.name), 'utf8').includes('+k8s:openapi-gen='),
  );
  const below = entries.filter((entry) => entry.isDirectory()).flatMap(({ name }) => markedFolders(source, `${folder}/${name}`));
  return here ? [folder, ...below] : below;
}

/** Linker flags: small programs that know their version. */
function stamp(): string {
  const [major, minor] = VERSION.slice(1).split('.');
  const facts = {
    gitVersion: VERSION,
    gitMajor: major,
    gitMinor: minor,
    gitTreeState: 'clean',
    buildDate: '2021-01-13T13:20:00Z',
  };
  const packages = ['component-base/version', 'client-go/pkg/version'].map((name) => `${MODULE}/vendor/k8s.io/${name}`);
  const values = packages.flatMap((name) => Object.entries(facts).map(([key, value]) => `-X ${name}.${key}=${value}`));
  return ['-s -w', ...values].join(' ');
}

function filesIn(folder: string, ending: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name));
}

/** A rename is whole or not at all; the copy before it may cross file systems. */
async function install(from: string, folder: string, name: string): Promise<void> {
  const partial = join(folder, `.${name}-${process.pid}`);
  await copyFile(from, partial);
  await rename(partial, join(folder, name));
}
