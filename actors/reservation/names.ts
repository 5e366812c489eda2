/** Names of dev servers: a wish made into a valid host name, or adjective-animal; unique while the server lives, freed with it. */
import type { Transaction } from '../../persistence/database.ts';

const ADJECTIVES =
  'able agile amber ample apt azure balmy bold brave breezy bright brisk calm candid clever coral cosmic crisp daring deft dewy eager early easy fair fancy fleet fond frank free fresh gentle glad golden grand happy hardy hazel humble ideal jolly keen kind lively lucky lunar mellow merry mighty mild misty modest neat nimble noble plucky polar prime proud quick quiet rapid ready rosy royal sage sharp shiny silver smart snowy solar solid spry steady stellar sturdy sunny super swift tidy topaz tranquil trusty upbeat vivid warm wise witty young zesty'.split(
    ' ',
  );
const ANIMALS =
  'alpaca ant antelope badger bat bear beaver bee bison bobcat camel caribou cat cheetah chipmunk cobra condor cougar coyote crab crane cricket crow deer dingo dolphin donkey dove dragonfly duck eagle eel egret elk emu falcon ferret finch firefly flamingo fox frog gazelle gecko gibbon giraffe goat goose gopher grouse gull hamster hare hawk hedgehog heron hippo horse hyena ibex ibis iguana impala jackal jaguar jay kestrel kingfisher kiwi koala lark lemur leopard lion lizard llama lobster loon lynx macaw magpie mallard manatee marmot marten mole mongoose moose moth mouse mule newt ocelot octopus orca oriole osprey ostrich otter owl ox panda panther parrot pelican penguin pheasant pigeon pony puffin puma quail rabbit raccoon raven reindeer robin salmon seal shark sheep shrew skunk sloth snail sparrow spider squid stork swallow swan tapir tiger toad toucan trout turtle viper vulture walrus wasp weasel whale wolf wombat woodpecker wren yak zebra'.split(
    ' ',
  );

/** Names that mean something else on the domain. */
const RESERVED = new Set(['www', 'api', 'admin', 'root', 'mail', 'ftp', 'ns', 'ns1', 'ns2', 'ssh', 'test']);

/** A wish as a host name label: lower case, hyphens (an underscore or a space is taken for one), 52 characters at most, so that a suffix fits; null if nothing is left. */
export function sanitizeName(wish: string): string | null {
  const name = wish
    .toLowerCase()
    .replace(/[_\s.]+/g, '-')
    .replace(/[^a-z0-9-]/g, '')
    .replace(/-{2,}/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 52)
    .replace(/-+$/, '');
  if (name === '') return null;
  return RESERVED.has(name) ? `${name}-dev` : name;
}

/** A random name, adjective-animal. @param random 0 ≤ random() < 1. */
export function randomName(random: () => number): string {
  const pick = (words: readonly string[]) => words[Math.floor(random() * words.length)]!;
  return `${pick(ADJECTIVES)}-${pick(ANIMALS)}`;
}

export const CLAIM_NAME = `with claimed as (
         insert into domain_mappings (domain_name, reservation_id) values ($1, $2) on conflict do nothing returning domain_name)
       select domain_name as name, (select domain from served_domain) as domain
         from (select domain_name from claimed union all select domain_name from domain_mappings where reservation_id = $2) found
       limit 1`;

/** A name, and the domain under which names are served; null if there is none. */
export interface ClaimedName {
  name: string;
  domain: string | null;
}

/**
 * Give a reservation its name: the wish, or the wish with a number, or a random one. The row of a live name is never overwritten (R15).
 * Idempotent: a reservation that has a name keeps it.
 */
export async function claimName(
  tx: Transaction,
  reservationId: string,
  wish: string,
  random: () => number,
): Promise<ClaimedName> {
  const wanted = sanitizeName(wish);
  for (let attempt = 1; attempt <= 200; attempt++) {
    const base = wanted ?? randomName(random);
    // A random name that is taken gets another draw first; later both get a random suffix, which cannot run out.
    const name =
      attempt === 1
        ? base
        : wanted !== null && attempt < 20
          ? `${base}-${attempt}`
          : attempt < 20
            ? base
            : `${base}-${Math.floor(random() * 1_000_000)}`;
    const { rows } = await tx.query<ClaimedName>(CLAIM_NAME, [name, reservationId]);
    if (rows[0] !== undefined) return rows[0];
  }
  throw new Error('No free name was found in 200 tries');
}

export const FREE_NAMES = 'delete from domain_mappings where reservation_id = any($1::text[]) and fqdn is null';

export const LEAVE_NAMES =
  'update domain_mappings set freed_at = now(), updated_at = now() where reservation_id = any($1::text[]) and freed_at is null';

/**
 * Free the names of reservations that have ended. One that still stands in DNS stays taken until it is proven gone there: whoever proves it
 * finds that its owner has left.
 */
export async function freeNames(tx: Transaction, reservationIds: readonly string[]): Promise<void> {
  const { rowCount } = await tx.query(FREE_NAMES, [reservationIds]);
  if (rowCount === reservationIds.length) return;
  await tx.query(LEAVE_NAMES, [reservationIds]);
  // One of them may have been proven gone just before it was marked.
  await tx.query(FREE_NAMES, [reservationIds]);
}
