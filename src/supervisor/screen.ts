// What a person sees: short lines while things happen, and a first screen that says what runs and what to type next.
import { relative } from 'node:path';
import { styleText } from 'node:util';
import type { Instance } from './instance.ts';

type Style = Parameters<typeof styleText>[0];

/** Where the supervisor writes for people. Colours only on a terminal, and never with NO_COLOR. */
export type Screen = {
  /** One event of a part, with log lines below it if there are any. */
  event(part: string, message: string, lines?: readonly string[]): void;
  /** A block of text as it is. */
  print(text: string): void;
  paint(style: Style, text: string): string;
};

/** A screen on a stream. A terminal that goes away is no reason to fail. */
export function createScreen(
  stream: NodeJS.WriteStream,
  environment: NodeJS.ProcessEnv,
  now: () => Date = () => new Date(),
): Screen {
  stream.on('error', () => undefined);
  const coloured = stream.isTTY === true && !environment.NO_COLOR && environment.TERM !== 'dumb';
  const paint = (style: Style, text: string) => (coloured ? styleText(style, text, { validateStream: false }) : text);
  const print = (text: string) => {
    stream.write(`${text}\n`);
  };
  return {
    paint,
    print,
    event(part, message, lines = []) {
      const time = now().toTimeString().slice(0, 8);
      print(`${paint('dim', time)} ${part.padEnd(10)} ${message}`);
      for (const line of lines)
        print(paint('dim', `         ${''.padEnd(10)} │ ${line.length > 200 ? `${line.slice(0, 200)}…` : line}`));
    },
  };
}

/** The first screen of a running instance. */
export function firstScreen(instance: Instance, workingDirectory: string, paint: Screen['paint']): string {
  const show = (path: string) => {
    const short = relative(workingDirectory, path);
    return short === '' ? '.' : short.startsWith('..') ? path : short;
  };
  const { postgres, cluster } = instance;
  const home = show(instance.home);
  const rows: [string, string, string][] = [
    ['Page', `${instance.url}/ui`, 'the lifecycle and the board, live'],
    ['HTTP', instance.url, 'POST /v1/reservations, GET /v1/gpus, /metrics'],
    [
      'Postgres',
      `${postgres.host}:${postgres.port}/${postgres.database}`,
      postgres.kind === 'embedded' ? 'embedded, queues gpu_reservations and disk_operations' : 'external, as you asked',
    ],
    [
      'Cluster',
      cluster.kind === 'simulated' ? `http://127.0.0.1:${cluster.port}` : (cluster.kubeconfig ?? 'in-cluster'),
      cluster.kind === 'simulated' ? `simulated, kubeconfig ${show(cluster.kubeconfig ?? '')}` : 'real, as you asked',
    ],
    ['Kept in', home, `logs in ${home}/logs, wiped by npm start -- --fresh`],
  ];
  const width = Math.max(...rows.map(([, where]) => where.length));
  const other = home === '.gpu-dev' ? '' : ` --home ${home}`;
  const steps: [string, string][] = [
    [`eval "$(npx gpu-dev env${other})"`, 'so that the lines below find their way'],
    ['curl -s $GPU_DEV_URL/v1/gpus -H "Authorization: Bearer $GPU_DEV_API_KEY"', 'which GPUs there are'],
    ['npx gpu-dev reserve --type t4 --gpus 1 --hours 4', 'reserve a server and watch it come up'],
    ['npx gpu-dev list', 'your reservations'],
    ['kubectl get pods -n gpu-dev', 'the server as a pod'],
    [
      `psql -c "select pgmq.send('gpu_reservations', jsonb_build_object('action', 'create_reservation',\n` +
        `    'user_id', 'ada', 'gpu_type', 't4', 'gpu_count', 1, 'duration_hours', 4))"`,
      '',
    ],
  ];
  const scale =
    instance.timeScale === 1
      ? ''
      : `, time runs ${instance.timeScale} times faster: 4 h take ${minutes(240 / instance.timeScale)}`;
  return [
    '',
    `${paint('bold', 'gpu-dev is running')}${scale}`,
    '',
    ...rows.map(([name, where, what]) => `  ${name.padEnd(9)} ${paint('cyan', where.padEnd(width))}  ${paint('dim', what)}`),
    '',
    'Now type, in another terminal in this folder:',
    '',
    ...steps.map(([command, why]) => `  ${why === '' ? command : `${command.padEnd(48)} ${paint('dim', `# ${why}`)}`}`),
    '',
    paint('dim', 'Ctrl-C stops everything and keeps the data; the next npm start goes on from there.'),
    '',
  ].join('\n');
}

function minutes(value: number): string {
  return value >= 1 ? `${Number(value.toFixed(1))} min` : `${Number((value * 60).toFixed(1))} s`;
}
