/** Who else may do something with a reservation. */
import { v7 as uuidv7 } from 'uuid';
import { z } from 'zod';
import { posting } from '../../actors/intake/doors.ts';
import { UserName } from '../../actors/intake/messages.ts';
import { GITHUB_NAME } from '../../machines/reservation.events.ts';
import { findUserByName } from '../../persistence/api-users.ts';
import { recordAudit } from '../../persistence/audit.ts';
import { type CollaboratorRow, dropRole, listCollaborators, setRole } from '../../persistence/collaborators.ts';
import { findUserOfGithub } from '../../persistence/github-proofs.ts';
import { Problem } from '../errors.ts';
import { ROLES } from '../identity/principal.ts';
import { accept, ask, type Asked, decisionOf } from './ask.ts';
import type { HttpDeps, Server } from './deps.ts';
import { actOnceWithin, Key } from './once.ts';
import { problems } from './problems.ts';
import type { ReservationReader } from './reader.ts';
import { ById } from './reservations.ts';
import { auditOf, senderOf } from './user.ts';

const Role = z.enum(ROLES).meta({ description: '`view`: see it; `attach`: log in as well; `own`: everything its owner may.' });

const Collaborator = z
  .object({
    user: z.string().nullable().meta({ description: 'Null: nobody here has proven the GitHub name to be theirs.' }),
    github_user: z.string().nullable(),
    role: Role.nullable().meta({ description: 'Null: their SSH keys are let in, and nothing else.' }),
    ssh: z.boolean().meta({ description: 'Whether the SSH keys of their GitHub name are let in.' }),
    added_by: z.string().nullable(),
    added_at: z.string().nullable(),
  })
  .meta({ description: 'Somebody who was let into a reservation.' });

const Everybody = z.object({ id: z.string(), owner: z.string(), collaborators: z.array(Collaborator) });
const Added = Everybody.extend({
  ssh_note: z.string().nullable().meta({ description: 'Why their SSH keys are not let in; null if they are, or need not be.' }),
});

const Who = z.strictObject({
  user: UserName.nullish(),
  github_username: z.string().regex(GITHUB_NAME, 'must be a GitHub user name').nullish(),
  role: Role.default('attach'),
  idempotency_key: Key,
});

/** Somebody who is meant, as far as they are known. */
interface Person {
  userId: number | null;
  user: string | null;
  github: string | null;
}

export function collaboratorRoutes(app: Server, deps: HttpDeps, reader: ReservationReader): void {
  const { db, kernel } = deps;

  app.get(
    '/v1/reservations/:id/collaborators',
    {
      config: { access: { scope: 'read', on: 'reservation', role: 'view' } },
      schema: {
        tags: ['reservations'],
        summary: 'Who else may see it, log in to it, or change it',
        params: ById,
        response: { 200: Everybody, ...problems(401, 403, 404, 409, 503) },
      },
    },
    async (request) => {
      const { id, owner } = await reader.open(request, request.params.id);
      return { id, owner, collaborators: await everybody(id) };
    },
  );

  app.post(
    '/v1/reservations/:id/collaborators',
    {
      config: { access: { scope: 'reserve', on: 'reservation', role: 'own' } },
      schema: {
        tags: ['reservations'],
        summary: 'Let somebody in, or change their role: by user name, or by a GitHub name',
        description:
          'A GitHub name that somebody has proven is that user. One that nobody has proven gets its SSH keys let in and nothing else. Keys are ' +
          'let in for `attach` and `own`, while the server runs.',
        params: ById,
        body: Who,
        response: { 200: Added, ...problems(400, 401, 403, 404, 409, 413, 415, 503) },
      },
    },
    async (request) => {
      const { id, owner } = await reader.open(request, request.params.id);
      const { role } = request.body;
      const person = await personOf(request.body);
      if (person.user === owner) {
        throw new Problem('GPU_FIELD_INVALID', `The field user: ${owner} is its owner`, { field: 'user' });
      }
      if (person.userId === null && role !== 'attach') {
        throw new Problem(
          'GPU_FIELD_INVALID',
          `The field role: nobody has proven the GitHub name ${person.github}, so it may only attach`,
          {
            field: 'role',
          },
        );
      }
      const { userId } = person;
      const name = `share:${uuidv7()}`;
      // The role and the keys that come with it in one transaction: sent again, neither is given anew to whom it was taken from meanwhile.
      const shared = await kernel.deliver((tx, post) =>
        actOnceWithin(tx, request, `collaborators of ${id}`, async () => {
          if (userId !== null) {
            await setRole(tx, id, userId, role, senderOf(request).user);
            await recordAudit(tx, auditOf(request, 'reservation.share', `reservation/${id}`, { with: person.user, role }));
          }
          const { change, note } = keysOf(await listCollaborators(tx, id), person, role);
          if (change === null) return { note, told: null };
          const event = eventOf(id, owner, change);
          return { note, told: { event, accepted: await accept(request, tx, posting(post), event, name) } };
        }),
      );
      const { told } = shared;
      const note = told === null ? shared.note : await noteOf(() => decisionOf(deps, reader, told.event, told.accepted));
      return { id, owner, collaborators: await everybody(id), ssh_note: note };
    },
  );

  app.delete(
    '/v1/reservations/:id/collaborators/:who',
    {
      config: { access: { scope: 'reserve', on: 'reservation', role: 'own' } },
      schema: {
        tags: ['reservations'],
        summary: 'Let somebody in no more: a user name, or `github:<name>`',
        params: ById.extend({ who: z.string().min(1).max(140) }),
        response: { 200: Everybody, ...problems(400, 401, 403, 404, 409, 503) },
      },
    },
    async (request) => {
      const { id, owner } = await reader.open(request, request.params.id);
      const { who } = request.params;
      const github = /^github:(.+)$/.exec(who)?.[1];
      const person = await personOf(github === undefined ? { user: who } : { github_username: github });
      const { userId } = person;
      const had =
        userId !== null &&
        (await db.withTransaction(async (tx) => {
          const dropped = await dropRole(tx, id, userId);
          if (dropped) await recordAudit(tx, auditOf(request, 'reservation.unshare', `reservation/${id}`, { with: person.user }));
          return dropped;
        }));
      const { change } = keysOf(await listCollaborators(db, id), person, null);
      if (!had && change === null)
        throw new Problem('GPU_USER_UNKNOWN', `${who.slice(0, 100)} was not let into it`, { field: 'who' });
      if (change !== null) await noteOf(() => ask(deps, reader, request, eventOf(id, owner, change)));
      return { id, owner, collaborators: await everybody(id) };
    },
  );

  async function everybody(id: string): Promise<z.infer<typeof Collaborator>[]> {
    return (await listCollaborators(db, id)).map((row) => ({ ...row, added_at: row.added_at?.toISOString() ?? null }));
  }

  /** @throws Problem unless exactly one of the two names is given, and a user name is one of ours */
  async function personOf({
    user,
    github_username: github,
  }: {
    user?: string | null | undefined;
    github_username?: string | null | undefined;
  }): Promise<Person> {
    if ((user ?? null) === null && github != null) {
      const proven = await findUserOfGithub(db, github);
      return { userId: proven?.user_id ?? null, user: proven?.name ?? null, github };
    }
    if (user == null || github != null) {
      throw new Problem('GPU_FIELD_INVALID', 'Name one: user, or github_username', { field: 'user' });
    }
    const row = await findUserByName(db, user);
    if (row === null) throw new Problem('GPU_USER_UNKNOWN', `There is no user ${user}`, { field: 'user' });
    return { userId: row.user_id, user: row.name, github: row.github_user };
  }
}

/** Why a server does not let keys in; null if it does. The role is theirs all the same: keys are a matter of a server that runs. */
async function noteOf(tell: () => Promise<boolean>): Promise<string | null> {
  try {
    await tell();
    return null;
  } catch (error) {
    if (error instanceof Problem && error.code === 'GPU_EVENT_IGNORED') return error.message;
    throw error;
  }
}

function eventOf(id: string, owner: string, { type, github }: KeyChange): Asked {
  return { id, owner, type, fields: { github_username: github }, key: null };
}

/** SSH keys that a server should let in, or no more. */
interface KeyChange {
  type: 'add_user' | 'remove_user';
  github: string;
}

/** What a role asks of the server, of whose keys it lets in now; and why it can ask nothing. @param role null: none any more */
function keysOf(
  rows: readonly CollaboratorRow[],
  person: Person,
  role: CollaboratorRow['role'],
): { change: KeyChange | null; note: string | null } {
  const { github, user } = person;
  const mayLogIn = role === 'attach' || role === 'own';
  if (github === null) {
    const note = `${user} has not proven a GitHub name yet, so it is not known which SSH keys are theirs`;
    return { change: null, note: mayLogIn ? note : null };
  }
  if (isIn(rows, person) === mayLogIn) return { change: null, note: null };
  return { change: { type: mayLogIn ? 'add_user' : 'remove_user', github }, note: null };
}

/** Whether the SSH keys of a person are let in. */
function isIn(rows: readonly Pick<CollaboratorRow, 'github_user' | 'ssh'>[], { github }: Person): boolean {
  return github !== null && rows.some((row) => row.ssh && row.github_user?.toLowerCase() === github.toLowerCase());
}
