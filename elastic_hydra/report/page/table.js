// The table of the jobs: sorted, searched, and shown in pages.

const ROWS = 50;  // of the table, at a time

function tableOf(columns) {
  const { jobs, params } = columns;
  const heads = [
    { name: "job", values: jobs.num, show: (value) => `#${value}` },
    { name: "state", values: jobs.state },
    { name: "value", values: jobs.value },
    ...Object.entries(params).map(([name, values]) => ({ name, values })),
    { name: "time", values: jobs.seconds, show: (value) => (value === null ? "" : duration(value)) },
    { name: "attempts", values: jobs.attempts, show: (value) => (value > 1 ? String(value) : "") },
    { name: "restarts", values: jobs.restarts, show: (value) => (value ? String(value) : "") },
    { name: "reason", values: jobs.reason, long: true },
  ].filter((head, index) => index < 2 || head.values.some((value) => value !== null && (head.show || String)(value) !== ""));
  for (const head of heads) {
    head.show = head.show || short;
    head.numeric = head.name !== "job" && head.values.every((value) => value === null || isNumber(value));
  }
  const texts = jobs.num.map((_, row) =>
    heads.map((head) => `${head.name}=${head.show(head.values[row])} ${head.show(head.values[row])}`).join(" ").toLowerCase());
  return { heads, texts, rows: jobs.num.map((_, row) => row), sorted: null, descending: false, page: 0 };
}

function compare(a, b) {
  if (a === b) return 0;
  if (a === null || a === "") return 1;  // what is not there comes last, whichever way it is sorted
  if (b === null || b === "") return -1;
  return isNumber(a) && isNumber(b) ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
}

function arrange(table) {
  const words = $("query").value.toLowerCase().split(/\s+/).filter(Boolean);
  table.rows = table.texts.map((_, row) => row).filter((row) => words.every((word) => table.texts[row].includes(word)));
  if (table.sorted !== null) {
    const { values } = table.heads[table.sorted];
    const missing = (row) => values[row] === null || values[row] === "";
    const sign = table.descending ? -1 : 1;
    table.rows.sort((a, b) => (missing(a) || missing(b) ? 1 : sign) * compare(values[a], values[b]) || a - b);
  }
  table.page = 0;
  showTable(table);
}

function showTable(table) {
  const head = element("tr");
  table.heads.forEach((column, index) => {
    const arrow = table.sorted !== index ? "" : table.descending ? " ▼" : " ▲";
    const cell = element("th", undefined, column.numeric ? "number" : "");
    cell.scope = "col";
    cell.ariaSort = table.sorted !== index ? "none" : table.descending ? "descending" : "ascending";
    const button = element("button", column.name + arrow);
    button.type = "button";
    button.onclick = () => {
      table.descending = table.sorted === index && !table.descending;
      table.sorted = index;
      arrange(table);
      $("jobs").tHead.rows[0].cells[index].firstChild.focus({ preventScroll: true });
    };
    cell.append(button);
    head.append(cell);
  });
  $("jobs").tHead.replaceChildren(head);
  const first = table.page * ROWS;
  const shown = table.rows.slice(first, first + ROWS);
  $("jobs").tBodies[0].replaceChildren(...shown.map((row) => rowOf(table, row)));
  const total = table.rows.length;
  const all = table.texts.length;
  const of = `${total < all ? `${total} of ` : ""}${all} job${all === 1 ? "" : "s"}`;
  $("shown").textContent = total > ROWS ? `${first + 1} to ${first + shown.length} of ${of}` : of;
  $("previous").disabled = first === 0;
  $("next").disabled = first + ROWS >= total;
}

function rowOf(table, row) {
  const made = element("tr");
  for (const head of table.heads) {
    const text = head.show(head.values[row]);
    const cell = element("td", undefined, head.long ? "long" : head.numeric ? "number" : "");
    if (head.name === "state") cell.append(element("span", text, `state ${text.replace(" ", "-")}`));
    else cell.textContent = text;
    made.append(cell);
  }
  return made;
}

function startTable(columns) {
  const table = tableOf(columns);
  const turn = (by) => () => { table.page += by; showTable(table); };
  $("previous").onclick = turn(-1);
  $("next").onclick = turn(1);
  $("query").oninput = () => arrange(table);
  $("filter").onsubmit = () => false;
  showTable(table);
}
