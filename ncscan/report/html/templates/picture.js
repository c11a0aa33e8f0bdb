// The picture of the simplex: three or four classes, moving from step to step.

const pictureOf = () => data.pictures.find((each) => each.run === chosen.run);
let playing = null, tween = null;

/** Where everything of one checkpoint lies: {item, class, name, at} of the chosen classes. */
function pictureRows(kept, moment) {
  const picture = kept.pictures[moment.at], X = shorts(picture.value);
  const vectors = [...picture.items].map((item, i) => ({ item, class: picture.of[i], x: Array.from(X.subarray(i * kept.axes, (i + 1) * kept.axes)) }));
  const only = (item, c) => vectors.find((each) => each.item === item && each.class === c)?.x;
  const samples = vectors.filter((each) => each.item === "s" && chosen.classes.includes(each.class));
  const all = (item) => (only(item, chosen.classes[0]) ? chosen.classes.map((c) => only(item, c)) : null);
  const placed = positions(all("m"), samples.map((each) => each.x), all("c"));
  const names = new Map(kept.classes.map((each) => [each.index, each.name]));
  const told = (item, at, classes) => (at ?? []).map((each, i) => ({ item, class: classes[i], name: names.get(classes[i]), step: moment.name, at: each }));
  return [
    ...told("class mean", placed.means, chosen.classes),
    ...told("row of the classifier", placed.rows, chosen.classes),
    ...told("sample", placed.samples, samples.map((each) => each.class)),
  ];
}

/** A point as it is seen from the side that the reader chose, in degrees. */
const fromTurn = (at) => seen(at, (chosen.turn * Math.PI) / 180);

/** Rows as the chart has them, part of the way from one moment to another. */
function projected(from, to, share) {
  return to.map((each, i) => {
    const at = from?.[i] ? each.at.map((x, j) => from[i].at[j] + (x - from[i].at[j]) * share) : each.at;
    const [x, y, depth] = fromTurn(at), near = 1 + 0.25 * depth;
    const size = { "class mean": 190, "row of the classifier": 110, sample: 34 }[each.item] * near;
    const opacity = each.item === "sample" ? 0.5 * near : Math.min(1, 0.85 * near);
    return { x, y, x0: 0, y0: 0, item: each.item, shade: chosen.classes.indexOf(each.class), size, opacity, class: each.name, step: each.step, run: titleOf() };
  });
}

function frameEdges() {
  const corners = data.corners[chosen.classes.length].map(fromTurn).map(([x, y]) => ({ x, y }));
  return corners.flatMap((a, i) => corners.slice(i + 1).flatMap((b, j) => [{ ...a, edge: `${i}-${j}` }, { ...b, edge: `${i}-${j}` }]));
}

let lastPicture = null;
part(["run", "step", "classes", "turn"], async () => {
  if (!byId("picture")) return;
  const kept = pictureOf();
  if (!kept || chosen.classes.length < 3) {
    lastPicture = null;
    return draw("simplex", "simplex", {}, { rows: [] }, { classes: "three or four classes", step: stepName(), run: titleOf(), none: kept ? "A simplex of three or four classes can be drawn; choose three." : "The picture belongs to one run: choose a run." });
  }
  const rows = pictureRows(kept, momentOf(kept.pictures.map((each) => each.checkpoint)));
  const key = JSON.stringify([chosen.run, chosen.classes, chosen.turn]);
  const from = lastPicture?.key === key && views.has("simplex") ? lastPicture.rows : null;
  lastPicture = { key, rows };
  const names = chosen.classes.map((c) => kept.classes.find((each) => each.index === c).name);
  const words = { classes: names.join(", "), step: rows[0].step, run: titleOf() };
  cancelAnimationFrame(tween);
  if (!from || matchMedia("(prefers-reduced-motion: reduce)").matches) {
    return draw("simplex", "simplex", {}, { rows: projected(null, rows, 1), frame: frameEdges() }, words);
  }
  shownRows.set("simplex", projected(null, rows, 1));
  named(templates.simplex.shows, words, "simplex");
  behind("simplex");
  const view = views.get("simplex"), began = performance.now(), LASTS = 450;
  const move = (now) => {
    const share = Math.min((now - began) / LASTS, 1), eased = share * share * (3 - 2 * share);
    view.data("rows", projected(from, rows, eased)).runAsync();
    if (share < 1 && views.get("simplex") === view) tween = requestAnimationFrame(move);
  };
  move(began + 1);
});
