// What the page carries, as arrays again: see series.py, classes.py and claims.py, which packed it.

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const data = read("data");
const templates = read("charts");

const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
const floats = (text) => new Float32Array(bytes(text));
const shorts = (text) => Float32Array.from(new Int16Array(bytes(text)), (x) => (x === -32768 ? NaN : x / 32767));

/** first, length, code, …: an array of codes, −1 where nothing is said. */
function stretches(list, size) {
  const codes = new Int32Array(size).fill(-1);
  for (let i = 0; i < (list?.length ?? 0); i += 3) codes.fill(list[i + 2], list[i], list[i] + list[i + 1]);
  return codes;
}

/** What is made once for each thing, when it is asked for. */
function once(make) {
  const made = new WeakMap();
  return (thing) => made.get(thing) ?? (made.set(thing, make(thing)), made.get(thing));
}

const unpacked = once((series) => {
  const value = floats(series.value);
  const arrays = { value, why: stretches(series.why, value.length), floor: stretches(series.floor, value.length) };
  for (const name of ["low", "high", "baseline"]) arrays[name] = series[name] ? floats(series[name]) : null;
  return arrays;
});

/** The series of a number in a run, or undefined where the run has none. */
const seriesOf = (run, number, split) =>
  run.series.find((each) => each.number === number && each.split === split) ??
  run.series.find((each) => each.number === number);

/** One cell of a series: its value, or why there is none, and what else is known of it. */
function cell(run, series, step, column) {
  const arrays = unpacked(series), at = step * series.places.length + column;
  // An array with one row says the same of every step.
  const told = (array) => (array && !Number.isNaN(array[at % array.length]) ? array[at % array.length] : null);
  const value = told(arrays.value);
  return {
    value,
    reason: value === null ? run.reasons[Math.max(arrays.why[at], 0)] : "",
    floor: arrays.floor[at] === 0,
    low: told(arrays.low),
    high: told(arrays.high),
    baseline: told(arrays.baseline),
  };
}
