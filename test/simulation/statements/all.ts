/** Every statement's twin, registered by being imported. */
import './actor-store.ts';
import './capacity.ts';
import './deadlines.ts';
import './disk.ts';
import './history.ts';
import './intake.ts';
import './ledger.ts';
import './mailbox.ts';
import './names.ts';
import './quotas.ts';
import './outbox.ts';
import './reservation.ts';
import './tracker.ts';
