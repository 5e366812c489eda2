/** Bugs that are planted on purpose. A bug in a statement is planted in its twin as well. */

export interface Mutant {
  name: string;
  edits: readonly { file: string; from: string; to: string }[];
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'the result of a lost lease is taken',
    edits: [
      {
        file: 'persistence/outbox.ts',
        from: 'where e.effect_id = given.effect_id and e.lease_token = $2\n    returning',
        to: "where e.effect_id = given.effect_id and e.status = 'pending'\n    returning",
      },
      {
        file: 'test/simulation/statements/outbox.ts',
        from: 'row?.leaseToken === token;',
        to: "row?.status === 'pending' && token !== '';",
      },
    ],
  },
  {
    name: 'a name is free while it stands in DNS',
    edits: [
      { file: 'actors/reservation/names.ts', from: "any($1::text[]) and fqdn is null'", to: "any($1::text[])'" },
      {
        file: 'test/simulation/statements/reservation.ts',
        from: '|| row.fqdn !== null) continue;',
        to: ') continue;',
      },
      {
        file: 'test/simulation/statements/reservation.ts',
        from: 'if (slot.value === null || slot.value.fqdn !== null) continue;',
        to: '',
      },
    ],
  },
  {
    name: 'a name that is proven gone after its owner has left stays taken',
    edits: [{ file: 'actors/reservation/published-names.ts', from: 'await tx.query(DROP_FREED_NAME, [reservationId]);', to: '' }],
  },
  {
    name: 'a way to Jupyter is not withdrawn',
    edits: [
      {
        file: 'machines/reservation.effects.ts',
        from: "[...withdraw(context, 'name'), ...withdraw(context, 'route')]",
        to: "[...withdraw(context, 'name')]",
      },
    ],
  },
  {
    name: 'a stale deadline is not ignored',
    edits: [
      {
        file: 'actors/kernel/steps.ts',
        from: "if (message.sender !== 'deadline') return false;",
        to: "if (message.sender !== 'none') return false;",
      },
    ],
  },
  {
    name: 'a key that was processed is processed again',
    edits: [{ file: 'actors/kernel/steps.ts', from: 'if (message.processed) continue;', to: '' }],
  },
  {
    name: 'capacity returns before the pod is gone',
    edits: [
      {
        file: 'machines/reservation.machine.ts',
        from: "entry: ['tellStopping', 'removePod',",
        to: "entry: ['tellStopping', 'returnSlots', 'removePod',",
      },
    ],
  },
  {
    name: 'mail is read without an order',
    edits: [
      {
        file: 'persistence/actor-store.ts',
        from: 'order by b.id limit case when locked.born',
        to: 'limit case when locked.born',
      },
      {
        file: 'test/simulation/statements/actor-store.ts',
        from: 'return found.sort(byId).slice(0, limit);',
        to: 'return found.reverse().slice(0, limit);',
      },
    ],
  },
  {
    name: 'a snapshot that is not complete counts as complete',
    edits: [
      {
        file: 'actors/disk/kind.ts',
        from: "if (progress.state === 'pending') throw",
        to: 'if (progress.state === null) throw',
      },
      { file: 'actors/disk/kind.ts', from: 'sizeBytes: progress.sizeBytes', to: 'sizeBytes: null' },
    ],
  },
  {
    name: 'nothing is superseded',
    edits: [{ file: 'persistence/outbox.ts', from: 'if (replacing.length > 0) {', to: 'if (replacing.length > 1_000_000) {' }],
  },
  {
    name: 'a result of an earlier life is taken',
    edits: [
      {
        file: 'machines/reservation.assigns.ts',
        from: "ofThisLife: (context, event) => 'generation' in event && event.generation === context.generation,",
        to: "ofThisLife: (_context, event) => 'generation' in event,",
      },
    ],
  },
  {
    name: 'the tracker writes under a lease that it has lost',
    edits: [
      {
        file: 'persistence/leases.ts',
        from: 'if (rowCount === 0) throw new LeaseLostError',
        to: 'if (rowCount === -1) throw new LeaseLostError',
      },
    ],
  },
  {
    name: 'a state without a limit is tagged as one that may rest',
    edits: [
      {
        file: 'machines/reservation.machine.ts',
        from: "entry: ['tellProbing', { type: 'startLimit', params: { limit: 'readyProbe' } }],",
        to: "tags: ['resting'],\n          entry: ['tellProbing'],",
      },
    ],
  },
  {
    name: 'warnings are not cleared when the stay ends',
    edits: [
      {
        file: 'machines/reservation.effects.ts',
        from: "const STAY_DEADLINES = ['warn30', 'warn15', 'warn5', 'expiry',",
        to: "const STAY_DEADLINES = ['expiry',",
      },
    ],
  },
  {
    name: 'a pod is taken for gone while it terminates',
    edits: [{ file: 'actors/reservation/teardown.ts', from: "if (gone !== 'gone') throw", to: 'if (gone === null) throw' }],
  },
  {
    name: 'a grant does not look at where the disk is',
    edits: [{ file: 'actors/gpu-pool/planner.ts', from: 'if (bound && !there) continue;', to: '' }],
  },
  {
    name: 'messages overtake those that wait',
    edits: [
      {
        file: 'actors/kernel/steps.ts',
        from: 'const taking = [...waiting, ...here.map(atOnce)];',
        to: 'const taking = [...here.map(atOnce), ...waiting];',
      },
    ],
  },
];
