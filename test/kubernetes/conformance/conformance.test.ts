import { afterAll, beforeAll, describe } from 'vitest';
import { apiConforms } from './api.ts';
import { realApiServer, simulated } from './clusters.ts';
import { devServersConform } from './dev-servers.ts';
import { eventsConform } from './events.ts';
import { imagesConform } from './images.ts';
import { insideConforms } from './inside.ts';
import { nodesConform } from './nodes.ts';
import { local, type Subject } from './subject.ts';
import { troubleConforms } from './trouble.ts';
import { volumesConform } from './volumes.ts';

const real = await realApiServer();

for (const cluster of [simulated, real]) {
  for (const providers of [local]) {
    describe.skipIf(cluster.missing)(`the providers "${providers.name}" on ${cluster.name}`, () => {
      let subject: Subject;
      beforeAll(async () => {
        subject = { ...providers, ...(await cluster.open()) };
      });
      afterAll(() => subject?.close());
      for (const conforms of [
        apiConforms,
        devServersConform,
        insideConforms,
        volumesConform,
        imagesConform,
        nodesConform,
        troubleConforms,
        eventsConform,
      ]) {
        conforms(() => subject);
      }
    });
  }
}
