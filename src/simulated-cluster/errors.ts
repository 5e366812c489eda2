import type { Loose } from './types.ts';

/** An error that the API answers as a Kubernetes Status object. */
export class ApiError extends Error {
  readonly code: number;
  readonly reason: string;
  readonly details: Loose;

  constructor(code: number, reason: string, message: string, details?: Loose) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.details = details;
  }

  /** The Status object as sent on the wire. */
  status(): Loose {
    return statusObject(this.code, this.reason, this.message, this.details);
  }
}

/** A Status of kind Failure. */
export function statusObject(code: number, reason: string, message: string, details?: Loose): Loose {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message,
    reason,
    ...(details === undefined ? {} : { details }),
    code,
  };
}

const qualified = (group: string, plural: string): string => (group === '' ? plural : `${plural}.${group}`);

export interface Named {
  group: string;
  plural: string;
  kind: string;
}

export function notFound(resource: Named, name: string): ApiError {
  const type = qualified(resource.group, resource.plural);
  return new ApiError(404, 'NotFound', `${type} "${name}" not found`, { name, group: resource.group, kind: resource.plural });
}

export function alreadyExists(resource: Named, name: string): ApiError {
  const type = qualified(resource.group, resource.plural);
  return new ApiError(409, 'AlreadyExists', `${type} "${name}" already exists`, {
    name,
    group: resource.group,
    kind: resource.plural,
  });
}

export function conflict(resource: Named, name: string, why: string): ApiError {
  const type = qualified(resource.group, resource.plural);
  return new ApiError(409, 'Conflict', `Operation cannot be fulfilled on ${type} "${name}": ${why}`, {
    name,
    group: resource.group,
    kind: resource.plural,
  });
}

/** What conflicts say when the resourceVersion sent is no longer the stored one. */
export const MODIFIED = 'the object has been modified; please apply your changes to the latest version and try again';

export interface FieldProblem {
  field: string;
  reason: 'FieldValueRequired' | 'FieldValueInvalid' | 'FieldValueForbidden' | 'FieldValueDuplicate' | 'FieldValueNotSupported';
  message: string;
}

/** 422 with one cause for each field problem. */
export function invalid(resource: Named, name: string, problems: FieldProblem[]): ApiError {
  const kind = qualified(resource.group, resource.kind);
  const text = problems.map((problem) => `${problem.field}: ${problem.message}`);
  const joined = text.length === 1 ? text[0] : `[${text.join(', ')}]`;
  return new ApiError(422, 'Invalid', `${kind} "${name}" is invalid: ${joined}`, {
    name,
    group: resource.group,
    kind: resource.kind,
    causes: problems.map(({ field, reason, message }) => ({ reason, message, field })),
  });
}

export const badRequest = (message: string): ApiError => new ApiError(400, 'BadRequest', message);
export const forbidden = (resource: Named, name: string, why: string): ApiError =>
  new ApiError(403, 'Forbidden', `${qualified(resource.group, resource.plural)} "${name}" is forbidden: ${why}`, {
    name,
    group: resource.group,
    kind: resource.plural,
  });
export const expired = (message: string): ApiError => new ApiError(410, 'Expired', message);
export const methodNotAllowed = (): ApiError =>
  new ApiError(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource');
export const unsupportedMedia = (message: string): ApiError => new ApiError(415, 'UnsupportedMediaType', message);
/** 404 for a path that names no known resource. */
export const unknownPath = (): ApiError => new ApiError(404, 'NotFound', 'the server could not find the requested resource');
