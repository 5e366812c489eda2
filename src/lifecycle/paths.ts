/** State values as dotted paths: `{provisioning: 'creating'}` is `provisioning` and `provisioning.creating`. */

/** All states that a value stands for, outer ones first. */
export function statePaths(value: unknown, above = ''): string[] {
  const prefix = above === '' ? '' : `${above}.`;
  if (typeof value === 'string') return [`${prefix}${value}`];
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, below]) => [`${prefix}${name}`, ...statePaths(below, `${prefix}${name}`)]);
}
