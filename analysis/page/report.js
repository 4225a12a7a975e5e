"use strict";
// All text of the runs goes through textContent or an attribute: nothing of it becomes markup.
const CHUNK = 50; // runs that are packed together (report_runs.py)

// -- what is packed is unpacked when it is asked for
async function unpacked(element) {
  const bytes = Uint8Array.from(atob(element.textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

const chunks = new Map();

async function runNumber(number) {
  const at = Math.floor(number / CHUNK);
  const element = document.getElementById(`chunk-${at}`);
  if (!element) return undefined;
  if (!chunks.has(at)) chunks.set(at, unpacked(element).then(JSON.parse));
  const chunk = await chunks.get(at);
  const run = chunk.runs[number % CHUNK];
  return run && { ...run, number, lines: chunk.lines };
}

let small;
function thumbnail(number) {
  small = small || JSON.parse(document.getElementById("thumbnails").textContent);
  return small[number];
}

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
    if (!figure.dataset.metric) continue;
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

metric.addEventListener("change", filterTables);
tableFilter.addEventListener("input", filterTables);

// -- folded figures
async function unfold(details) {
  const packed = details.querySelector(":scope > .wide > script[data-packed]");
  if (!packed) return;
  const text = await unpacked(packed);
  const address = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  const image = make("img", { src: address, alt: details.querySelector("summary").textContent, width: details.dataset.width });
  packed.replaceWith(image);
}

document.addEventListener("toggle", (event) => {
  if (event.target.matches("details.figure") && event.target.open) unfold(event.target);
}, true);

// -- the list of runs: only what is looked at becomes elements
const STEP = 100;
const runFilter = document.getElementById("run-filter");
const selects = [...document.querySelectorAll("#run-filters select")];
const list = { columns: [], rows: [], order: [], shown: STEP, sorted: -1, sign: 1 };
const ticked = new Set();

function chosenRows() {
  const wanted = words(runFilter);
  return list.order.filter((number) => {
    const row = list.rows[number];
    return selects.every((s) => !s.value || String(row[Number(s.dataset.column)]) === s.value)
      && has(row.filter((_, column) => list.columns[column][1] === null).join(" "), wanted);
  });
}

// on a phone the words of a run stand below its method, so that its numbers come first
function listRow(number) {
  const row = list.rows[number];
  const box = make("input", { type: "checkbox", "aria-label": `compare run ${number}` });
  box.checked = ticked.has(number);
  box.addEventListener("change", () => tick(number, box.checked));
  const place = row[2] === "all" ? row[1] : `${row[1]} ${row[2]}`;
  const words = make("small", { class: "narrow" }, `${place}, ${row[3]} ${row[3] === 1 ? "shot" : "shots"}, seed ${row[4]}`);
  const cells = row.map((value, column) => {
    if (column === 0) return make("th", { scope: "row" }, box, " ", make("a", { href: `#run-${number}` }, value), words);
    const [name, digits] = list.columns[column];
    if (digits !== null) return make("td", { class: "n" }, value === null ? "–" : value.toFixed(digits));
    return make("td", { class: name === "setting" ? "setting" : typeof value === "number" ? "word n" : "word" }, value);
  });
  return make("tr", { "data-n": number }, ...cells);
}

function showRuns() {
  const rows = chosenRows();
  const table = document.getElementById("runs-table");
  table.tBodies[0].replaceChildren(...rows.slice(0, list.shown).map(listRow));
  document.getElementById("run-count").textContent = `${rows.length} of ${list.rows.length} runs`;
  const more = document.getElementById("run-more");
  more.hidden = rows.length <= list.shown;
  more.textContent = `Show ${Math.min(STEP, rows.length - list.shown)} more`;
}

function sortRuns(column) {
  const numbers = list.rows.some((row) => typeof row[column] === "number");
  list.sign = list.sorted === column ? -list.sign : numbers ? -1 : 1;
  list.sorted = column;
  const at = (number) => list.rows[number][column];
  list.order.sort((a, b) => {
    const [x, y] = [at(a), at(b)];
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    return list.sign * (numbers ? x - y : collator.compare(x, y)) || a - b;
  });
  [...document.querySelectorAll("#runs-table thead th")].forEach((heading, number) => {
    heading.setAttribute("aria-sort", number !== column ? "none" : list.sign > 0 ? "ascending" : "descending");
  });
  showRuns();
}

function refilter() {
  list.shown = STEP;
  showRuns();
}

async function startList() {
  Object.assign(list, JSON.parse(await unpacked(document.getElementById("rows"))));
  list.order = list.rows.map((_, number) => number);
  const headings = list.columns.map(([name, digits], column) => {
    const button = make("button", { type: "button" }, name);
    button.addEventListener("click", () => sortRuns(column));
    const kind = digits !== null ? "n" : column && name !== "setting" ? "word" : "";
    return make("th", { scope: "col", "aria-sort": "none", class: kind }, button);
  });
  document.querySelector("#runs-table thead").replaceChildren(make("tr", {}, ...headings));
  showRuns();
}

runFilter.addEventListener("input", refilter);
for (const select of selects) select.addEventListener("change", refilter);
document.getElementById("run-more").addEventListener("click", () => {
  list.shown += STEP;
  showRuns();
});
document.addEventListener("click", (event) => {
  const cell = event.target.closest("button.find");
  if (!cell) return;
  runFilter.value = cell.dataset.find;
  for (const select of selects) select.value = "";
  refilter();
  document.getElementById("runs").scrollIntoView();
});

// -- two runs side by side
function tick(number, on) {
  if (on) ticked.add(number);
  else ticked.delete(number);
  if (ticked.size > 2) ticked.delete([...ticked][0]);
  for (const row of document.querySelectorAll("#runs-table tbody tr")) row.querySelector("input").checked = ticked.has(Number(row.dataset.n));
  const names = [...ticked].map((n) => `${list.rows[n][0]} ${list.rows[n][1]} ${list.rows[n][2]} ${list.rows[n][3]}, seed ${list.rows[n][4]}`);
  document.getElementById("chosen").hidden = !ticked.size;
  document.getElementById("chosen-text").textContent = names.join("  against  ") + (ticked.size === 1 ? ": tick another run" : "");
  document.getElementById("compare").hidden = ticked.size < 2;
}

document.getElementById("forget").addEventListener("click", () => {
  for (const number of [...ticked]) tick(number, false);
});
document.getElementById("compare").addEventListener("click", () => {
  location.hash = `#compare-${[...ticked].join("-")}`;
});

// a config's lines as dotted keys; a list's items belong to the key above them
function settings(run) {
  const found = {};
  const path = [];
  for (const line of run.config.map((n) => run.lines[n])) {
    const parts = /^(\s*)([^\s:#-][^:]*):\s*(.*)$/.exec(line);
    if (!parts) {
      const key = path.map(([, name]) => name).join(".");
      if (key && line.trim()) found[key] = `${found[key] || ""} ${line.trim()}`.trim();
      continue;
    }
    while (path.length && path[path.length - 1][0] >= parts[1].length) path.pop();
    path.push([parts[1].length, parts[2]]);
    if (parts[3]) found[path.map(([, name]) => name).join(".")] = parts[3];
  }
  return found;
}

function differing(a, b) {
  const [one, two] = [settings(a), settings(b)];
  const keys = [...new Set([...Object.keys(one), ...Object.keys(two)])].filter((key) => one[key] !== two[key] && key !== "OUTPUT_DIR").sort();
  const facts = [Object.fromEntries(a.facts), Object.fromEntries(b.facts)];
  const own = ["method", "backbone", "dataset", "split", "num_shots", "seed", "variant", "device", "git"];
  const rows = [...own.filter((key) => facts[0][key] !== facts[1][key]).map((key) => [key, facts[0][key], facts[1][key]]),
    ...keys.map((key) => [key, one[key], two[key]])];
  return rows.map(([key, x, y]) => make("tr", {}, make("th", { scope: "row" }, key), make("td", {}, x ?? "–"), make("td", {}, y ?? "–")));
}

function beside(a, b) {
  const other = new Map((b.metrics || []).map(([name, value]) => [name, value]));
  return (a.metrics || []).map(([name, value, unit, digits]) => {
    const second = other.get(name) ?? null;
    const gap = value === null || second === null ? "–" : (value - second > 0 ? "+" : "") + (value - second).toFixed(digits);
    return make("tr", {}, make("th", { scope: "row" }, name + (unit && ` (${unit})`)), ...[value, second].map((v) => make("td", { class: "n" }, shown(v, digits))),
      make("td", { class: "n" }, gap));
  });
}

async function showTwo(first, second) {
  const [a, b] = [await runNumber(first), await runNumber(second)];
  if (!a || !b) return;
  const quoted = [a, b].map((run) => `'${run.folder.replaceAll("'", "'\\''")}'`).join(" ");
  const rows = differing(a, b);
  const table = rows.length ? [grid(["setting", "A", "B"], rows, "settings")] : [make("p", {}, "none")];
  document.getElementById("run-body").replaceChildren(
    make("h2", { id: "run-title" }, "Two runs"),
    pairs([["A", title(a)], ["B", title(b)]]),
    make("h3", {}, "Metrics"), grid(["metric", "A", "B", "A − B"], beside(a, b)),
    make("h3", {}, "What is set otherwise"), ...table,
    make("h3", {}, "Image by image"),
    make("p", {}, "Where the two disagree, with the images, is told by"),
    make("pre", { tabindex: "0" }, `python -m analysis.compare_runs ${quoted} -o two.html --thumbnails 50`));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

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
  return make("ul", { class: "hard" }, ...run.hardest.map(([path, truth, predicted, p, q, picture]) => {
    const image = picture < 0 ? make("span", { class: "none" }, "no thumbnail")
      : make("img", { src: thumbnail(picture), alt: path, loading: "lazy" });
    const told = truth === predicted ? `${truth} (${(100 * p).toFixed(1)} %)`
      : `${truth} (${(100 * p).toFixed(1)} %), taken for ${predicted} (${(100 * q).toFixed(1)} %)`;
    return make("li", {}, image, make("div", {}, told), make("code", {}, path));
  }));
}

function text(run, numbers) {
  return make("pre", { tabindex: "0" }, numbers.map((n) => run.lines[n]).join("\n"));
}

function part(title, content, there) {
  return there ? [make("section", {}, make("h3", {}, title), content())] : [];
}

function title(run) {
  const facts = Object.fromEntries(run.facts);
  if (!facts.method) return run.folder;
  const split = facts.split === "all" ? "" : ` ${facts.split} classes,`;
  return `${facts.method}, ${facts.dataset},${split} ${facts.num_shots} ${facts.num_shots === "1" ? "shot" : "shots"}, seed ${facts.seed}`;
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
    ...part("Log, last lines", () => text(run, run.log), run.log.length),
    ...part("Facts", () => pairs([["folder", run.folder], ...run.facts]), true),
    ...part("Config", () => text(run, run.config), run.config.length));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

async function follow() {
  const two = /^#compare-(\d+)-(\d+)$/.exec(location.hash);
  if (two) return showTwo(Number(two[1]), Number(two[2]));
  const found = /^#run-(\d+)$/.exec(location.hash);
  const run = found && await runNumber(Number(found[1]));
  if (run) show(run);
  else if (dialog.open) dialog.close();
}

function leave() {
  if (/^#(run|compare)-/.test(location.hash)) history.replaceState(null, "", location.pathname + location.search);
}

document.getElementById("run-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", leave);
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
addEventListener("hashchange", follow);
filterTables();
const ready = typeof DecompressionStream === "undefined"
  ? Promise.reject(new Error("this browser cannot unpack the page's parts: a newer one can"))
  : Promise.all([startList(), follow()]);
ready.catch((error) => { document.getElementById("run-count").textContent = String(error.message); });
