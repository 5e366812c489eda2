/** Loaded before a program: its clock is wrong by SKEW_MS, and SKEW_TURN_MS after its start as much in the other direction. */
const RealDate = globalThis.Date;
const skewMs = Number(process.env['SKEW_MS']);
const turnMs = Number(process.env['SKEW_TURN_MS']);

const now = () => RealDate.now() + (performance.now() < turnMs ? skewMs : -skewMs);

globalThis.Date = new Proxy(RealDate, {
  construct: (target, values, newTarget) =>
    Reflect.construct(target, values.length === 0 ? [now()] : values, newTarget) as object,
  apply: () => new RealDate(now()).toString(),
  get: (target, name, receiver) => (name === 'now' ? now : (Reflect.get(target, name, receiver) as unknown)),
});
