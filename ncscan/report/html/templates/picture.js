// The picture of the simplex: three or four classes, moving from step to step.

const pictureOf = () => data.pictures.find((each) => each.run === chosen.run);
let playing = null, tween = null;

function pictureRows(kept, moment) {
  const picture = kept.pictures[moment.at], names = new Map(kept.classes.map((each) => [each.index, each.name]));
  return positions(picture, kept.axes, chosen.classes).map((each) => ({
    ...each, name: names.get(each.class), step: moment.name,
  }));
}

/** Rows as the chart has them, part of the way from one moment to another. */
function projected(from, to, share) {
  return to.map((each, i) => {
    const at = from?.[i] ? each.at.map((x, j) => from[i].at[j] + (x - from[i].at[j]) * share) : each.at;
    const { x, y, depth } = seen(at, chosen.turn), near = 1 + 0.25 * depth;
    const size = { "class mean": 190, "row of the classifier": 110, sample: 34 }[each.item] * near;
    const opacity = each.item === "sample" ? 0.5 * near : Math.min(1, 0.85 * near);
    return { x, y, x0: 0, y0: 0, item: each.item, shade: chosen.classes.indexOf(each.class), size, opacity, class: each.name, step: each.step, run: titleOf() };
  });
}

function frameEdges() {
  const corners = CORNERS[chosen.classes.length].map((each) => seen(each, chosen.turn));
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
