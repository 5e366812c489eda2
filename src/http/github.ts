/** Proving once that a GitHub name is one's own: by a signature with an SSH key that GitHub publishes under it. */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { GITHUB_NAME } from '../../machines/reservation.events.ts';
import { recordAudit } from '../../persistence/audit.ts';
import { askForProof, type Challenge, findChallenge, findUserOfGithub, noteProof } from '../../persistence/github-proofs.ts';
import { Problem } from '../errors.ts';
import { DEFAULT_IDENTITY } from '../identity/settings.ts';
import { isSignedBy, SignatureError } from '../identity/ssh-signature.ts';
import { principalOf } from './access.ts';
import type { HttpDeps, Server } from './deps.ts';
import { actOnce, earlierAnswer, Key } from './once.ts';
import { problems } from './problems.ts';
import { auditOf } from './user.ts';

/** What signatures are made for, as `ssh-keygen -Y sign -n`. */
export const NAMESPACE = 'gpu-dev';
const VALID_SECONDS = 600;

const Asked = z.object({
  github_username: z.string(),
  message: z.string().meta({ description: 'What to sign, to the last character.' }),
  namespace: z.string(),
  command: z.string(),
  expires_at: z.string(),
});

export function githubRoutes(app: Server, deps: HttpDeps): void {
  const { db, identity = DEFAULT_IDENTITY } = deps;

  app.post(
    '/v1/me/github',
    {
      config: { access: { scope: 'reserve', on: 'self' } },
      schema: {
        tags: ['identity'],
        summary: 'What to sign to prove that a GitHub name is yours',
        body: z.strictObject({
          github_username: z.string().regex(GITHUB_NAME, 'must be a GitHub user name'),
          idempotency_key: Key,
        }),
        response: { 200: Asked, ...problems(400, 401, 403, 409, 413, 415, 503) },
      },
    },
    async (request) => {
      const { userId, user } = principalOf(request);
      const { github_username: github } = request.body;
      await refuseTaken(userId, github);
      // A key of another wish is refused here; nothing of the answer is kept, since it may be too old when it is asked for again.
      await actOnce(db, request, async () => ({}));
      // Who asks again has what was asked of them before, under a key or not.
      const { challenge, until } = await askForProof(db, userId, github, randomBytes(24).toString('hex'), VALID_SECONDS);
      return {
        github_username: github,
        message: messageOf(user, challenge),
        namespace: NAMESPACE,
        command: `ssh-keygen -Y sign -n ${NAMESPACE} -f ~/.ssh/id_ed25519`,
        expires_at: until.toISOString(),
      };
    },
  );

  app.post(
    '/v1/me/github/proof',
    {
      config: { access: { scope: 'reserve', on: 'self' } },
      schema: {
        tags: ['identity'],
        summary: 'The signature: from now on the GitHub name is yours here',
        body: z.strictObject({ signature: z.string().max(16_384), idempotency_key: Key }),
        response: { 200: z.object({ github_user: z.string() }), ...problems(400, 401, 403, 409, 413, 415, 422, 503) },
      },
    },
    async (request) => {
      const { userId, user } = principalOf(request);
      // In this order: what uses the challenge up keeps its answer in the same transaction.
      const challenge = await findChallenge(db, userId);
      const answered = await earlierAnswer<{ github_user: string }>(db, request);
      if (answered !== null) return answered;
      if (challenge === null) throw unproven('nothing was asked of you, or it was too long ago; ask again');
      await refuseTaken(userId, challenge.github_user);
      const keys = await keysOf(challenge.github_user);
      if (!isSigned(keys, request.body.signature, messageOf(user, challenge))) {
        throw unproven(`it was not made, of this message, with a key that GitHub shows for ${challenge.github_user}`);
      }
      const proven = await actOnce(db, request, async (tx) => {
        const outcome = await noteProof(tx, userId, challenge);
        if (outcome === 'taken') throw taken(challenge.github_user);
        if (outcome === 'late') throw unproven('it came too late; ask again');
        await recordAudit(tx, auditOf(request, 'user.prove_github', `user/${user}`, { github_user: challenge.github_user }));
        return { github_user: challenge.github_user };
      });
      app.keyRing.forget();
      return proven;
    },
  );

  async function refuseTaken(userId: number, github: string): Promise<void> {
    const holder = await findUserOfGithub(db, github);
    if (holder !== null && holder.user_id !== userId) throw taken(github);
  }

  async function keysOf(github: string): Promise<string[]> {
    if (identity.proofKeys === null) throw new Problem('GPU_GITHUB_OFF', 'This service does not ask GitHub');
    try {
      return await identity.proofKeys.keysOf(github);
    } catch (error) {
      if (error instanceof Error && error.name === 'TerminalError') throw unproven(error.message);
      throw new Problem('GPU_GITHUB_UNAVAILABLE', 'GitHub does not answer now; the message can be signed for ten minutes');
    }
  }
}

/** What a user signs: it says who they are here, so that nobody else's signature serves them. */
function messageOf(user: string, { github_user: github, nonce }: Challenge): string {
  return `I am ${user} of gpu-dev and ${github} of GitHub.\n${nonce}\n`;
}

function isSigned(keys: readonly string[], signature: string, message: string): boolean {
  try {
    return isSignedBy(keys, signature, message, NAMESPACE);
  } catch (error) {
    if (error instanceof SignatureError) throw unproven(error.message);
    throw error;
  }
}

function unproven(why: string): Problem {
  return new Problem('GPU_GITHUB_UNPROVEN', `The signature proves nothing: ${why}`, { field: 'signature' });
}

function taken(github: string): Problem {
  return new Problem('GPU_GITHUB_TAKEN', `Another user has proven that ${github} is theirs`, { field: 'github_username' });
}
