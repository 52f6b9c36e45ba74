"use strict";

// Tables: a click on a column's head sorts by it, a second one the other way round.
function valueOf(row, column) {
  const cell = row.cells[column];
  return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", {numeric: true});
}

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      // Figures begin with the largest, names with A.
      const first = head.classList.contains("number") ? "descending" : "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      const order = before === first ? second : first;
      const sign = order === "ascending" ? 1 : -1;
      const body = table.tBodies[0];
      const empty = row => row.cells[column].textContent.trim() === "";
      const rows = [...body.rows].sort((a, b) =>
        empty(a) - empty(b) || sign * compare(valueOf(a, column), valueOf(b, column)));
      body.append(...rows);
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
    });
  });
}

// Charts: each is drawn when it comes near the window, so that a long page opens at once.
const views = new Map();

// Bokeh's script lies here as text until the page is there: to read it takes half a second.
function loadLibrary() {
  const script = document.createElement("script");
  script.textContent = document.getElementById("library").textContent;
  document.head.append(script);
}

function draw(place) {
  if (views.has(place.id)) return;
  if (!window.Bokeh) loadLibrary();
  const source = document.querySelector(`script[data-place="${place.id}"]`);
  views.set(place.id, Bokeh.embed.embed_item(JSON.parse(source.textContent), place.id));
}

const watcher = new IntersectionObserver(entries => {
  for (const entry of entries) {
    if (entry.isIntersecting) {
      watcher.unobserve(entry.target);
      draw(entry.target);
    }
  }
}, {rootMargin: "400px"});
addEventListener("load", () => {
  document.querySelectorAll(".plot").forEach(place => watcher.observe(place));
});

for (const button of document.querySelectorAll(".key button")) {
  button.addEventListener("click", async () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(shown));
    const {roots} = await views.get(button.dataset.place);
    for (const model of roots[0].model.references()) {
      if (model.name === button.dataset.model) model.visible = shown;
    }
  });
}
