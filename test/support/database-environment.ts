/** How a process of its own is told of a database. */
import type { DatabaseSettings } from '../../persistence/database.ts';

/** The variables that name this database, as operators set them. */
export function databaseEnvironment({ host, port, user, password, database }: DatabaseSettings): Record<string, string> {
  return {
    POSTGRES_HOST: host,
    POSTGRES_PORT: String(port),
    POSTGRES_USER: user,
    POSTGRES_PASSWORD: password,
    POSTGRES_DB: database,
  };
}
