/** The faults of a simulated cluster, by its own controls; see src/simulated-cluster/http-faults.ts. */

/** Whether a fault of the kind `hold` keeps a call. */
export async function isHolding(clusterUrl: string): Promise<boolean> {
  const response = await fetch(`${clusterUrl}/simulation/faults`);
  return ((await response.json()) as { held: number }).held > 0;
}

/** End the faults, and let what they hold go on. */
export async function clearFaults(clusterUrl: string): Promise<void> {
  await fetch(`${clusterUrl}/simulation/faults`, { method: 'DELETE' });
}
