// Runs in the frame where Stately's page would be: the receiver of its own library, which keeps what it is told.
import { createBrowserReceiver } from '@statelyai/inspect';

const told: unknown[] = [];
Object.assign(globalThis, { told });
createBrowserReceiver().subscribe((event) => told.push(event));
