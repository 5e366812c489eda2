/** Who is asking, and for admins: who there is. */
import { z } from 'zod';
import { revokeAdminKeys } from '../../persistence/api-keys.ts';
import { changeUser, findUser, listUsers, type UserRow } from '../../persistence/api-users.ts';
import { recordAudit } from '../../persistence/audit.ts';
import { Problem } from '../errors.ts';
import { isAdmin } from '../identity/login.ts';
import { SCOPES } from '../identity/principal.ts';
import { DEFAULT_IDENTITY } from '../identity/settings.ts';
import { principalOf } from './access.ts';
import type { HttpDeps, Server } from './deps.ts';
import { problems } from './problems.ts';
import { auditOf } from './user.ts';

const User = z
  .object({
    user_id: z.number().int(),
    username: z.string().meta({ description: 'The name that owns reservations and disks.' }),
    session_name: z.string().meta({ description: 'As AWS knows them; the same in two accounts is two users.' }),
    aws_account: z.string().nullable(),
    aws_arn: z.string().nullable(),
    github_user: z.string().nullable().meta({ description: 'Proven to be theirs.' }),
    is_active: z.boolean(),
    is_admin: z.boolean(),
    created_at: z.string(),
    last_login_at: z.string().nullable(),
  })
  .meta({ description: 'A user of this API.' });

const Me = User.extend({
  key_prefix: z.string(),
  scopes: z.array(z.enum(SCOPES)),
  expires_at: z.string().meta({ description: 'When the key of this request ends.' }),
});

const Change = z.strictObject({
  is_active: z
    .boolean()
    .optional()
    .meta({ description: 'False ends the use of all their keys; a login does not change it back.' }),
  is_admin: z.boolean().optional(),
  github_user: z.null().optional().meta({ description: 'null: their proof of a GitHub name counts no more.' }),
});

export function userRoutes(app: Server, deps: HttpDeps): void {
  const { db, identity = DEFAULT_IDENTITY } = deps;
  const viewOf = (row: UserRow): z.infer<typeof User> => ({
    user_id: row.user_id,
    username: row.name,
    session_name: row.username,
    aws_account: row.account === '' ? null : row.account,
    aws_arn: row.aws_arn,
    github_user: row.github_user,
    is_active: row.is_active,
    is_admin: isAdmin(row, identity),
    created_at: row.created_at.toISOString(),
    last_login_at: row.last_login_at?.toISOString() ?? null,
  });

  app.get(
    '/v1/me',
    {
      config: { access: { scope: 'read', on: 'self' } },
      schema: { tags: ['identity'], summary: 'Who you are, by your key', response: { 200: Me, ...problems(401, 403, 503) } },
    },
    async (request) => {
      const { userId, keyPrefix, scopes, expiresAt } = principalOf(request);
      const row = (await findUser(db, userId))!;
      return { ...viewOf(row), key_prefix: keyPrefix, scopes: [...scopes], expires_at: new Date(expiresAt).toISOString() };
    },
  );

  app.get(
    '/v1/users',
    {
      config: { access: { scope: 'admin', on: 'service' } },
      schema: {
        tags: ['identity'],
        summary: 'Users of this API, by id',
        querystring: z.object({
          limit: z.coerce.number().int().min(1).max(500).default(100),
          cursor: z.coerce
            .number()
            .int()
            .min(0)
            .max(2_147_483_647)
            .default(0)
            .meta({ description: '`next_cursor` of the page before.' }),
        }),
        response: {
          200: z.object({ users: z.array(User), next_cursor: z.string().nullable() }),
          ...problems(400, 401, 403, 503),
        },
      },
    },
    async (request) => {
      const { limit, cursor } = request.query;
      const rows = await listUsers(db, cursor, limit + 1);
      const page = rows.slice(0, limit);
      return { users: page.map(viewOf), next_cursor: rows.length > limit ? String(page.at(-1)!.user_id) : null };
    },
  );

  app.patch(
    '/v1/users/:id',
    {
      config: { access: { scope: 'admin', on: 'service' } },
      schema: {
        tags: ['identity'],
        summary: 'Disable a user or let them in again, make an admin, forget a proven GitHub name',
        params: z.object({ id: z.coerce.number().int().min(1).max(2_147_483_647) }),
        body: Change,
        response: { 200: User, ...problems(400, 401, 403, 404, 413, 415, 503) },
      },
    },
    async (request) => {
      const { is_active: isActive, is_admin: admin, github_user: github } = request.body;
      const row = await db.withTransaction(async (tx) => {
        const changed = await changeUser(tx, request.params.id, { isActive, isAdmin: admin, forgetGithub: github === null });
        if (changed === null) throw new Problem('GPU_USER_UNKNOWN', `There is no user ${request.params.id}`, { field: 'id' });
        // What was opened with an admin's key ends with it, streams of everybody's included.
        if (request.body.is_admin === false) await revokeAdminKeys(tx, changed.user_id);
        await recordAudit(tx, auditOf(request, 'user.change', `user/${changed.name}`, { ...request.body }));
        return changed;
      });
      app.keyRing.forget();
      return viewOf(row);
    },
  );
}
