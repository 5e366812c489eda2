// Keys of users for tests, made straight in the database.
import { userOfLogin } from '../../persistence/api-users.ts';
import type { Database } from '../../persistence/database.ts';
import { issueKey } from '../../src/identity/api-key.ts';
import type { Scope } from '../../src/identity/principal.ts';

export interface KeyWishes {
  scopes?: readonly Scope[];
  admin?: boolean;
  ttlHours?: number;
}

/** A new key of this user, who is made if there is none of the name. */
export async function keyFor(db: Pick<Database, 'withTransaction'>, username: string, wishes: KeyWishes = {}): Promise<string> {
  const { admin = false, ttlHours = 168 } = wishes;
  const scopes: readonly Scope[] = wishes.scopes ?? ['read', 'reserve', 'disks', ...(admin ? (['admin'] as const) : [])];
  return db.withTransaction(async (tx) => {
    const user = await userOfLogin(tx, { account: '', username, awsArn: null, atHome: true });
    if (user === null) throw new Error(`${username} is taken`);
    if (admin) await tx.query('update api_users set is_admin = true where user_id = $1', [user.user_id]);
    const { key } = await issueKey(tx, {
      userId: user.user_id,
      ttlHours,
      scopes,
      source: 'key',
      description: 'of a test',
      authenticatedAt: null,
    });
    return key.reveal();
  });
}

/** Remembers the keys that it made, so that each user has one. */
export class TestKeys {
  readonly #db: Pick<Database, 'withTransaction'>;
  readonly #keys = new Map<string, Promise<string>>();

  constructor(db: Pick<Database, 'withTransaction'>) {
    this.#db = db;
  }

  /** The header with a key of this user. */
  async as(user: string, wishes: KeyWishes = {}): Promise<{ authorization: string }> {
    const name = JSON.stringify([user, wishes]);
    let key = this.#keys.get(name);
    if (key === undefined) {
      key = keyFor(this.#db, user, wishes);
      this.#keys.set(name, key);
    }
    return { authorization: `Bearer ${await key}` };
  }
}
