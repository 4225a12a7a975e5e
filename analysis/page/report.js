"use strict";
// All text of the runs goes through textContent or an attribute: nothing of it becomes markup.
const data = JSON.parse(document.getElementById("data").textContent);

function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children.map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))));
  return element;
}

// -- sorting: a cell sorts by data-v, else by its text; empty data-v (no value) always comes last
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

function key(row, column) {
  const cell = row.cells[column];
  return cell.hasAttribute("data-v") ? cell.dataset.v : cell.textContent;
}

function compare(a, b) {
  const [x, y] = [Number(a), Number(b)];
  return Number.isFinite(x) && Number.isFinite(y) ? x - y : collator.compare(a, b);
}

function sortBy(heading) {
  const table = heading.closest("table");
  const column = heading.cellIndex;
  const body = table.tBodies[0];
  const numbers = [...body.rows].some((row) => row.cells[column].classList.contains("n"));
  const before = heading.getAttribute("aria-sort");
  // the first press shows the largest number, or the first word
  const order = before === "none" ? (numbers ? "descending" : "ascending") : before === "ascending" ? "descending" : "ascending";
  for (const other of heading.parentNode.cells) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...body.rows].map((row) => [key(row, column), row]);
  rows.sort(([a], [b]) => (a === "" || b === "" ? (a === "") - (b === "") : sign * compare(a, b)));
  body.append(...rows.map(([, row]) => row));
}

document.addEventListener("click", (event) => {
  const heading = event.target.closest("table.sortable thead th");
  if (heading) sortBy(heading);
});

// -- filters: every word must occur
function words(input) {
  return input.value.toLowerCase().split(/\s+/).filter(Boolean);
}

function has(text, wanted) {
  const low = text.toLowerCase();
  return wanted.every((word) => low.includes(word));
}

const metric = document.getElementById("metric");
const tableFilter = document.getElementById("table-filter");

function filterTables() {
  const wanted = words(tableFilter);
  let shown = 0;
  let all = 0;
  for (const figure of document.querySelectorAll("figure.table")) {
    figure.hidden = figure.dataset.metric !== metric.value;
    if (figure.hidden) continue;
    for (const row of figure.querySelector("tbody").rows) {
      const names = [...row.querySelectorAll("th")].map((cell) => cell.textContent).join(" ");
      row.hidden = !has(names, wanted);
      all += 1;
      shown += !row.hidden;
    }
  }
  document.getElementById("table-count").textContent = wanted.length ? `${shown} of ${all} rows` : "";
}

const runFilter = document.getElementById("run-filter");
const selects = [...document.querySelectorAll("#run-filters select")];

function filterRuns() {
  const wanted = words(runFilter);
  const rows = [...document.getElementById("runs-table").tBodies[0].rows];
  for (const row of rows) {
    const chosen = selects.every((s) => !s.value || row.cells[Number(s.dataset.column)].textContent === s.value);
    const names = [...row.cells].slice(0, 7).map((cell) => cell.textContent).join(" ");
    row.hidden = !chosen || !has(names, wanted);
  }
  document.getElementById("run-count").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} runs`;
}

metric.addEventListener("change", filterTables);
tableFilter.addEventListener("input", filterTables);
runFilter.addEventListener("input", filterRuns);
for (const select of selects) select.addEventListener("change", filterRuns);

// -- one run
const dialog = document.getElementById("run");

function shown(value, digits) {
  return value === null ? "not defined" : value.toFixed(digits);
}

function pairs(rows) {
  return make("dl", {}, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function grid(head, rows, name) {
  const line = make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)));
  const table = make("table", { class: name || "" }, make("thead", {}, line), make("tbody", {}, ...rows));
  return make("div", { class: "wide" }, table);
}

function confusion(run) {
  const rows = run.confusion.map((counts, i) => {
    const total = counts.reduce((sum, n) => sum + n, 0) || 1;
    const cells = counts.map((n) => {
      const share = n / total;
      const told = `${(100 * share).toFixed(1)} % of this class`;
      const cell = make("td", { "data-heat": "", title: told, class: share > 0.55 ? "strong" : "" }, n);
      cell.style.setProperty("--share", share.toFixed(3));
      return cell;
    });
    return make("tr", {}, make("th", { scope: "row" }, run.classes[i]), ...cells);
  });
  return grid(["true \\ predicted", ...run.classes], rows, "confusion");
}

function perClass(run) {
  const rows = run.per_class.map(([name, support, ...values]) =>
    make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "n" }, support),
      ...values.map((value) => make("td", { class: "n" }, shown(value, 2)))));
  return grid(["class", "images", "precision %", "recall %", "F1 %", "AUROC %"], rows);
}

function draw(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// a chart with x and y from [low, high] to the axes' lengths
function chart(x, y, xLabel, yLabel, label) {
  const svg = draw("svg", { class: "plot", viewBox: "0 0 320 220", role: "img", "aria-label": label });
  const at = (axis, value, from, to) => from + ((value - axis[0]) / (axis[1] - axis[0] || 1)) * (to - from);
  const place = (u, v) => [at(x, u, 48, 310), at(y, v, 182, 10)];
  svg.append(draw("path", { class: "axis", d: "M48 10V182H310" }));
  svg.append(draw("text", { x: 179, y: 214, "text-anchor": "middle" }, xLabel));
  svg.append(draw("text", { x: 12, y: 96, "text-anchor": "middle", transform: "rotate(-90 12 96)" }, yLabel));
  for (const [u, anchor] of [[x[0], "start"], [x[1], "end"]]) {
    svg.append(draw("text", { x: place(u, y[0])[0], y: 198, "text-anchor": anchor }, Number(u.toPrecision(3))));
  }
  for (const v of y) {
    svg.append(draw("text", { x: 44, y: place(x[0], v)[1] + 4, "text-anchor": "end" }, Number(v.toPrecision(3))));
  }
  return [svg, place];
}

function reliability(run) {
  const [svg, place] = chart([0, 100], [0, 100], "confidence (%)", "accuracy (%)", "reliability diagram");
  svg.append(draw("path", { class: "axis", "stroke-dasharray": "4 3", d: `M${place(0, 0)}L${place(100, 100)}` }));
  const images = run.bins.reduce((sum, [n]) => sum + n, 0);
  for (const [n, confidence, accuracy] of run.bins) {
    const [cx, cy] = place(100 * confidence, 100 * accuracy);
    svg.append(draw("path", { class: "gapline", d: `M${[cx, cy]}L${place(100 * confidence, 100 * confidence)}` }));
    const dot = draw("circle", { class: "dot", cx, cy, r: 2 + 8 * Math.sqrt(n / images) });
    dot.append(draw("title", {}, `${n} images, confidence ${(100 * confidence).toFixed(1)} %, accuracy ${(100 * accuracy).toFixed(1)} %`));
    svg.append(dot);
  }
  return svg;
}

function curve(run) {
  const [epochs, losses] = [run.curve.map((p) => p[0]), run.curve.map((p) => p[1])];
  const low = Math.min(0, ...losses);
  const [svg, place] = chart([epochs[0], epochs[epochs.length - 1]], [low, Math.max(...losses)], "epoch", "loss", "training loss");
  svg.append(draw("path", { class: "path", d: "M" + run.curve.map(([e, v]) => place(e, v)).join("L") }));
  return svg;
}

function hardest(run) {
  return make("ul", { class: "hard" }, ...run.hardest.map(([path, truth, predicted, p, q, thumbnail]) => {
    const image = thumbnail < 0 ? make("span", { class: "none" }, "no thumbnail")
      : make("img", { src: data.thumbnails[thumbnail], alt: path, loading: "lazy" });
    const told = truth === predicted ? `${truth} (${(100 * p).toFixed(1)} %)`
      : `${truth} (${(100 * p).toFixed(1)} %), taken for ${predicted} (${(100 * q).toFixed(1)} %)`;
    return make("li", {}, image, make("div", {}, told), make("code", {}, path));
  }));
}

function text(numbers) {
  return make("pre", { tabindex: "0" }, numbers.map((n) => data.lines[n]).join("\n"));
}

function part(title, content, there) {
  return there ? [make("section", {}, make("h3", {}, title), content())] : [];
}

function title(run) {
  const facts = Object.fromEntries(run.facts);
  if (!facts.method) return run.folder;
  const split = facts.split === "all" ? "" : ` ${facts.split} classes,`;
  return `${facts.method}, ${facts.dataset},${split} ${facts.num_shots} shots, seed ${facts.seed}`;
}

function show(run) {
  const head = [make("h2", { id: "run-title" }, title(run))];
  if (run.rehearsal) head.push(make("p", { class: "banner" }, "rehearsal (synthetic)"));
  if (run.state !== "done") head.push(make("p", { class: "banner" }, run.state));
  const metrics = (run.metrics || []).map(([name, value, unit, digits]) => [name, shown(value, digits) + (unit && value !== null ? " " + unit : "")]);
  const columns = make("div", { class: "columns" },
    ...part("Metrics", () => pairs(metrics), metrics.length),
    ...part("Confusion matrix", () => confusion(run), run.confusion && run.confusion.length),
    ...part("Calibration", () => reliability(run), run.bins && run.bins.length),
    ...part("Training loss", () => curve(run), run.curve && run.curve.length > 1));
  document.getElementById("run-body").replaceChildren(...head, columns,
    ...part("Per class", () => perClass(run), run.per_class && run.per_class.length),
    ...part("Hardest images: least probability of the true class", () => hardest(run), run.hardest && run.hardest.length),
    ...part("Log, last lines", () => text(run.log), run.log.length),
    ...part("Facts", () => pairs([["folder", run.folder], ...run.facts]), true),
    ...part("Config", () => text(run.config), run.config.length));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

function follow() {
  const found = /^#run-(\d+)$/.exec(location.hash);
  const run = found && data.runs[Number(found[1])];
  if (run) show(run);
  else if (dialog.open) dialog.close();
}

function leave() {
  if (/^#run-/.test(location.hash)) history.replaceState(null, "", location.pathname + location.search);
}

document.getElementById("run-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", leave);
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
addEventListener("hashchange", follow);
filterTables();
filterRuns();
follow();
