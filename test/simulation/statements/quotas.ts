/** Twins of persistence/quotas.ts: nobody in the simulated world has a limit. */
import { CLAIM, LOCK_USERS } from '../../../persistence/quotas.ts';
import { rows, twin } from '../store/statement.ts';

twin(LOCK_USERS, (_t, _tx, [owners]) => rows([{ users: new Set(owners as string[]).size }]));
twin(CLAIM, () => rows([]));
