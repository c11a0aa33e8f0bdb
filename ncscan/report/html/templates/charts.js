// Charts: a template of charts.py, fitted to its numbers, drawn in its place, with what it shows in words and as a table.

/** Charts in which both axes are measured alike. */
const SQUARE = new Set(["matrix", "simplex"]);

const byId = (id) => document.getElementById(id);
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
  named(shows, datasets.rows.length ? words : { ...words, key: null }, id);
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
  if (!inside.isConnected) return made.finalize(); // chosen anew in the meantime: another is being drawn there
  views.get(id)?.finalize();
  views.set(id, made.view);
}

/** Says what a chart shows, for those who do not see it and under it; and what the first and the last colour mean. */
function named(shows, words, id) {
  const label = shows.replace(/\{(\w+)\}/g, (_, word) => words[word] ?? "");
  byId(id).setAttribute("aria-label", label);
  const caption = byId(`${id}-caption`), { key, of } = words;
  if (!caption) return;
  const told = key ? [" ", make("span", { className: "swatches" }, key.first, make("i", { className: key.ramp }), key.last)] : [];
  const defined = of && byId(`def-${of}`) ? [" ", make("a", { href: `#def-${of}`, textContent: "definition" })] : [];
  caption.replaceChildren(label, ...told, ...defined);
}

/** The table behind a chart, or behind several, once it is open. */
function behind(id) {
  const details = document.querySelector(`[data-table="${id}"]`);
  if (!details) return;
  details.ontoggle = () => {
    if (!details.open) return;
    const rows = rowsOf(id), names = columnsOf(rows);
    table(details.lastElementChild, names, rows.map((row) => names.map((name) => cellOf(row, name))), details.firstElementChild.textContent);
  };
  details.ontoggle();
}

/** The rows of a chart; those of all charts inside, where it is a place of several. */
const rowsOf = (id) => shownRows.get(id) ?? [...byId(id).querySelectorAll(".chart")].flatMap((each) => shownRows.get(each.id) ?? []);

/** What a row says of its number, in this order. */
const TOLD = ["layer", "classes", "class", "item", "step", "run", "metric", "value", "spread", "simplex", "baseline", "note", "convention"];
const columnsOf = (rows) => TOLD.filter((name) => rows.some((row) => row[name] !== undefined));
const cellOf = (row, name) => (name === "value" && typeof row.exact === "number" ? { value: row.exact } : row[name] ?? "");
