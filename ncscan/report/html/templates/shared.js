// What Python does too, in the same words and to the same results: numbers as they are read, shades, even choices, the
// simplex. Constants come with the page's data; tests/golden/shared_results.json is run by both sides.

/** A whole number next to x, of two as near the even one: Python's round. */
function toEven(x) {
  const up = Math.round(x);
  return up - x === 0.5 && up % 2 ? up - 1 : up;
}

/** `[digits, exponent]` of a size that `write(places)` writes, of two as near the one that ends evenly: Python's format. */
function evenly(write, places) {
  const [above, exponent] = write(places).split("e"), [all] = write(100).split("e"); // no double has more places
  const halfway = /^50*$/.test(all.slice(all.indexOf(".") + 1 + places));
  const odd = Number(above.at(-1)) % 2;
  return [halfway && odd ? (Number(above) - 10 ** -places).toFixed(places) : above, exponent];
}

/** A number to read: three digits, and an exponent only where it is needed; `number` of wording.py. */
function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  let text;
  if (size < 1e5 && Number.isInteger(value)) text = String(size);
  else if (size >= 1e-3 && size < 1e5) text = evenly((n) => size.toFixed(n), Math.max(0, 2 - Math.floor(Math.log10(size))))[0];
  else {
    const [mantissa, exponent] = evenly((n) => size.toExponential(n), 1);
    text = `${mantissa.replace(/\.0$/, "")}e${Number(exponent)}`;
  }
  return `${value < 0 ? "−" : ""}${text.replace("-", "−")}`;
}

/** A float32 as the shortest number that is it. */
const exact = (value) => (value === null || Number.isNaN(value) ? "" : String(Number(value.toPrecision(7))));

/** A text as one cell of a CSV file: a ' in front of what a spreadsheet would run; `csv_text` of frames.py, of visible texts. */
function quoted(value) {
  if (typeof value === "number") return exact(value);
  const text = /^[=+\-@＝＋－＠]/.test(value ?? "") ? `'${value}` : value ?? "";
  return /[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Where a value lies between the ends of a number's scale, 0 to 1; `Scale.share` of scales.py. */
function share(about, value) {
  const along = {
    log: (x) => Math.log(Math.max(x, about.domain[0])),
    symlog: (x) => Math.asinh(x / about.constant),
    linear: (x) => x,
  }[about.type];
  const [low, high] = about.domain.map(along);
  return Math.min(Math.max((along(value) - low) / (high - low), 0), 1);
}

/** Which of n colours the i-th of several things has. */
const shadeOf = (i, several, n) => (several < 2 ? n - 1 : toEven((i * (n - 1)) / (several - 1)));

/** Which of n colours a share has. */
const shadeOfShare = (part, n) => Math.min(Math.floor(part * n), n - 1);

/** Which of n colours a deviation has: the middle one for none, the others finer near it. */
function shadeOfDeviation(off, n) {
  const middle = Math.floor(n / 2);
  return Math.max(0, Math.min(2 * middle, middle + toEven(middle * Math.sign(off) * Math.sqrt(Math.abs(off)))));
}

/** At most so many of them, evenly chosen, first and last included. */
function spreadOut(items, most) {
  if (items.length <= most) return items;
  return most > 1 ? Array.from({ length: most }, (_, i) => items[toEven((i * (items.length - 1)) / (most - 1))]) : [items.at(-1)];
}

// The simplex: class means turned onto it as nearly as a rotation can, and all else by the same turn.

const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
const mean = (rows) => rows[0].map((_, j) => rows.reduce((sum, row) => sum + row[j], 0) / rows.length);
const minus = (a, b) => a.map((x, i) => x - b[i]);

/** S^(−1/2) of a small symmetric positive matrix, by Jacobi rotations; directions that are not there stay out. */
function inverseRoot(S) {
  const n = S.length, A = S.map((row) => [...row]), V = S.map((_, i) => S.map((_, j) => Number(i === j)));
  for (let sweep = 0; sweep < 30; sweep++) {
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        if (Math.abs(A[p][q]) < 1e-15) continue;
        const angle = 0.5 * Math.atan2(2 * A[p][q], A[q][q] - A[p][p]), c = Math.cos(angle), s = Math.sin(angle);
        for (let k = 0; k < n; k++) [A[k][p], A[k][q]] = [c * A[k][p] - s * A[k][q], s * A[k][p] + c * A[k][q]];
        for (let k = 0; k < n; k++) [A[p][k], A[q][k]] = [c * A[p][k] - s * A[q][k], s * A[p][k] + c * A[q][k]];
        for (let k = 0; k < n; k++) [V[k][p], V[k][q]] = [c * V[k][p] - s * V[k][q], s * V[k][p] + c * V[k][q]];
      }
    }
  }
  const largest = Math.max(...A.map((row, i) => row[i]));
  const root = A.map((row, i) => (row[i] > 1e-12 * largest ? 1 / Math.sqrt(row[i]) : 0));
  return S.map((_, i) => S.map((_, j) => V[i].reduce((sum, _, k) => sum + V[i][k] * root[k] * V[j][k], 0)));
}

/**
 * Means, samples and rows of the classifier in k − 1 coordinates, means at distance 1 in the mean; `positions` of
 * simplex.py. R = A (AᵀA)^(−1/2) with A = M̃ᵀ F solves Procrustes' problem for the means M̃ and the corners F.
 */
function positions(means, samples, rows) {
  const F = data.corners[means.length], centre = mean(means), M = means.map((each) => minus(each, centre));
  const A = centre.map((_, a) => F[0].map((_, f) => M.reduce((sum, each, c) => sum + each[a] * F[c][f], 0)));
  const S = F[0].map((_, f) => F[0].map((_, g) => A.reduce((sum, each) => sum + each[f] * each[g], 0)));
  const root = inverseRoot(S), R = A.map((each) => root.map((_, f) => dot(each, root[f])));
  const turned = (x, size) => F[0].map((_, f) => x.reduce((sum, value, a) => sum + value * R[a][f], 0) / (size || 1));
  const length = (all) => all.reduce((sum, each) => sum + Math.hypot(...each), 0) / all.length;
  const W = rows?.map((each) => minus(each, mean(rows)));
  return {
    means: M.map((each) => turned(each, length(M))),
    samples: samples.map((each) => turned(minus(each, centre), length(M))),
    rows: W && length(W) > 0 ? W.map((each) => turned(each, length(W))) : null,
  };
}

/** A point as it is seen, `[across, up, near]`: a plane from above, a space turned by an angle and a little from above. */
function seen(at, angle) {
  if (at.length === 2) return [...at, 0];
  const [cos, sin, level, down] = [Math.cos(angle), Math.sin(angle), Math.cos(data.tilt), Math.sin(data.tilt)];
  const across = cos * at[0] - sin * at[1], near = sin * at[0] + cos * at[1];
  return [across, level * at[2] - down * near, down * at[2] + level * near];
}
