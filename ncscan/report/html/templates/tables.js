// Tables: made of text alone, so that nothing a stranger wrote is ever markup; sorted by their headings.

function make(tag, properties = {}, ...children) {
  const { dataset, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

const MOST_ROWS = 2000;
/** As many rows as a printed page has of a table; page.css hides the others there. */
const PRINTED = Number(document.documentElement.dataset.printed);

/**
 * A table in place of what was there.
 * columns: names; rows: lists of {text, value?, title?} or plain text and numbers; the first of each is its heading.
 */
function table(place, columns, rows, caption) {
  const shown = rows.slice(0, MOST_ROWS);
  const body = make("tbody");
  for (const row of shown) {
    body.append(
      make(
        "tr",
        {},
        ...row.map((given, i) => {
          const one = typeof given === "object" && given !== null ? given : { value: given };
          const isNumber = typeof one.value === "number";
          const element = make(i ? "td" : "th", { textContent: one.text ?? (isNumber ? number(one.value) : one.value ?? "") });
          if (!i) element.scope = "row";
          if (isNumber) element.dataset.value = one.value;
          if (one.title) Object.assign(element, { title: one.title, tabIndex: 0 });
          return element;
        }),
      ),
    );
  }
  const heads = columns.map((name, i) => {
    const button = make("button", { type: "button", textContent: name });
    const head = make("th", { scope: "col" }, button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(made, i));
    return head;
  });
  const made = make("table", {}, make("caption", { textContent: caption }), make("thead", {}, make("tr", {}, ...heads)), body);
  place.replaceChildren(made);
  if (place.classList.contains("scroll")) {
    Object.assign(place, { tabIndex: 0, role: "region", ariaLabel: caption });
  }
  if (rows.length > PRINTED) place.dataset.more = `${rows.length - PRINTED} more rows are in the CSV files.`;
  else delete place.dataset.more;
  if (shown.length < rows.length) {
    place.append(make("p", { className: "aside", textContent: `${shown.length} of ${rows.length} rows; the CSV has all.` }));
  }
  return made;
}

/** Sorts by a column: upwards, then downwards. What has no number comes last either way. */
function sort(element, column) {
  const heads = [...element.tHead.rows[0].cells];
  const down = heads[column].getAttribute("aria-sort") === "ascending";
  for (const head of heads) head.setAttribute("aria-sort", "none");
  heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...element.tBodies[0].rows];
  const keyed = rows.map((row) => {
    const of = row.cells[column];
    const text = of.textContent.replace(/(\d),(?=\d{3})/g, "$1"); // 12,000 comes after 1,500
    return { row, value: of.dataset.value === undefined ? null : Number(of.dataset.value), text };
  });
  const numeric = keyed.some((each) => each.value !== null);
  const order = (a, b) => {
    if (!numeric) return (down ? -1 : 1) * a.text.localeCompare(b.text, "en", { numeric: true });
    if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
    return down ? b.value - a.value : a.value - b.value;
  };
  element.tBodies[0].replaceChildren(...keyed.sort(order).map((each) => each.row));
}

/** Tables that are there from the start sort by their headings too. */
function sortable(place) {
  for (const button of place.querySelectorAll("thead th button")) {
    const head = button.closest("th");
    button.addEventListener("click", () => sort(head.closest("table"), head.cellIndex));
  }
}

/** Offers rows as a file. */
function download(name, columns, rows) {
  const text = [columns, ...rows].map((row) => row.map(quoted).join(",") + "\n").join("");
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
