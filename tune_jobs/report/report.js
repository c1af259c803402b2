"use strict";
// The page's own script: draws the figures in the page's colours, sorts and filters the table, and shows which
// trial a point belongs to. Everything that it shows is in the page.

const byId = (id) => document.getElementById(id);
const embedded = (id) => JSON.parse(byId(id).textContent);

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** What a figure takes from the page: the colours of its text and of what floats above it. */
function pageColours(layout) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const changes = {
    "font.color": colour("--text"),
    "hoverlabel.bgcolor": colour("--card"),
    "hoverlabel.bordercolor": colour("--line"),
    "hoverlabel.font.color": colour("--text"),
    "modebar.color": colour("--soft"),
    "modebar.activecolor": colour("--accent"),
    "modebar.bgcolor": "rgba(0,0,0,0)",
  };
  for (const axis of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
    changes[`${axis}.linecolor`] = colour("--line");
  }
  return changes;
}

/** The library is packed in the page; unpacked, it is a script like any other. */
async function loadPlotly() {
  const packed = Uint8Array.from(atob(byId("plotly").textContent), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
}

const CONFIG = {
  responsive: true, displaylogo: false, displayModeBar: "hover",
  modeBarButtons: [["toImage", "resetScale2d"]], toImageButtonOptions: { scale: 2 },
};

async function draw(holder) {
  const figure = embedded(`${holder.id}-data`);
  const switches = (figure.layout.updatemenus || []).flatMap((menu) => menu.buttons);
  delete figure.layout.updatemenus;
  const plain = figure.data.some((trace) => trace.type === "parcoords");
  await Plotly.newPlot(holder, figure.data, figure.layout, plain ? { ...CONFIG, displayModeBar: false } : CONFIG);
  await Plotly.relayout(holder, pageColours(holder.layout));
  addSwitches(holder, switches);
  holder.on("plotly_hover", (event) => showTrial(holder, event.points[0]));
  holder.on("plotly_click", (event) => {
    const number = trialOf(event.points[0]);
    if (number !== null) markTrial(number, true);
  });
}

/** Plotly's own buttons keep their colours in the dark: the page has its own in their place. */
function addSwitches(holder, switches) {
  if (!switches.length) return;
  const row = document.createElement("div");
  row.className = "switch";
  switches.forEach((choice, place) => {
    const button = document.createElement("button");
    button.textContent = choice.label;
    button.setAttribute("aria-pressed", String(place === 0));
    button.addEventListener("click", () => {
      for (const other of row.children) other.setAttribute("aria-pressed", String(other === button));
      const [data, layout] = choice.args;
      if (choice.method === "relayout") Plotly.relayout(holder, data);
      else Plotly.update(holder, data || {}, layout || {});
    });
    row.append(button);
  });
  holder.parentElement.before(row);
}

function trialOf(point) {
  const given = Array.isArray(point.customdata) ? point.customdata[0] : point.customdata;
  return Number.isInteger(given) ? given : null;
}

const rowOf = (number) => byId(`trial-${number}`);

function showTrial(holder, point) {
  const number = trialOf(point);
  const line = holder.parentElement.parentElement.querySelector(".chosen");
  if (number === null || !line || !rowOf(number)) return;
  const row = rowOf(number);
  line.textContent = `trial ${row.cells[0].textContent.trim()}, ${row.dataset.state}: ${row.dataset.configuration}`;
}

/** Marks a trial in the table and draws its learning curve on top of the others. */
function markTrial(number, scroll) {
  document.querySelectorAll("#trials-table tr.marked").forEach((row) => row.classList.remove("marked"));
  const row = rowOf(number);
  if (!row) return;
  row.classList.add("marked");
  if (scroll) {
    row.hidden = false;
    row.scrollIntoView({ block: "center" });
  }
  const curves = byId("learning-curves");
  if (!curves || !curves.data) return;
  const x = [], y = [];
  for (const trace of curves.data) {
    if (trace.name === "chosen" || trace.name === "winner, training rows") continue;
    (trace.customdata || []).forEach((own, place) => {
      if (own === number) { x.push(trace.x[place]); y.push(trace.y[place]); }
    });
  }
  const text = getComputedStyle(document.documentElement).getPropertyValue("--text").trim();
  const old = curves.data.findIndex((trace) => trace.name === "chosen");
  if (old >= 0) Plotly.deleteTraces(curves, old);
  Plotly.addTraces(curves, {
    x, y, name: "chosen", mode: x.length > 1 ? "lines" : "markers", line: { color: text, width: 2.5 },
    marker: { color: text, size: 9 }, hovertemplate: `trial ${number}, epoch %{x}: %{y:.5g}<extra></extra>`,
    customdata: x.map(() => number), showlegend: false,
  });
}

function tableTools() {
  const table = byId("trials-table"), body = table.tBodies[0], search = byId("search"), state = byId("state");
  const heads = [...table.tHead.rows[0].cells];
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase() + " " + row.dataset.configuration.toLowerCase();
      row.hidden = !(words.every((word) => text.includes(word)) && (!state.value || row.dataset.state === state.value));
      shown += !row.hidden;
    }
    byId("shown").textContent = `${shown} of ${body.rows.length}`;
  };
  const sort = (place) => {
    const head = heads[place], rising = head.getAttribute("aria-sort") !== "ascending";
    const numeric = head.classList.contains("number"), sign = rising ? 1 : -1;
    const key = (row) => row.cells[place].dataset.key;
    const rows = [...body.rows].sort((a, b) => {
      const [left, right] = [key(a), key(b)];
      if (left === "" || right === "") return (left === "") - (right === "");  // empty cells come last
      return sign * (numeric ? Number(left) - Number(right) : left.localeCompare(right, undefined, { numeric: true }));
    });
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    body.append(...rows);
  };
  heads.forEach((head, place) => head.firstElementChild.addEventListener("click", () => sort(place)));
  search.addEventListener("input", filter);
  state.addEventListener("change", filter);
  body.addEventListener("click", (event) => markTrial(Number(event.target.closest("tr").dataset.number), false));
  filter();
}

function themeButton(figures) {
  byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    for (const holder of figures) Plotly.relayout(holder, pageColours(holder.layout));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const holder of figures) Plotly.relayout(holder, pageColours(holder.layout));
  });
}

async function main() {
  if (byId("trials-table")) tableTools();
  const figures = [...document.querySelectorAll(".figure")];
  if (typeof DecompressionStream === "undefined") {
    figures.forEach((holder) => { holder.textContent = "Figures need a browser of 2023 or later."; });
    return;
  }
  await loadPlotly();
  for (const holder of figures) await draw(holder);
  themeButton(figures);
  document.documentElement.dataset.drawn = String(figures.length);
}

main();
