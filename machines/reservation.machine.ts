/**
 * The life of a reservation. Top-level states bear the names people see; finer steps are substates.
 *
 *   queued → (building → queued) → provisioning → running ⇄ extending → snapshotting → expired | failed | cancelled
 *
 * Promises that this chart keeps:
 * - Cancel is legal in every live state. The first cause of an end stays its outcome.
 * - Every end that has a pod goes through snapshotting: stop writers, then release the GPU slots, then detach, capture, release.
 * - Slots are returned on `pod.gone` only, which is sent on positive proof alone.
 * - Names and routes are published when the server is usable and withdrawn when it is not; nothing waits for either.
 * - No state can hang: each has a limit, or is tagged `resting` (its wait is the user's stay itself).
 */
import { newReservation, type ReservationInput } from './reservation.context.ts';
import { endInQueue, endUnserved, endWithPod, limited, machineSetup } from './reservation.setup.ts';

/** Every live state notes a message that was lost, so that its user can read of it. */
const noting = { 'message.lost': { actions: 'noteLost' } } as const;

/** What a usable server accepts, whether or not an extension is being decided. */
const whileUsable = {
  ...noting,
  cancel: endWithPod('cancelled'),
  'pod.died': { guard: 'ofThisPod', ...endWithPod('failed') },
  'pod.gone': { guard: 'ofThisLife', ...endWithPod('failed') },
  'pod.created': { guard: 'ofThisLife', actions: ['podKnown', 'publishName'] },
  'pod.ready': { guard: 'ofThisPod', actions: 'podReady' },
  'pod.unready': { guard: 'ofThisPod', actions: 'podUnready' },
  'pod.oom': { guard: 'ofThisPod', actions: ['noteOom', 'postOomNotice'] },
  'deadline.warn30': { actions: ['noteWarning', 'postWarning'] },
  'deadline.warn15': { actions: ['noteWarning', 'postWarning'] },
  'deadline.warn5': { actions: ['noteWarning', 'postWarning'] },
  'deadline.graceEnd': endWithPod('expired'),
  add_user: { guard: 'isNewUser', actions: ['userAdded', 'updateAccess'] },
  remove_user: { guard: 'isAddedUser', actions: ['userRemoved', 'updateAccess'] },
  'access.missing': { guard: 'ofThisLife', actions: 'restoreAccess' },
  'access.updated': { guard: 'ofThisLife', actions: 'usersUpdated' },
  'access.failed': { guard: 'ofThisLife', actions: 'usersFailed' },
  enable_jupyter: { guard: 'jupyterIsOff', actions: ['jupyterStarting', 'startJupyter'] },
  disable_jupyter: { guard: 'jupyterIsOn', actions: ['jupyterStopping', 'stopJupyter', 'withdrawRoute'] },
  'jupyter.started': { guard: 'ofThisLife', actions: ['jupyterOn', 'publishRoute'] },
  'jupyter.stopped': { guard: 'ofThisLife', actions: 'jupyterOff' },
  'jupyter.failed': { guard: 'ofThisLife', actions: 'jupyterFailed' },
  'name.published': { guard: 'ofThisLife', actions: 'namePublished' },
  'name.failed': { guard: 'ofThisLife', actions: 'nameFailed' },
  'name.missing': { guard: 'ofThisLife', actions: ['nameWithdrawn', 'publishName'] },
  'route.published': { guard: 'routedJupyter', actions: 'routePublished' },
  'route.failed': { guard: 'routedJupyter', actions: 'routeFailed' },
  'route.missing': { guard: 'routedJupyter', actions: 'publishRoute' },
} as const;

export const reservationMachine = machineSetup.createMachine({
  id: 'reservation',
  version: '1',
  description: 'One reserved GPU dev server, from the request to the saved disk.',
  context: ({ input }: { input: ReservationInput | undefined }) => newReservation(input),
  options: { maxIterations: 100 },
  initial: 'queued',
  states: {
    queued: {
      description: 'Accepted and waiting: for its gang, its disk, or capacity. It holds no GPU.',
      tags: ['live'],
      ...limited('queued'),
      initial: 'deciding',
      on: {
        ...noting,
        cancel: endInQueue('cancelled', 'cancelled'),
        'deadline.queued': endInQueue('failed', 'failed'),
        'gang.broken': [
          ...endInQueue('failed', 'gangEnded').slice(0, 2),
          { guard: 'gangCancelled', ...endUnserved('cancelled', 'gangEnded') },
          endUnserved('failed', 'gangEnded'),
        ],
      },
      states: {
        deciding: {
          description: 'Finds what is missing before capacity can be asked for.',
          always: [
            { guard: 'isServed', target: '#reservation.running', actions: 'resumeStay' },
            { guard: 'gangIncomplete', target: 'gang' },
            { guard: 'needsImage', target: '#reservation.building' },
            { guard: 'needsDisk', target: 'disk' },
            { target: 'capacity' },
          ],
        },
        gang: {
          description: 'Waits until every member of the gang has been submitted.',
          entry: ['tellWaitsForGang', 'joinGang', { type: 'startLimit', params: { limit: 'gang' } }],
          exit: { type: 'clearLimit', params: { limit: 'gang' } },
          on: {
            'gang.complete': { target: 'deciding', actions: 'gangIsComplete' },
            'deadline.gang': endUnserved('failed', 'failed'),
          },
        },
        disk: {
          description: 'Waits for its disk, which another reservation may hold.',
          entry: ['diskAsked', 'askDisk', { type: 'startLimit', params: { limit: 'diskWait' } }],
          exit: { type: 'clearLimit', params: { limit: 'diskWait' } },
          on: {
            'disk.acquired': { target: 'deciding', actions: 'diskAcquired' },
            'disk.busy': [{ guard: 'failsOnBusyDisk', ...endUnserved('failed', 'failedOnBusyDisk') }, { actions: 'diskBusy' }],
            'disk.unavailable': endUnserved('failed', 'failed'),
            'deadline.diskWait': endUnserved('failed', 'failed'),
          },
        },
        capacity: {
          description: 'Waits in the queue of its GPU type, with the place of its submission.',
          entry: ['tellWaitsForCapacity', 'askCapacity'],
          on: {
            'capacity.granted': { guard: 'ofThisLife', target: '#reservation.provisioning', actions: 'rememberGrant' },
            'capacity.refused': [{ guard: 'ofEarlierLife' }, ...endInQueue('failed', 'failed')],
          },
        },
      },
    },

    building: {
      description: 'The image is being built; no GPU is held meanwhile.',
      tags: ['live'],
      entry: ['tellBuilding', 'askImage', { type: 'startLimit', params: { limit: 'building' } }],
      exit: { type: 'clearLimit', params: { limit: 'building' } },
      on: {
        ...noting,
        'image.ready': { target: 'queued', actions: 'rememberImage' },
        'image.progress': { actions: 'noteProgress' },
        'image.failed': endUnserved('failed', 'failed'),
        'deadline.building': endUnserved('failed', 'failed'),
        'gang.broken': [{ guard: 'gangCancelled', ...endUnserved('cancelled', 'gangEnded') }, endUnserved('failed', 'gangEnded')],
        cancel: endUnserved('cancelled', 'cancelled'),
      },
    },

    provisioning: {
      description: 'Capacity is granted: disk, pod and access are being made.',
      tags: ['live', 'holds-slots'],
      initial: 'deciding',
      on: {
        ...noting,
        cancel: endWithPod('cancelled'),
        'gang.broken': endWithPod('gangEnded'),
        'pod.created': { guard: 'ofThisLife', actions: 'podKnown' },
        'pod.createFailed': { guard: 'ofThisLife', ...endWithPod('failed') },
        'pod.createDelayed': { guard: 'ofThisLife', actions: 'noteCreateTrouble' },
        'pod.waiting': { guard: 'ofThisPod', actions: 'noteWaiting' },
        'pod.died': { guard: 'ofThisPod', ...endWithPod('failed') },
        'pod.gone': { guard: 'ofThisLife', ...endWithPod('failed') },
      },
      states: {
        deciding: {
          description: 'With or without a disk.',
          always: [{ guard: 'hasDisk', target: 'attaching' }, { target: 'creating' }],
        },
        attaching: {
          description: 'The disk is made ready where the server will run.',
          entry: ['diskAttaching', 'attachDisk', { type: 'startLimit', params: { limit: 'attaching' } }],
          exit: { type: 'clearLimit', params: { limit: 'attaching' } },
          on: {
            'disk.attached': [
              { guard: 'diskIsElsewhere', target: 'retreating', actions: 'diskAttached' },
              { guard: 'ofThisLife', target: 'creating', actions: 'diskAttached' },
            ],
            'disk.filling': {
              guard: 'ofThisLife',
              actions: ['noteFill', { type: 'startLimit', params: { limit: 'attaching' } }],
            },
            'disk.moving': { guard: 'ofThisLife', actions: 'noteMoving' },
            'disk.attachFailed': { guard: 'ofThisLife', ...endWithPod('failed') },
            'disk.unavailable': endWithPod('failed'),
            'deadline.attaching': endWithPod('failed'),
          },
        },
        creating: {
          description: 'The pod and what belongs to it are being created, and the scheduler binds it.',
          entry: ['tellCreating', 'createPod', { type: 'startLimit', params: { limit: 'podPending' } }],
          exit: { type: 'clearLimit', params: { limit: 'podPending' } },
          on: {
            'pod.unschedulable': { guard: 'ofThisLife', actions: 'noteUnschedulable' },
            'pod.scheduled': { guard: 'ofThisPod', target: 'pulling' },
            'pod.started': { guard: 'ofThisPod', target: 'probing' },
            'pod.ready': [
              { guard: 'readyAndConnected', target: '#reservation.running', actions: ['podReady', 'beginStay', 'startStay'] },
              { guard: 'ofThisPod', target: 'connecting', actions: 'podReady' },
            ],
            'deadline.podPending': [{ guard: 'firstLifeOnly', target: 'retreating' }, endWithPod('failed')],
          },
        },
        pulling: {
          description: 'The node pulls the image.',
          entry: ['tellPulling', { type: 'startLimit', params: { limit: 'imagePull' } }],
          exit: { type: 'clearLimit', params: { limit: 'imagePull' } },
          on: {
            'pod.started': { guard: 'ofThisPod', target: 'probing' },
            'pod.ready': [
              { guard: 'readyAndConnected', target: '#reservation.running', actions: ['podReady', 'beginStay', 'startStay'] },
              { guard: 'ofThisPod', target: 'connecting', actions: 'podReady' },
            ],
            'deadline.imagePull': endWithPod('failed'),
          },
        },
        probing: {
          description: 'The containers run; the probe of the SSH port has not answered yet.',
          entry: ['tellProbing', { type: 'startLimit', params: { limit: 'readyProbe' } }],
          exit: { type: 'clearLimit', params: { limit: 'readyProbe' } },
          on: {
            'pod.ready': [
              { guard: 'readyAndConnected', target: '#reservation.running', actions: ['podReady', 'beginStay', 'startStay'] },
              { guard: 'ofThisPod', target: 'connecting', actions: 'podReady' },
            ],
            'deadline.readyProbe': endWithPod('failed'),
          },
        },
        connecting: {
          description: 'The server answers; its services are being made.',
          ...limited('connecting'),
          on: {
            'pod.created': {
              guard: 'ofThisLife',
              target: '#reservation.running',
              actions: ['podKnown', 'beginStay', 'startStay'],
            },
            'deadline.connecting': endWithPod('failed'),
          },
        },
        retreating: {
          description: 'The pod found no place, or would find none: it is removed, and the reservation goes back to the queue.',
          entry: ['tellRetreating', 'removePod', { type: 'startLimit', params: { limit: 'stopping' } }],
          exit: { type: 'clearLimit', params: { limit: 'stopping' } },
          on: {
            'pod.gone': { guard: 'ofThisLife', target: '#reservation.queued.capacity', actions: ['returnSlots', 'nextLife'] },
            'pod.died': { guard: 'ofThisPod' },
            'pod.createDelayed': { guard: 'ofThisLife' },
            'pod.created': { guard: 'ofThisLife', actions: 'podKnown' },
            'deadline.stopping': { actions: ['forceRemovePod', { type: 'startLimit', params: { limit: 'stopping' } }] },
            'pod.unreachable': { guard: 'ofThisLife', actions: ['noteUnreachable', 'removePod'] },
          },
        },
      },
    },

    running: {
      description: 'The server is usable; the reserved time runs.',
      tags: ['live', 'resting', 'holds-slots'],
      initial: 'serving',
      on: { ...whileUsable },
      states: {
        serving: {
          description: 'Within the reserved time.',
          on: {
            extend: [
              { guard: 'withinTotal', target: '#reservation.extending', actions: ['askedExtension', 'askExtension'] },
              { actions: 'refusedByLimit' },
            ],
            'deadline.expiry': { target: 'grace', actions: ['postFinalNotice', 'startGrace'] },
          },
        },
        grace: {
          description: 'The time is over; two minutes of notice before the teardown begins. An extension is still possible.',
          on: {
            extend: [
              { guard: 'withinTotal', target: '#reservation.extending.grace', actions: ['askedExtension', 'askExtension'] },
              { actions: 'refusedByLimit' },
            ],
          },
        },
        where: { type: 'history', history: 'deep', description: 'Exactly where running was.' },
      },
    },

    extending: {
      description: 'An extension is being decided while the server stays up and in use.',
      tags: ['live', 'holds-slots'],
      entry: { type: 'startLimit', params: { limit: 'extending' } },
      exit: { type: 'clearLimit', params: { limit: 'extending' } },
      initial: 'steady',
      on: {
        ...whileUsable,
        // A second wish joins the first: both are decided together, and the answer to the first alone is overtaken.
        extend: [{ guard: 'withinTotal', actions: ['askedExtension', 'askExtension'] }, { actions: 'refusedByLimit' }],
        'extension.allowed': {
          guard: 'answersThisAsk',
          target: '#reservation.running.serving',
          actions: ['extended', 'moveExpiry'],
        },
        'extension.refused': { guard: 'answersThisAsk', target: '#reservation.running.where', actions: 'extensionRefused' },
        'deadline.extending': { target: '#reservation.running.where', actions: 'extensionRefused' },
      },
      states: {
        steady: {
          description: 'Asked for within the reserved time.',
          on: { 'deadline.expiry': { target: 'grace', actions: ['postFinalNotice', 'startGrace'] } },
        },
        grace: {
          description: 'Asked for in, or overtaken by, the grace after expiry: a refusal leads back to the grace.',
          on: {
            'extension.refused': { guard: 'answersThisAsk', target: '#reservation.running.grace', actions: 'extensionRefused' },
            'deadline.extending': { target: '#reservation.running.grace', actions: 'extensionRefused' },
          },
        },
      },
    },

    snapshotting: {
      description:
        'The end of every reservation that had a pod: stop the writers, free the GPUs, save the disk, release the rest.',
      tags: ['live'],
      entry: ['clearStay', 'withdrawNames'],
      initial: 'stopping',
      on: {
        ...noting,
        cancel: { description: 'Accepted; the first cause stays the outcome.', actions: 'cancelled' },
      },
      states: {
        stopping: {
          description: 'The pod is being deleted; its GPU slots are freed the moment it is confirmed gone.',
          tags: ['holds-slots'],
          entry: ['tellStopping', 'removePod', { type: 'startLimit', params: { limit: 'stopping' } }],
          exit: { type: 'clearLimit', params: { limit: 'stopping' } },
          on: {
            'pod.gone': [
              { guard: 'goneWithDisk', target: 'detaching', actions: ['podGone', 'returnSlots'] },
              { guard: 'ofThisLife', target: 'releasing', actions: ['podGone', 'returnSlots'] },
            ],
            'pod.terminating': { guard: 'ofThisLife' },
            'deadline.stopping': { actions: ['forceRemovePod', { type: 'startLimit', params: { limit: 'stopping' } }] },
            'pod.unreachable': { guard: 'ofThisLife', actions: ['noteUnreachable', 'removePod'] },
          },
        },
        detaching: {
          description: 'The disk is being detached from the node; no GPU is held.',
          entry: ['tellDetaching', 'detachDisk', { type: 'startLimit', params: { limit: 'detaching' } }],
          exit: { type: 'clearLimit', params: { limit: 'detaching' } },
          on: {
            'disk.detached': { target: 'capturing', actions: 'diskDetached' },
            'disk.captureFailed': { target: 'releasing', actions: 'diskGivenUp' },
            'deadline.detaching': { target: 'releasing', actions: 'diskGivenUp' },
          },
        },
        capturing: {
          description: 'The final snapshot of the disk is being taken.',
          ...limited('capturing'),
          on: {
            'disk.progress': { actions: 'noteCapture' },
            'disk.captured': { target: 'releasing', actions: 'diskCaptured' },
            'disk.captureFailed': { target: 'releasing', actions: 'diskGivenUp' },
            'deadline.capturing': { target: 'releasing', actions: 'diskGivenUp' },
          },
        },
        releasing: {
          description: 'Keys, services and the name are being released.',
          entry: ['tellReleasing', 'releaseDisk', 'removeAccess', { type: 'startLimit', params: { limit: 'releasing' } }],
          exit: { type: 'clearLimit', params: { limit: 'releasing' } },
          on: {
            'access.removed': { guard: 'ofThisLife', target: 'ending' },
            'effect.failed': { guard: 'accessRemovalFailed', target: 'ending' },
            'deadline.releasing': { target: 'ending' },
          },
        },
        ending: {
          description: 'All is released; the first cause decides the outcome.',
          always: [
            { guard: 'endsExpired', target: '#reservation.expired', actions: 'freeName' },
            { guard: 'endsCancelled', target: '#reservation.cancelled', actions: 'freeName' },
            { target: '#reservation.failed', actions: 'freeName' },
          ],
        },
      },
    },

    expired: { type: 'final', description: 'The reserved time was used to its end.', entry: 'tellEnd' },
    failed: { type: 'final', description: 'It ended for the reason that it tells.', entry: 'tellEnd' },
    cancelled: { type: 'final', description: 'It was cancelled.', entry: 'tellEnd' },
  },
});
