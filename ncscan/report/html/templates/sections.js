// The sections of the page but for the picture: each part says which choices it follows, and draws itself.

/** Lines of a chart, cells of a map, and values up to which each has a dot. */
const MOST_LINES = 40, MOST_CELLS = 6000, MOST_DOTS = 80;

function phase(one) {
  const last = one.steps[lastOf(one)];
  return one.onset === null || one.onset === undefined || last === null ? [] : [{ from: one.onset, to: last }];
}

const NO_ORDER = "The order of its checkpoints is not known: there are no steps to draw it over.";

const placesOf = (series) => series.places.map((at, column) => ({ ...run().places[at], at, column }));

function trajectoryRows(one, series, n, kept) {
  const places = series.places.map((at, column) => ({ ...one.places[at], at, column })).filter(({ at }) => !kept || kept.has(at));
  const lines = spreadOut(places, MOST_LINES);
  const dots = lines.length * one.steps.length <= MOST_DOTS ? 1 : 0;
  return lines.flatMap((place) =>
    stepped(one).map((step) => {
      const x = one.steps[step], found = cell(one, series, step, place.column);
      const shade = shadeOf(series.places.indexOf(place.at), series.places.length, data.shades.depth);
      return { x, y: found.value, exact: found.value, line: place.name, shade, dot: dots, ...told(place, step, found, n, one) };
    }),
  );
}

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
  return draw("trajectory", "trajectory", axes, { rows, phase: phase(one) }, { metric: about().label, of: about().metric, run: titleOf(), none: chosen.layers?.size === 0 ? "No layer is chosen." : series && !stepped(one).length ? NO_ORDER : "This run has no such number.", key: depthKey(series, one) });
});

/** Which colours the first and the last layer have. */
const depthKey = (series, one) =>
  series && series.places.length > 1 ? { ramp: "depth", first: one.places[series.places[0]].name, last: one.places[series.places.at(-1)].name } : null;


part(["run", "number", "split", "step"], () => {
  const series = current(), one = run(), known = stepped(one), ends = known.length > 1 ? [known[0], known.at(-1)] : [];
  const places = series ? placesOf(series) : [];
  const moments = [...new Set([...ends, chosen.step])].sort((a, b) => (a === chosen.step) - (b === chosen.step));
  const rows = moments.flatMap((step) =>
    places.map((place) => {
      const found = cell(one, series, step, place.column), full = step === chosen.step;
      return {
        x: place.short, y: found.value, exact: found.value, line: one.labels[step], shade: shadeOf(step, one.steps.length, data.shades.step),
        wide: full ? 1 : 0, dot: full ? 1 : 0,
        low: full ? found.low : null, high: full ? found.high : null, base: full ? found.baseline : null,
        baseline: full && found.baseline !== null ? number(found.baseline) : undefined,
        ...told(place, step, found),
      };
    }),
  );
  const labels = places.map((place) => place.short);
  const x = { scale: { type: "point", padding: 0.3, domain: labels }, values: spreadOut(labels, 28) };
  return draw("profile", "profile", { x, y: about().axis }, { rows }, { metric: about().label, of: about().metric, step: stepName(), run: titleOf(), key: ends.length ? { ramp: "step", first: one.labels[ends[0]], last: one.labels[ends[1]] } : null });
});

part(["run", "number", "split"], () => {
  const series = current(), one = run();
  const all = series ? placesOf(series) : [];
  const steps = spreadOut([...one.steps.keys()], Math.max(12, Math.min(60, Math.floor(MOST_CELLS / Math.max(1, all.length)))));
  const places = spreadOut(all, Math.max(2, Math.floor(MOST_CELLS / Math.max(1, steps.length))));
  const alone = (step) => one.steps[step] !== null && one.steps.indexOf(one.steps[step]) === one.steps.lastIndexOf(one.steps[step]);
  const names = steps.map((step) => (alone(step) ? one.steps[step].toLocaleString("en") : one.labels[step]));
  const rows = places.flatMap((place) =>
    steps.map((step, i) => {
      const found = cell(one, series, step, place.column);
      const shade = found.value === null ? -1 : shadeOfShare(share(about(), found.value), data.shades.heat);
      return { x: names[i], y: place.short, shade, exact: found.value, ...told(place, step, found) };
    }),
  );
  const labels = places.map((place) => place.short);
  const title = stepped(one).length ? one.unit || "step" : "checkpoint; their order is not known";
  const axes = { x: { scale: { domain: names }, title }, y: { scale: { domain: labels } } };
  return draw("map", "map", axes, { rows }, { metric: about().label, of: about().metric, run: titleOf(), key: { ramp: "heat", first: number(about().domain[0]), last: number(about().domain[1]) } }, Math.max(120, Math.min(900, 18 * labels.length + 60)));
});

// Runs and groups

const groupShade = (() => {
  const names = [...new Set(data.runs.map((one) => one.group || one.name))];
  return (one) => names.indexOf(one.group || one.name) % data.shades.series;
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
    return stepped(one).map((step) => {
      const x = one.steps[step], found = ofRun(one, series, step);
      const spread = one.seeds && found.low !== null ? `± ${number((found.high - found.low) / 2)}` : "–";
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
      make("figure", {}, make("figcaption", {}, make("b", { textContent: headline.words }), " ", make("a", { href: `#def-${about(headline.number).metric}` }, make("code", { textContent: about(headline.number).label }))),
        make("div", { className: "chart", id: `panel${i}`, role: "img" }))),
  );
  const names = new Map(data.runs.map((one) => [groupShade(one), one.group || one.name]));
  byId("runs-legend").replaceChildren(...[...names].map(([shade, name]) => make("li", {}, make("i", { className: `series${shade}` }), name)));
  return Promise.all(
    shown.map((headline, i) => {
      const axes = { x: { ...data.axis, title: data.unit || "step" }, y: about(headline.number).axis };
      return draw(`panel${i}`, "compare", axes, { rows: compareRows(headline.number) }, { metric: about(headline.number).label });
    }),
  ).then(() => behind("panels"));
});

// Maps

const numberOf = (metric) => data.numbers.findIndex((each) => each.metric === metric);

for (const [id, metric] of [["balance", "balancedness"], ["condition", "weight_condition"]]) {
  part(["run"], () => {
    const n = numberOf(metric), one = run(), series = n < 0 ? undefined : seriesOf(one, n, "train");
    const rows = series ? trajectoryRows(one, series, n).filter((row) => row.y !== null) : [];
    const axes = { x: { ...one.axis, title: one.unit || "step" }, y: n < 0 ? {} : about(n).axis };
    return draw(id, "trajectory", axes, { rows, phase: phase(one) }, { metric: n < 0 ? metric : about(n).label, of: metric, run: titleOf(), none: series && !stepped(one).length ? NO_ORDER : `There is no ${metric} of this run.`, key: depthKey(series, one) }, 240);
  });
}

// Classes

/** What was kept of a run for this checkpoint, for the nearest one before it, or for the first: its place, and its name. */
function momentOf(checkpoints) {
  const order = run().checkpoints;
  let step = chosen.step;
  while (step >= 0 && !checkpoints.includes(order[step])) step--;
  const checkpoint = step < 0 ? checkpoints[0] : order[step];
  return { at: checkpoints.indexOf(checkpoint), name: run().labels[order.indexOf(checkpoint)] };
}

const matrixOf = () => data.matrices.find((each) => each.run === chosen.run);
const shortsOf = once((kept) => shorts(kept.value));

for (const [which, id, what] of [[0, "cosines", "cosines of the class means"], [1, "duality", "cosines of the classifier's rows (down) with the class means"]]) {
  if (!byId("classes")) break;
  part(["run", "step", "layer"], () => {
    const kept = matrixOf(), names = kept?.classes ?? [], K = names.length;
    const layer = kept ? Math.max(kept.layers.indexOf(chosen.layer), 0) : 0;
    const rows = [], moment = kept ? momentOf(kept.checkpoints) : { name: stepName() };
    if (kept) {
      const values = shortsOf(kept), step = moment.name;
      const at = ((moment.at * kept.layers.length + layer) * 2 + which) * K * K;
      for (let c = 0; c < K; c++) {
        for (let d = 0; d < K; d++) {
          const value = values[at + c * K + d], ideal = c === d ? 1 : -1 / (K - 1);
          const shade = Number.isNaN(value) ? -1 : shadeOfDeviation(value - ideal, data.shades.balance);
          rows.push({
            x: names[d], y: names[c], shade, exact: Number.isNaN(value) ? null : value, metric: which ? "nc3_pair_cosine" : "pair_cosine",
            value: number(value), simplex: number(ideal), classes: `${names[c]}, ${names[d]}`, layer: kept.layers[layer], step, run: titleOf(),
          });
        }
      }
    }
    const axes = { x: { scale: { domain: names } }, y: { scale: { domain: names } } };
    return draw(id, "matrix", axes, { rows }, { metric: what, of: which ? "nc3_pair_cosine" : "pair_cosine", step: moment.name, run: titleOf(), none: run().seeds ? "Pairs of classes belong to one run: choose a run." : "There are no pairs of classes of this run.", key: { ramp: "balance", first: "1 less", last: "1 more than in a simplex" } });
  });
}

part(["run", "step", "layer"], () => {
  const place = byId("class-table"), kept = data.classes.find((each) => each.run === chosen.run);
  if (!place) return;
  if (!kept) {
    place.replaceChildren(make("p", { className: "aside", textContent: "Numbers of single classes belong to one run: choose a run." }));
    return;
  }
  const values = floats(kept.value), K = kept.classes.length, moment = momentOf(kept.checkpoints);
  const layer = kept.layers.includes(chosen.layer) ? kept.layers.indexOf(chosen.layer) : kept.layers.length - 1;
  const rows = kept.classes.map((name, c) => [
    name,
    ...kept.metrics.map((_, m) => {
      const value = values[((moment.at * kept.layers.length + layer) * kept.metrics.length + m) * K + c];
      return Number.isNaN(value) ? "–" : value;
    }),
  ]);
  table(place, ["class", ...kept.metrics], rows, `Class by class at ${moment.name}, layer ${kept.layers[layer]}`);
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
  const moment = momentOf(checkpoints), checkpoint = checkpoints[moment.at];
  const [value, bound, slack, target, deviation] = ["value", "bound", "slack", "target", "deviation"].map((name) => floatsOnce(kept, name));
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
      ["does not hold", "holds"][holds] ?? "", told(slack), told(target), told(deviation), wordsOf(kept, "reason", i),
    ]);
  });
  byId("theory-count").textContent = `${judged} statements are judged at ${moment.name}: ${held} hold, ${judged - held} do not.`;
  table(place, ["claim", "layer", "quantity", "value", "bound", "verdict", "slack", "target", "deviation", "note"], rows, `Theory at ${moment.name}`);
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
  if (!rows.length) return place.replaceChildren(make("p", { className: "aside", textContent: "Findings are about one run: choose a run." }));
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
