"use strict";
const { entries, images } = JSON.parse(document.getElementById("data").textContent);
const body = document.querySelector("#xrays tbody");
const state = { key: "mpd_mm", descending: true, method: "", pose: "end" };
const SUCCESS_MM = 1;

function value(entry, key) {
  if (key === "label") return entry.label;
  if (key === "name") return `${entry.specimen}/${entry.projection}`;
  return entry.measures[key] ?? Infinity; // an undefined number sorts as the worst
}

function compare(a, b) {
  const [x, y] = [value(a, state.key), value(b, state.key)];
  const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x === y ? 0 : x - y;
  return state.descending ? -order : order;
}

function cell(row, text, kind) {
  const made = row.insertCell();
  made.textContent = text;
  if (kind) made.className = kind;
}

function picture(parent, key, alt, kind) {
  const made = document.createElement("img");
  made.loading = "lazy";
  made.src = images[key];
  made.alt = alt;
  if (kind) made.className = kind;
  parent.append(made);
}

function show() {
  const shown = entries.filter((entry) => !state.method || entry.method === state.method).sort(compare);
  body.replaceChildren();
  for (const entry of shown) {
    const row = body.insertRow();
    const number = (key, digits) => entry.measures[key]?.toFixed(digits) ?? "–";
    if (value(entry, "mpd_mm") >= SUCCESS_MM) row.className = "failed";
    cell(row, entry.label);
    cell(row, value(entry, "name"));
    cell(row, number("init_mpd_mm", 1));
    cell(row, number("mpd_mm", 2), "error");
    cell(row, number("tre_mm", 2));
    cell(row, number("rotation_deg", 2));
    cell(row, number("seconds", 1));
    const blend = document.createElement("div");
    blend.className = "blend";
    picture(blend, entry.xray, "X-ray");
    picture(blend, entry[state.pose], `DRR at the ${state.pose}`, "drr");
    row.insertCell().append(blend);
    for (const key of ["xray", "start", "end", "truth"]) picture(row.insertCell(), entry[key], key);
  }
  document.getElementById("count").textContent = `${shown.length} of ${entries.length}`;
  for (const head of document.querySelectorAll("#xrays th[data-key]")) {
    if (head.dataset.key !== state.key) head.removeAttribute("aria-sort");
    else head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
  }
}

for (const head of document.querySelectorAll("#xrays th[data-key]")) {
  head.querySelector("button").addEventListener("click", () => {
    state.descending = state.key === head.dataset.key ? !state.descending : false;
    state.key = head.dataset.key;
    show();
  });
}
document.getElementById("method").addEventListener("change", (event) => {
  state.method = event.target.value;
  show();
});
for (const radio of document.querySelectorAll("input[name=pose]")) {
  radio.addEventListener("change", () => {
    state.pose = radio.value;
    show();
  });
}
document.getElementById("blend").addEventListener("input", (event) => {
  document.documentElement.style.setProperty("--blend", event.target.value / 100);
  document.getElementById("share").textContent = `${event.target.value}%`;
});
show();
