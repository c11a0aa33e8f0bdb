// What is chosen on the page, and what follows from it for every part of the page.

const chosen = { run: 0, number: 0, split: "", step: 0, layers: null, layer: "", classes: [], turn: 30, verdicts: "all" };

const run = () => data.runs[chosen.run];
const about = (n = chosen.number) => data.numbers[n];
const current = () => seriesOf(run(), chosen.number, chosen.split);
const stepName = (step = chosen.step) => run().labels[step];
/** The places of the steps of a run: what stands beside it has none, and nothing has where its order is not known. */
const stepped = (one = run()) => [...one.steps.keys()].filter((step) => one.steps[step] !== null);
const lastOf = (one = run()) => stepped(one).at(-1) ?? one.steps.length - 1;
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
    note: found.floor ? "at its floor: rounding may have made it" : found.low === null ? "–" : `${one.seeds ? "mean ± 1 std" : "interval"}: ${number(found.low)} to ${number(found.high)}`,
  };
}

const parts = [];
/** Something that is drawn again when one of these choices changes. */
const part = (needs, drawIt) => parts.push({ needs, draw: drawIt });

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
  chosen.step = lastOf(one);
  Object.assign(byId("step"), { max: one.steps.length - 1, value: chosen.step });
  byId("step").disabled = one.steps.length < 2;
  byId("play").disabled = stepped(one).length < 2;
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
        change({ classes: apart });
        classChoices();
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
  if (chosen.step >= lastOf()) moveTo(0);
  playing = setInterval(() => (chosen.step < lastOf() ? moveTo(chosen.step + 1) : stop()), 800);
}

function moveTo(step) {
  byId("step").value = step;
  change({ step });
}
