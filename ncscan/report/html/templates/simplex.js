// The picture: chosen class means turned onto a simplex as nearly as a rotation can, and all else by the same turn.

/** Corners of the regular simplex of 3 or 4 points, at distance 1 from its centre: `vertices` of simplex.py. */
const CORNERS = data.corners;

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
 * Where everything of one checkpoint lies: {item, class, at} in k − 1 coordinates, means at distance 1 in the mean.
 * R = A (AᵀA)^(−1/2) with A = M̃ᵀ F solves Procrustes' problem for the chosen means M̃ and the corners F of the simplex.
 */
function positions(picture, axes, chosen) {
  const X = shorts(picture.value), row = (i) => Array.from(X.subarray(i * axes, (i + 1) * axes));
  const find = (item, c) => [...picture.items].findIndex((each, i) => each === item && picture.of[i] === c);
  const F = CORNERS[chosen.length], means = chosen.map((c) => row(find("m", c))), centre = mean(means);
  const M = means.map((each) => minus(each, centre));
  const A = centre.map((_, a) => F[0].map((_, f) => M.reduce((sum, each, c) => sum + each[a] * F[c][f], 0)));
  const S = F[0].map((_, f) => F[0].map((_, g) => A.reduce((sum, each) => sum + each[f] * each[g], 0)));
  const root = inverseRoot(S), R = A.map((each) => root.map((_, f) => dot(each, root[f])));
  const turned = (x, size) => F[0].map((_, f) => x.reduce((sum, value, a) => sum + value * R[a][f], 0) / (size || 1));
  const length = (rows) => rows.reduce((sum, each) => sum + Math.hypot(...each), 0) / rows.length;
  const found = M.map((each, i) => ({ item: "class mean", class: chosen[i], at: turned(each, length(M)) }));
  if (find("c", chosen[0]) >= 0) {
    const rows = chosen.map((c) => row(find("c", c))), middle = mean(rows), W = rows.map((each) => minus(each, middle));
    W.forEach((each, i) => found.push({ item: "row of the classifier", class: chosen[i], at: turned(each, length(W)) }));
  }
  [...picture.items].forEach((item, i) => {
    if (item === "s" && chosen.includes(picture.of[i])) {
      found.push({ item: "sample", class: picture.of[i], at: turned(minus(row(i), centre), length(M)) });
    }
  });
  return found;
}

/** A point as it is seen: a plane as it is, a space from an angle in degrees, slightly from above. */
function seen(at, turn) {
  if (at.length === 2) return { x: at[0], y: at[1], depth: 0 };
  const a = (turn * Math.PI) / 180, tilt = 0.35;
  const x = at[0] * Math.cos(a) - at[1] * Math.sin(a), depth = at[0] * Math.sin(a) + at[1] * Math.cos(a);
  return { x, y: at[2] * Math.cos(tilt) + depth * Math.sin(tilt), depth: depth * Math.cos(tilt) - at[2] * Math.sin(tilt) };
}
