// The page begins: controls are filled and wired, everything is drawn once, and sections offer their numbers.

/** Offers what a place shows: the rows of its charts, else of its tables; of the section on depth the map, which has every step. */
function offer(id) {
  const rows = rowsOf(id === "depth" ? "map" : id);
  if (byId(id).querySelector(".chart")) {
    if (!rows.length) return;
    const names = [...columnsOf(rows), ...(id === "picture" ? ["x", "y"] : [])];
    const exactly = (row, name) => (name === "value" ? row.exact ?? row.value : row[name] ?? "");
    return download(`ncscan-${id}.csv`, names, rows.map((row) => names.map((name) => exactly(row, name))));
  }
  const cells = (row) => [...row.cells].map((each) => (each.dataset.value === undefined ? (each.title ? `none: ${each.title}` : each.textContent) : Number(each.dataset.value)));
  const lines = [...byId(id).querySelectorAll("table")].flatMap((each) => [...each.rows].map(cells));
  download(`ncscan-${id}.csv`, lines[0] ?? [], lines.slice(1));
}

const drawn = () => (document.documentElement.dataset.drawn = "all");

/** A link to what is folded opens it: a definition, a statement of the theory. */
function unfold() {
  for (let each = document.getElementById(location.hash.slice(1)); each; each = each.parentElement?.closest("details")) each.open = true;
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

sortable(byId("provenance"));
addEventListener("hashchange", unfold);
if (location.hash) unfold();

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
  change({ run: Math.max(first, 0) }).then(drawn);
} else drawn();
