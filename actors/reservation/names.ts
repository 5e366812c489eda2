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

// Each gets the first of its names that is free. In the order of the names: of two who want the same ones at the same time, one waits for the
// other, and not both. Whoever asks again holds names already, and must not wait for another's: see claimNames.
export const CLAIM_NAMES = `
  with chosen as (
    select w.reservation_id, free.domain_name
      from unnest($1::text[], $2::text[]) as w(names, reservation_id)
      cross join lateral (
        select each.name as domain_name from unnest(string_to_array(w.names, ' ')) with ordinality as each(name, place)
         where not exists (select 1 from domain_mappings taken where taken.domain_name = each.name)
         order by each.place limit 1) free),
  claimed as (
    insert into domain_mappings (domain_name, reservation_id)
    select domain_name, reservation_id from chosen order by domain_name
    on conflict do nothing
    returning domain_name, reservation_id)
  select found.reservation_id as id, found.domain_name as name, (select domain from served_domain) as domain
    from (select * from claimed
           union all
          select domain_name, reservation_id from domain_mappings where reservation_id = any($2::text[])) found`;

/** A name, and the domain under which names are served; null if there is none. */
export interface ClaimedName {
  name: string;
  domain: string | null;
}

/** A reservation, and what its owner would like it to be called; an empty text is no wish. */
export interface NameWish {
  id: string;
  wish: string;
}

/** How often names are asked for (two who want the same one at the same time both see it free), and from when on with a random number only. */
const TRIES = 20;
const CROWDED = 4;
/** The last number behind a wish, and how many random names are drawn, before a random number goes behind them, which cannot run out. */
const NUMBERS = 19;
const DRAWS = 4;

/**
 * Give reservations their names, in one statement, however many names are taken: the wish, or the wish with a number, or a random one. The
 * row of a live name is never overwritten (R15). Idempotent: a reservation that has a name keeps it.
 * @returns the names by reservation
 */
export async function claimNames(
  tx: Transaction,
  wishes: readonly NameWish[],
  random: () => number,
): Promise<ReadonlyMap<string, ClaimedName>> {
  const names = new Map<string, ClaimedName>();
  let open = wishes;
  for (let attempt = 1; open.length > 0; attempt++) {
    if (attempt > TRIES) throw new Error(`No free name was found in ${TRIES} tries`);
    // Who holds a name and waits for another's may be waited for by its holder: behind the first names come those that nobody else asks for.
    const tried = namesFor(open, attempt < CROWDED && names.size === 0, random).map((each) => each.join(' '));
    const { rows } = await tx.query<ClaimedName & { id: string }>(CLAIM_NAMES, [tried, open.map(({ id }) => id)]);
    for (const { id, name, domain } of rows) names.set(id, { name, domain });
    open = open.filter(({ id }) => !names.has(id));
  }
  return names;
}

/** For each of them the names that it may get, the best first; the last has a random number and cannot run out. */
function namesFor(wishes: readonly NameWish[], mayBePlain: boolean, random: () => number): string[][] {
  const askers = new Map<string, number>();
  return wishes.map(({ wish }) => {
    const wanted = sanitizeName(wish);
    const last = `${wanted ?? randomName(random)}-${Math.floor(random() * 1_000_000)}`;
    if (!mayBePlain) return [last];
    if (wanted === null) return [...Array.from({ length: DRAWS }, () => randomName(random)), last];
    // Those who wish for one name together ask for it one behind the other.
    const before = askers.get(wanted) ?? 0;
    askers.set(wanted, before + 1);
    const plain = [wanted, ...Array.from({ length: NUMBERS - 1 }, (_, index) => `${wanted}-${index + 2}`)];
    return [...plain.slice(before), last];
  });
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
