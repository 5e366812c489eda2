/** The suites on volumes where the cluster takes no snapshots: a Job copies, here and on a real API server, which has no snapshots by itself. */
import { afterAll, beforeAll, describe } from 'vitest';
import { realApiServer, simulatedWithoutSnapshots } from './clusters.ts';
import { copiesConform } from './copies.ts';
import { copiesInTroubleConform } from './copies-in-trouble.ts';
import { localWithCopies, type Subject } from './subject.ts';
import { volumesConform } from './volumes.ts';

const real = await realApiServer({ snapshots: false });

for (const cluster of [simulatedWithoutSnapshots, real]) {
  describe.skipIf(cluster.missing)(`the providers "${localWithCopies.name}" on ${cluster.name}`, () => {
    let subject: Subject;
    beforeAll(async () => {
      subject = { ...localWithCopies, ...(await cluster.open()) };
    });
    afterAll(() => subject?.close());
    for (const conforms of [volumesConform, copiesConform, copiesInTroubleConform]) conforms(() => subject);
  });
}
