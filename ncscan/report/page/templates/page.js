// The page: what is chosen, and the parts that follow it.

const byId = (id) => document.getElementById(id);
const chosen = { run: 0, number: 0, split: "", step: 0, layers: null, layer: "", classes: [], turn: 30, verdicts: "all" };
/** Charts in which both axes are measured alike. */
const SQUARE = new Set(["matrix", "simplex"]);
const MOST_LINES = 40, MOST_CELLS = 6000, DOTS = 80;

const run = () => data.runs[chosen.run];
const about = (n = chosen.number) => data.numbers[n];
const current = () => seriesOf(run(), chosen.number, chosen.split);
const stepName = (step = chosen.step) => run().labels[step];
const titleOf = (one = run()) => (one.seeds ? `${one.name}, mean of ${one.seeds} seeds` : one.name);

/** The reduction of a layer belongs to the convention of its numbers. */
const convention = (place, n) =>
  [about(n).convention, place.how && place.how !== "none" ? `positions: ${place.how}` : ""].filter(Boolean).join(", ") || "none";

/** What hovering tells of a number. */
function told(place, step, found, n = chosen.number, one = run()) {
  return {
    metric: about(n).label,
    value: found.value === null ? `none: ${found.reason}` : number(found.value),
    layer: place.name,
    step: one.labels[step],
    convention: convention(place, n),
    run: titleOf(one),
    note: found.floor ? "at its floor: rounding may have made it" : found.low === null ? "–" : `${number(found.low)} to ${number(found.high)}`,
  };
}

// Charts

const views = new Map();
const shownRows = new Map();

/** A chart fitted to its numbers: `fit` of charts.py. */
function fit(spec, axes) {
  const fitted = structuredClone(spec);
  for (const layer of fitted.layer) {
    for (const [channel, wanted] of Object.entries(axes)) {
      const encoding = layer.encoding[channel];
      if (!encoding?.field) continue;
      if (wanted.scale) encoding.scale = wanted.scale;
      if (wanted.title !== undefined) encoding.title = wanted.title;
      if (encoding.axis && wanted.values) encoding.axis = { ...encoding.axis, values: wanted.values, tickCount: wanted.values.length + 1 };
    }
  }
  return fitted;
}

/** Draws a chart in its place; `words` stand for the names in what it shows. */
async function draw(id, name, axes, datasets, words, height) {
  const place = byId(id);
  const { shows, ...spec } = templates[name];
  shownRows.set(id, datasets.rows);
  named(shows, words, id);
  behind(id);
  if (!datasets.rows.length) {
    views.get(id)?.finalize();
    views.delete(id);
    place.replaceChildren(make("p", { className: "aside", textContent: words.none ?? "There is nothing to draw here." }));
    return;
  }
  const fitted = { ...fit(spec, axes), datasets };
  const { left, right } = fitted.config.padding;
  fitted.height = SQUARE.has(name) ? Math.round(place.clientWidth) - left - right : height ?? fitted.height;
  // Vega would name its own parts; what the chart shows is said once, around them, and its table has the numbers.
  const inside = make("div", { ariaHidden: "true" });
  place.style.minHeight = `${place.offsetHeight}px`; // the page must not jump while a chart is drawn again
  place.replaceChildren(inside);
  // Expressions are interpreted, never compiled: the page's policy forbids code that was not in it.
  const made = await vegaEmbed(inside, fitted, { actions: false, renderer: "svg", ast: true, mode: "vega-lite", tooltip: { theme: "page" } });
  place.style.minHeight = "";
  views.get(id)?.finalize();
  views.set(id, made.view);
}

/** Says what a chart shows, for those who do not see it and under it; and what the first and the last colour mean. */
function named(shows, words, id) {
  const label = shows.replace(/\{(\w+)\}/g, (_, word) => words[word] ?? "");
  byId(id).setAttribute("aria-label", label);
  const caption = byId(`${id}-caption`), { key } = words;
  if (!caption) return;
  const told = key ? [" ", make("span", { className: "swatches" }, key.first, make("i", { className: key.ramp }), key.last)] : [];
  caption.replaceChildren(label, ...told);
}

/** The table behind a chart, once it is open. */
function behind(id) {
  const details = document.querySelector(`[data-table="${id}"]`);
  if (!details) return;
  const fill = () => {
    if (!details.open) return;
    const rows = [...details.dataset.table === "panels" ? data.headlines.keys() : []].flatMap((i) => shownRows.get(`panel${i}`) ?? []);
    const own = rows.length ? rows : shownRows.get(id) ?? [];
    const names = columnsOf(own);
    table(details.lastElementChild, names, own.map((row) => names.map((name) => told1(row, name))), details.firstElementChild.textContent);
  };
  details.ontoggle = fill;
  fill();
}

const TOLD = ["layer", "classes", "class", "item", "step", "run", "metric", "value", "spread", "simplex", "baseline", "note", "convention"];
const columnsOf = (rows) => TOLD.filter((name) => rows.some((row) => row[name] !== undefined));
const told1 = (row, name) => (name === "value" && typeof row.exact === "number" ? { value: row.exact } : row[name] ?? "");

function phase(one) {
  const last = one.steps.at(-1);
  return one.onset === null || one.onset === undefined || last === null ? [] : [{ from: one.onset, to: last }];
}

const placesOf = (series) => series.places.map((at, column) => ({ ...run().places[at], at, column }));

function trajectoryRows(one, series, n, kept) {
  const places = series.places.map((at, column) => ({ ...one.places[at], at, column })).filter(({ at }) => !kept || kept.has(at));
  const lines = spreadOut(places, MOST_LINES);
  const dots = lines.length * one.steps.length <= DOTS ? 1 : 0;
  return lines.flatMap((place) =>
    one.steps.map((x, step) => {
      const found = cell(one, series, step, place.column);
      const shade = shadeOf(series.places.indexOf(place.at), series.places.length);
      return { x, y: found.value, exact: found.value, line: place.name, shade, dot: dots, ...told(place, step, found, n, one) };
    }),
  );
}

const parts = [];
/** Something that is drawn again when one of these choices changes. */
const part = (needs, drawIt) => parts.push({ needs, draw: drawIt });

part(["number"], () => {
  const from = byId(`def-${about().metric}`);
  const place = byId("definition");
  place.replaceChildren(...(from ? [...from.cloneNode(true).childNodes] : []));
  place.append(
    make("p", { className: "aside" }, `Shown: ${about().label}${about().convention ? ` (${about().convention})` : ""}. `, make("a", { href: "#definitions", textContent: "All definitions" })),
  );
});

part(["run", "number", "split", "layers"], () => {
  const series = current(), one = run();
  const axes = { x: { ...one.axis, title: one.unit || "step" }, y: about().axis };
  const rows = series ? trajectoryRows(one, series, chosen.number, chosen.layers) : [];
  return draw("trajectory", "trajectory", axes, { rows, phase: phase(one) }, { metric: about().label, run: titleOf(), none: "This run has no such number.", key: depthKey(series, one) });
});

/** Which colours the first and the last layer have. */
const depthKey = (series, one) =>
  series && series.places.length > 1 ? { ramp: "depth", first: one.places[series.places[0]].name, last: one.places[series.places.at(-1)].name } : null;


part(["run", "number", "split", "step"], () => {
  const series = current(), one = run(), last = one.steps.length - 1;
  const places = series ? placesOf(series) : [];
  const moments = [...new Set([0, last, chosen.step])].sort((a, b) => (a === chosen.step) - (b === chosen.step));
  const rows = moments.flatMap((step) =>
    places.map((place) => {
      const found = cell(one, series, step, place.column), full = step === chosen.step;
      return {
        x: place.short, y: found.value, exact: found.value, line: one.labels[step], shade: shadeOf(step, one.steps.length),
        wide: full ? 1 : 0, dot: full ? 1 : 0,
        low: full ? found.low : null, high: full ? found.high : null, base: full ? found.baseline : null,
        baseline: full && found.baseline !== null ? number(found.baseline) : undefined,
        ...told(place, step, found),
      };
    }),
  );
  const labels = places.map((place) => place.short);
  const x = { scale: { type: "point", padding: 0.3, domain: labels }, values: spreadOut(labels, 28) };
  return draw("profile", "profile", { x, y: about().axis }, { rows }, { metric: about().label, step: stepName(), run: titleOf(), key: last ? { ramp: "step", first: one.labels[0], last: one.labels[last] } : null });
});

part(["run", "number", "split"], () => {
  const series = current(), one = run();
  const all = series ? placesOf(series) : [];
  const steps = spreadOut([...one.steps.keys()], Math.max(12, Math.min(60, Math.floor(MOST_CELLS / Math.max(1, all.length)))));
  const places = spreadOut(all, Math.max(2, Math.floor(MOST_CELLS / Math.max(1, steps.length))));
  const names = steps.map((step) => (one.steps[step] === null ? one.labels[step] : one.steps[step].toLocaleString("en")));
  const rows = places.flatMap((place) =>
    steps.map((step, i) => {
      const found = cell(one, series, step, place.column);
      const shade = found.value === null ? -1 : Math.min(11, Math.floor(share(about(), found.value) * 12));
      return { x: names[i], y: place.short, shade, exact: found.value, ...told(place, step, found) };
    }),
  );
  const labels = places.map((place) => place.short);
  const axes = { x: { scale: { domain: names }, title: one.unit || "step" }, y: { scale: { domain: labels } } };
  return draw("map", "map", axes, { rows }, { metric: about().label, run: titleOf(), key: { ramp: "heat", first: number(about().domain[0]), last: number(about().domain[1]) } }, Math.max(120, Math.min(900, 18 * labels.length + 60)));
});

// Runs and groups

const groupShade = (() => {
  const names = [...new Set(data.runs.map((one) => one.group || one.name))];
  return (one) => names.indexOf(one.group || one.name) % 8;
})();

/** A number of a whole run at a step: of the layer that the classifier reads, of the worst pair of maps, or the only one. */
function ofRun(one, series, step) {
  const read = series.places.indexOf(one.reads);
  const columns = read >= 0 ? [read] : series.places.map((_, column) => column);
  const cells = columns.map((column) => ({ place: one.places[series.places[column]], ...cell(one, series, step, column) }));
  return cells.reduce((worst, each) => (each.value !== null && (worst.value === null || each.value > worst.value) ? each : worst));
}

function compareRows(n) {
  return data.runs.flatMap((one) => {
    const series = seriesOf(one, n, "train");
    if (!series) return [];
    const alone = one.seeds || !data.runs.some((other) => other.seeds && other.group === one.group);
    return one.steps.map((x, step) => {
      const found = ofRun(one, series, step);
      const spread = one.seeds && found.low !== null ? `± ${number((found.high - found.low) / 2)}` : undefined;
      return {
        x, y: found.value, exact: found.value, line: titleOf(one), shade: groupShade(one), wide: alone ? 1 : 0, dot: alone && one.steps.length < 30 ? 1 : 0,
        low: one.seeds ? found.low : null, high: one.seeds ? found.high : null, spread, ...told(found.place, step, found, n, one),
      };
    });
  });
}

part(["number"], () => {
  const panels = byId("panels");
  const shown = [...data.headlines, ...(data.headlines.some((h) => h.number === chosen.number) ? [] : [{ number: chosen.number, words: "the chosen number" }])];
  panels.replaceChildren(
    ...shown.map((headline, i) =>
      make("figure", {}, make("figcaption", {}, make("b", { textContent: headline.words }), " ", make("code", { textContent: about(headline.number).label })),
        make("div", { className: "chart", id: `panel${i}`, role: "img" }))),
  );
  const names = new Map(data.runs.map((one) => [groupShade(one), one.group || one.name]));
  byId("runs-legend").replaceChildren(...[...names].map(([shade, name]) => make("li", {}, make("i", { className: `series${shade}` }), name)));
  return Promise.all(
    shown.map((headline, i) => {
      const axes = { x: { ...run().axis, title: run().unit || "step" }, y: about(headline.number).axis };
      return draw(`panel${i}`, "compare", axes, { rows: compareRows(headline.number) }, { metric: about(headline.number).label });
    }),
  );
});

// Maps

const numberOf = (metric) => data.numbers.findIndex((each) => each.metric === metric);

for (const [id, metric] of [["balance", "balancedness"], ["condition", "weight_condition"]]) {
  part(["run"], () => {
    const n = numberOf(metric), one = run(), series = n < 0 ? undefined : seriesOf(one, n, "train");
    const rows = series ? trajectoryRows(one, series, n).filter((row) => row.y !== null) : [];
    const axes = { x: { ...one.axis, title: one.unit || "step" }, y: n < 0 ? {} : about(n).axis };
    return draw(id, "trajectory", axes, { rows, phase: phase(one) }, { metric: n < 0 ? metric : about(n).label, run: titleOf(), none: `There is no ${metric} of this run.`, key: depthKey(series, one) }, 240);
  });
}

// Classes

/** What was kept of a run for this checkpoint, or for the nearest one before it. */
function momentOf(kept) {
  const order = run().checkpoints;
  for (let step = chosen.step; step >= 0; step--) {
    const at = kept.checkpoints.indexOf(order[step]);
    if (at >= 0) return at;
  }
  return 0;
}

/** Eleven shades around the sixth, finer near it: a cosine off by 0.01 is seen. */
const shadeOfDeviation = (off) => Math.max(0, Math.min(10, 5 + Math.round(5 * Math.sign(off) * Math.sqrt(Math.abs(off)))));

const matrixOf = () => data.matrices.find((each) => each.run === chosen.run);
const decoded = once((kept) => (typeof kept.classes[0] === "object" || kept.metrics ? floats(kept.value) : shorts(kept.value)));

for (const [which, id, what] of [[0, "cosines", "cosines of the class means"], [1, "duality", "cosines of the classifier's rows (down) with the class means"]]) {
  if (!byId("classes")) break;
  part(["run", "step", "layer"], () => {
    const kept = matrixOf(), names = kept?.classes ?? [], K = names.length;
    const layer = kept ? Math.max(kept.layers.indexOf(chosen.layer), 0) : 0;
    const rows = [];
    if (kept) {
      const values = decoded(kept), moment = momentOf(kept);
      const at = ((moment * kept.layers.length + layer) * 2 + which) * K * K;
      const step = run().labels[run().checkpoints.indexOf(kept.checkpoints[moment])];
      for (let c = 0; c < K; c++) {
        for (let d = 0; d < K; d++) {
          const value = values[at + c * K + d], ideal = c === d ? 1 : -1 / (K - 1);
          const shade = Number.isNaN(value) ? -1 : shadeOfDeviation(value - ideal);
          rows.push({
            x: names[d], y: names[c], shade, exact: Number.isNaN(value) ? null : value, metric: which ? "nc3_pair_cosine" : "pair_cosine",
            value: number(value), simplex: number(ideal), classes: `${names[c]}, ${names[d]}`, layer: kept.layers[layer], step, run: titleOf(),
          });
        }
      }
    }
    const axes = { x: { scale: { domain: names } }, y: { scale: { domain: names } } };
    return draw(id, "matrix", axes, { rows }, { metric: what, step: stepName(), run: titleOf(), none: "There are no pairs of classes of this run.", key: { ramp: "balance", first: "1 less", last: "1 more than in a simplex" } });
  });
}

part(["run", "step", "layer"], () => {
  const place = byId("class-table"), kept = data.classes.find((each) => each.run === chosen.run);
  if (!place) return;
  if (!kept) {
    place.replaceChildren(make("p", { className: "aside", textContent: "Numbers of single classes belong to one run: choose a run." }));
    return;
  }
  const values = floats(kept.value), K = kept.classes.length, layer = Math.max(kept.layers.indexOf(chosen.layer), 0), moment = momentOf(kept);
  const rows = kept.classes.map((name, c) => [
    name,
    ...kept.metrics.map((_, m) => {
      const value = values[((moment * kept.layers.length + layer) * kept.metrics.length + m) * K + c];
      return Number.isNaN(value) ? "–" : value;
    }),
  ]);
  table(place, ["class", ...kept.metrics], rows, `Class by class at ${stepName()}, layer ${kept.layers[layer]}`);
});

// The picture

const pictureOf = () => data.pictures.find((each) => each.run === chosen.run);
let playing = null, tween = null;

function pictureRows(kept, moment) {
  const picture = kept.pictures[moment], names = new Map(kept.classes.map((each) => [each.index, each.name]));
  const checkpoint = run().checkpoints.indexOf(picture.checkpoint);
  return positions(picture, kept.axes, chosen.classes).map((each) => ({
    ...each, name: names.get(each.class), step: run().labels[checkpoint],
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
    return draw("simplex", "simplex", {}, { rows: [] }, { none: kept ? "A simplex of three or four classes can be drawn; choose three." : "The picture belongs to one run: choose a run." });
  }
  const moment = momentOf({ checkpoints: kept.pictures.map((each) => each.checkpoint) });
  const rows = pictureRows(kept, moment);
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

// Theory and findings

const wordsOf = (kept, name, i) => kept.words[kept.texts[name][i]];

part(["run", "step", "verdicts"], () => {
  const place = byId("theory-table");
  if (!place) return;
  const kept = data.claims, checkpoints = [...new Set(kept.texts.run.flatMap((r, i) => (r === chosen.run ? [wordsOf(kept, "checkpoint", i)] : [])))];
  if (!checkpoints.length) {
    byId("theory-count").textContent = "";
    place.replaceChildren(make("p", { className: "aside", textContent: "Statements are about one run: choose a run." }));
    return;
  }
  const checkpoint = checkpoints[momentOf({ checkpoints })];
  const [value, bound, slack] = ["value", "bound", "slack"].map((name) => floatsOnce(kept, name));
  const rows = [];
  let judged = 0, held = 0;
  kept.texts.run.forEach((r, i) => {
    if (r !== chosen.run || wordsOf(kept, "checkpoint", i) !== checkpoint) return;
    const holds = kept.flags.holds[i];
    judged += holds >= 0;
    held += holds === 1;
    if ((chosen.verdicts === "judged" && holds < 0) || (chosen.verdicts === "not" && holds !== 0)) return;
    const told = (array) => (Number.isNaN(array[i]) ? "" : array[i]);
    rows.push([
      wordsOf(kept, "claim", i), wordsOf(kept, "layer", i), wordsOf(kept, "quantity", i), told(value), told(bound),
      ["does not hold", "holds"][holds] ?? "", told(slack), wordsOf(kept, "reason", i),
    ]);
  });
  byId("theory-count").textContent = `${judged} statements are judged at ${stepName()}: ${held} hold, ${judged - held} do not.`;
  table(place, ["claim", "layer", "quantity", "value", "bound", "verdict", "slack", "note"], rows, `Theory at ${stepName()}`);
});

const floatsOnce = (() => {
  const made = new Map();
  return (kept, name) => made.get(kept.values[name]) ?? (made.set(kept.values[name], floats(kept.values[name])), made.get(kept.values[name]));
})();

part(["run"], () => {
  const place = byId("findings"), kept = data.findings;
  if (!place) return;
  const value = floatsOnce(kept, "value");
  const rows = kept.texts.run.flatMap((r, i) =>
    r !== chosen.run
      ? []
      : [[
          wordsOf(kept, "finding", i), wordsOf(kept, "layer", i), wordsOf(kept, "metric", i), wordsOf(kept, "quantity", i),
          Number.isNaN(value[i]) ? wordsOf(kept, "reason", i) : value[i], wordsOf(kept, "checkpoint", i),
        ]],
  );
  table(place, ["finding", "layer", "metric", "quantity", "value", "checkpoint"], rows, `What became of ${titleOf()}`);
});

// All numbers of a step

part(["run", "step", "split"], () => {
  const one = run();
  for (const [id, maps] of [["number-table", false], ["map-table", true]]) {
    const places = one.places.map((place, at) => ({ ...place, at })).filter((place) => place.map === maps);
    const own = one.series.filter((each) => (each.split === chosen.split || maps) && one.places[each.places[0]].map === maps);
    const rows = places.map((place) => [
      place.name,
      ...own.map((series) => {
        const column = series.places.indexOf(place.at);
        if (column < 0) return "";
        const found = cell(one, series, chosen.step, column);
        return found.value === null ? { text: "–", title: found.reason } : found.value;
      }),
    ]);
    table(byId(id), [maps ? "map" : "layer", ...own.map((series) => about(series.number).label)], rows, `${maps ? "Maps" : "Layers"} at ${stepName()}, ${titleOf()}`);
  }
});

// Choices

function change(changes) {
  Object.assign(chosen, changes);
  const names = Object.keys(changes);
  if (names.includes("run")) newRun();
  if (names.includes("number") || names.includes("split") || names.includes("run")) newSeries();
  byId("step-name").textContent = stepName();
  byId("step").setAttribute("aria-valuetext", stepName());
  const changed = names.includes("run") ? Object.keys(chosen) : names.concat(names.includes("number") ? ["layers"] : []);
  return Promise.all(parts.filter(({ needs }) => needs.some((need) => changed.includes(need))).map((each) => each.draw()));
}

function newRun() {
  const one = run();
  byId("run").value = chosen.run;
  chosen.step = one.steps.length - 1;
  Object.assign(byId("step"), { max: chosen.step, value: chosen.step });
  for (const id of ["step", "play"]) byId(id).disabled = one.steps.length < 2;
  const splits = [...new Set(one.series.map((each) => each.split))];
  if (!splits.includes(chosen.split)) chosen.split = splits.includes("train") ? "train" : splits[0];
  byId("split").replaceChildren(...splits.map((name) => make("option", { value: name, textContent: name })));
  byId("split").value = chosen.split;
  byId("split-choice").hidden = splits.length < 2;
  const matrix = matrixOf();
  if (byId("layer")) {
    const layers = matrix?.layers ?? [];
    byId("layer").replaceChildren(...layers.map((name) => make("option", { value: name, textContent: name })));
    const reads = one.reads === null ? "" : one.places[one.reads].name;
    chosen.layer = layers.includes(reads) ? reads : layers.at(-1) ?? "";
    byId("layer").value = chosen.layer;
  }
  classChoices();
}

function newSeries() {
  const series = current(), box = byId("layers");
  chosen.layers = null;
  const places = series ? placesOf(series) : [];
  box.replaceChildren(
    ...places.map((place) =>
      make("label", {}, make("input", { type: "checkbox", checked: true, value: place.at, onchange: layersChosen }), place.name)),
  );
  layersSummary();
}

function layersChosen() {
  const boxes = [...byId("layers").querySelectorAll("input")];
  const kept = boxes.filter((each) => each.checked).map((each) => Number(each.value));
  change({ layers: kept.length === boxes.length ? null : new Set(kept) });
  layersSummary();
}

function layersSummary() {
  const all = byId("layers").children.length, kept = chosen.layers ? chosen.layers.size : all;
  const drawnOf = Math.min(kept, MOST_LINES);
  byId("layers-summary").textContent = `${kept === all ? "all" : kept} of ${all}${drawnOf < kept ? `, ${drawnOf} of them drawn` : ""}`;
}

function classChoices() {
  const place = byId("picture-classes"), kept = pictureOf();
  if (!place) return;
  const known = kept?.classes ?? [];
  if (!chosen.classes.every((c) => known.some((each) => each.index === c)) || chosen.classes.length < 3) chosen.classes = known.slice(0, 3).map((each) => each.index);
  const options = (none) => [...(none ? [make("option", { value: "", textContent: "none" })] : []), ...known.map((each) => make("option", { value: each.index, textContent: each.name }))];
  place.replaceChildren(
    ...(known.length < 3 ? [] : [0, 1, 2, 3].slice(0, known.length > 3 ? 4 : 3).map((i) => {
      const select = make("select", {}, ...options(i === 3));
      select.value = chosen.classes[i] ?? "";
      select.onchange = () => {
        const picked = [...place.querySelectorAll("select")].map((each) => each.value).filter((value) => value !== "").map(Number);
        const apart = [...new Set(picked)];
        byId("turn-choice").hidden = apart.length < 4;
        change({ classes: apart });
      };
      return make("label", { className: "swatch" }, make("i", { className: `series${i}` }), `Class ${i + 1} `, select);
    })),
  );
  byId("turn-choice").hidden = chosen.classes.length < 4;
}

function play() {
  const button = byId("play"), stop = () => {
    clearInterval(playing);
    playing = null;
    button.textContent = "▶";
    button.setAttribute("aria-label", "Play the steps");
  };
  if (playing) return stop();
  button.textContent = "❚❚";
  button.setAttribute("aria-label", "Stop");
  if (chosen.step >= run().steps.length - 1) moveTo(0);
  playing = setInterval(() => (chosen.step < run().steps.length - 1 ? moveTo(chosen.step + 1) : stop()), 800);
}

function moveTo(step) {
  byId("step").value = step;
  change({ step });
}

// The CSV of a section: the rows of its charts and tables as they are shown.

const SECTIONS = {
  runs: () => [...data.headlines.keys(), data.headlines.length].flatMap((i) => shownRows.get(`panel${i}`) ?? []),
  training: () => shownRows.get("trajectory"),
  depth: () => shownRows.get("map"),
  maps: () => ["balance", "condition"].flatMap((id) => shownRows.get(id) ?? []),
  classes: () => ["cosines", "duality"].flatMap((id) => shownRows.get(id) ?? []),
  picture: () => shownRows.get("simplex"),
};

function offer(section) {
  const made = SECTIONS[section]?.();
  if (made) {
    const names = columnsOf(made), more = section === "picture" ? ["x", "y"] : [];
    const rows = made.map((row) => [...names.map((name) => (name === "value" && row.exact !== undefined ? row.exact ?? row.value : row[name] ?? "")), ...more.map((name) => row[name])]);
    return download(`ncscan-${section}.csv`, [...names, ...more], rows);
  }
  const shown = [...byId(section).querySelectorAll("table")];
  const line = (row) => [...row.cells].map((each) => (each.dataset.value === undefined ? each.textContent : Number(each.dataset.value)));
  const heads = (each) => [...each.tHead.rows[0].cells].map((head) => head.textContent);
  const [first, ...others] = shown;
  download(`ncscan-${section}.csv`, heads(first), [...[...first.tBodies[0].rows].map(line), ...others.flatMap((each) => [[], heads(each), ...[...each.tBodies[0].rows].map(line)])]);
}

if (data.runs.length) {
  byId("run").replaceChildren(...data.runs.map((one, i) => make("option", { value: i, textContent: titleOf(one) })));
  for (const id of ["run", "number"]) byId(id).onchange = (event) => change({ [id]: Number(event.target.value) });
  for (const id of ["split", "layer", "verdicts"]) if (byId(id)) byId(id).onchange = (event) => change({ [id]: event.target.value });
  byId("step").oninput = (event) => change({ step: Number(event.target.value) });
  if (byId("turn")) byId("turn").oninput = (event) => change({ turn: Number(event.target.value) });
  byId("play").onclick = play;
  for (const [id, checked] of [["layers-all", true], ["layers-none", false]]) {
    byId(id).onclick = () => {
      for (const each of byId("layers").querySelectorAll("input")) each.checked = checked;
      layersChosen();
    };
  }
  for (const button of document.querySelectorAll("[data-csv]")) button.onclick = () => offer(button.dataset.csv);
  const first = data.runs.findIndex((one) => !one.seeds);
  chosen.number = Number(byId("number").value);
  change({ run: Math.max(first, 0) }).then(() => (document.documentElement.dataset.drawn = "all"));
}
