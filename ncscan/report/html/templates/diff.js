sortable(document);

// Fields hide rows of the table that their form names in data-table: a text field those whose cell in the column
// data-column does not hold its text, a check box those of another data-kind than its value.
for (const filters of document.querySelectorAll(".filters")) {
  const body = document.getElementById(filters.dataset.table).tBodies[0];
  const fields = [...filters.querySelectorAll("input")];
  const told = filters.querySelector("output");
  const place = body.closest(".scroll");
  const more = place.dataset.more;
  const rows = [...body.rows].map((row) => ({ row, texts: [...row.cells].map((cell) => cell.textContent.toLowerCase()) }));
  const apply = () => {
    const wanted = fields.map((field) => (field.type === "checkbox" ? field.checked : field.value.trim().toLowerCase()));
    let shown = 0;
    for (const { row, texts } of rows) {
      const fits = fields.every((field, i) => {
        if (field.type === "checkbox") return !wanted[i] || row.dataset.kind === field.value;
        return texts[Number(field.dataset.column)].includes(wanted[i]);
      });
      row.hidden = !fits;
      shown += fits;
    }
    // What was chosen is printed to its end; all rows only begin on paper.
    if (shown === rows.length && more) place.dataset.more = more;
    else delete place.dataset.more;
    told.textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows shown`;
  };
  filters.hidden = false;
  for (const field of fields) field.addEventListener("input", apply);
  apply();
}
document.documentElement.dataset.drawn = "";
