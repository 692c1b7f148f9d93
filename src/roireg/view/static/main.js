// The page: tiles of X-rays, tools, panels, and the stream that joins them with the server.

import { call, download, Fault, upload } from "./api.js";
import { table } from "./compose.js";
import { FoundPanel } from "./found.js";
import { GeometryPanel } from "./geometry.js";
import { PointsPanel } from "./points.js";
import { Scene } from "./scene.js";
import { Stream } from "./stream.js";
import { StudyPanel } from "./study.js";
import { Tile } from "./tile.js";

const byId = (id) => document.getElementById(id);
const FLICKER_MS = 400;
const tiles = [];
const shown = { drrTurn: false, alone: false };
let state = { ct: null, views: [], found: [], points: [], exclude: [], job: null, study: null };

function complain(text) {
  byId("error").hidden = !text;
  byId("error").firstElementChild.textContent = text;
}

const page = {
  how: () => ({
    ...shown,
    mode: document.querySelector("[name=mode]:checked").value,
    blend: Number(byId("blend").value) / 100,
    edges: byId("edges").checked,
    covered: byId("covered").checked,
    outlines: byId("outlines").checked,
    xrayTable: table(Number(byId("xray-level").value), Number(byId("xray-width").value)),
    drrTable: table(Number(byId("drr-level").value), Number(byId("drr-width").value)),
  }),
  marking: () => byId("tab-points").getAttribute("aria-selected") === "true",
  move: (message) => state.ct && page.stream.send(message),
  clicked: (view, pixel) => {
    if (page.marking()) points.clickedXray(view, pixel);
    else if (state.ct) page.stream.send({ type: "pivot", view, pixel });
  },
  open: (name) => open(byId(`tab-${name}`)),
  close: (view) => page.try(() => call("DELETE", `xrays/${view}`)),
  marks: (of) => tiles.forEach((tile) => {
    tile.marks = page.marking() ? of(tile.view) : [];
    tile.drawMarks();
  }),
  // Does something that may fail, and says so in words.
  try: async (action) => {
    document.body.setAttribute("aria-busy", "true");
    try {
      const result = await action();
      complain("");
      return result ?? true;
    } catch (error) {
      complain(error instanceof Fault ? error.message : `the page has a fault: ${error.message}`);
      return null;
    } finally {
      document.body.removeAttribute("aria-busy");
    }
  },
};

const found = new FoundPanel(page), geometry = new GeometryPanel(page), points = new PointsPanel(page), study = new StudyPanel(page);
const scene = new Scene(page);

function options(select, views) {
  const names = views.map((view, number) => `${number + 1}: ${view.name}`);
  if (JSON.stringify(names) === select.dataset.names) return;
  const before = select.value;
  select.dataset.names = JSON.stringify(names);
  select.replaceChildren(...names.map((name, number) => new Option(name, number)));
  if (Number(before) < names.length && before !== "") select.value = before;
}

page.stream = new Stream({
  state: (message) => {
    state = message;
    byId("opened").textContent = [state.ct?.name ?? "no CT", ...state.views.map((view) => view.name)].join("  ·  ");
    byId("empty").hidden = state.views.length > 0;
    byId("tiles").hidden = state.views.length === 0;
    while (tiles.length > state.views.length) tiles.pop().element.remove();
    state.views.forEach((view, number) => {
      if (!tiles[number]) {
        tiles[number] = new Tile(number, page);
        byId("tiles").append(tiles[number].element);
      }
      tiles[number].describe(view);
      tiles[number].element.querySelector(".title button").hidden = state.study !== null;
    });
    for (const id of ["pose-view", "geometry-view"]) options(byId(id), state.views);
    const facts = state.ct ? { ...state.ct.facts, ...Object.fromEntries(state.ct.warnings.map((one) => ["note", one])) } : {};
    byId("ct-facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => {
      const [term, told] = [document.createElement("dt"), document.createElement("dd")];
      [term.textContent, told.textContent] = [name, value];
      return [term, told];
    }));
    byId("outlines").disabled = !state.ct?.labels.length;
    for (const panel of [found, geometry, points, study, scene]) panel.show(state);
  },
  pose: (message) => {
    page.pose = message;
    byId("undo").disabled = !message.undo;
    byId("redo").disabled = !message.redo;
    tiles.forEach((tile, number) => tile.pose(message.views[number]));
    byId("truth").textContent = message.truth_mm === null ? "" : `${message.truth_mm.toFixed(2)} mm from the true pose (mpd)`;
    fillNumbers();
    scene.pose(message.views);
  },
  plane: (plane) => {
    tiles[plane.view]?.take(plane);
    if (plane.kind === "xray") scene.picture(plane);
  },
  error: (message) => complain(message.text),
  lost: () => complain("the connection to the server is lost. Is `roireg view` still running? Reload the page"),
  speed: (rate, delay) => (byId("speed").textContent = `${rate} images/s, ${Math.round(delay)} ms`),
});

function fillNumbers() {
  const numbers = page.pose?.views[Number(byId("pose-view").value || 0)]?.numbers;
  for (const field of byId("numbers").elements) {
    if (!field.name || field === document.activeElement) continue;
    field.value = numbers ? Number(numbers[field.name].toFixed(3)) : "";
  }
}

byId("pose-view").onchange = fillNumbers;
byId("numbers").onsubmit = (event) => {
  event.preventDefault();
  const view = Number(byId("pose-view").value || 0);
  const numbers = Object.fromEntries([...new FormData(event.target)].map(([name, value]) => [name, Number(value)]));
  document.activeElement.blur();
  page.stream.send({ type: "numbers", view, ...numbers });
};
byId("presets").onclick = (event) => {
  if (event.target.value) page.stream.send({ type: "preset", view: Number(byId("pose-view").value || 0), name: event.target.value });
};
byId("pivot").onclick = () => page.stream.send({ type: "pivot", view: 0, pixel: null });
for (const type of ["undo", "redo"]) byId(type).onclick = () => page.stream.send({ type });

// Tools
const redraw = () => tiles.forEach((tile) => tile.draw());
byId("tools").oninput = redraw;
for (const id of ["covered", "outlines"]) {
  byId(id).onchange = () => page.stream.tell({ type: "planes", covered: byId("covered").checked, outlines: byId("outlines").checked });
}
byId("window-reset").onclick = () => {
  for (const id of ["xray-level", "drr-level"]) byId(id).value = 50;
  for (const id of ["xray-width", "drr-width"]) byId(id).value = 100;
  redraw();
};
setInterval(() => {
  if (page.how().mode !== "flicker") return;
  shown.drrTurn = !shown.drrTurn;
  redraw();
}, FLICKER_MS);

// Files
byId("open-ct").onsubmit = (event) => {
  event.preventDefault();
  const form = event.target.elements;
  page.try(async () => {
    const labels = form.labels.files.length ? await upload(form.labels.files) : null;
    await call("POST", "ct", { group: await upload(form.ct.files), labels });
  });
};
byId("open-xray").onsubmit = (event) => {
  event.preventDefault();
  const form = event.target.elements;
  page.try(async () => {
    const camera = form.camera.files.length ? await upload(form.camera.files) : null;
    await call("POST", "xrays", { group: await upload(form.xray.files), camera });
  });
};
for (const [id, path] of [["open-pose", "pose"], ["open-session", "session"]]) {
  byId(id).onchange = async (event) => {
    await page.try(async () => call("POST", path, { group: await upload(event.target.files) }));
    event.target.value = "";
  };
}
byId("save-session").onclick = () => page.try(() => download("session.json", "session.json"));

// Tabs, by the keyboard too
const tabs = [...document.querySelectorAll("[role=tab]")];
function open(tab) {
  for (const one of tabs) {
    one.setAttribute("aria-selected", one === tab);
    one.tabIndex = one === tab ? 0 : -1;
    byId(one.getAttribute("aria-controls")).hidden = one !== tab;
  }
  document.body.classList.toggle("marking", page.marking());
  if (page.marking()) points.opened();
  scene.opened(tab.id === "tab-scene");
  points.list();
}
for (const tab of tabs) {
  tab.onclick = () => open(tab);
  tab.onkeydown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const there = tabs.filter((one) => !one.hidden);
    const next = there[(there.indexOf(tab) + step + there.length) % there.length];
    next.focus();
    open(next);
  };
}

// Keys of the whole page
const typing = () => /^(INPUT|SELECT|TEXTAREA|BUTTON|SUMMARY)$/.test(document.activeElement.tagName);
document.onkeydown = (event) => {
  if ((event.ctrlKey || event.metaKey) && ["z", "y"].includes(event.key.toLowerCase())) {
    const redo = event.key.toLowerCase() === "y" || event.shiftKey;
    event.preventDefault();
    page.stream.send({ type: redo ? "redo" : "undo" });
  } else if (!typing() && ["1", "2", "3"].includes(event.key)) {
    document.querySelectorAll("[name=mode]")[Number(event.key) - 1].checked = true;
    redraw();
  } else if (!typing() && event.key.toLowerCase() === "x") {
    byId("edges").checked = !byId("edges").checked;
    redraw();
  } else if (!typing() && event.key === " ") {
    event.preventDefault();
    shown.alone = true;
    redraw();
  }
};
document.onkeyup = (event) => {
  if (event.key !== " " || !shown.alone) return;
  shown.alone = false;
  redraw();
};
byId("keys").onclick = () => {
  byId("help").hidden = !byId("help").hidden;
  byId("keys").setAttribute("aria-expanded", !byId("help").hidden);
};
byId("error").querySelector("button").onclick = () => complain("");
found.show(state);
