// The panel of registrations: start, progress, and the list of poses with their verdicts.

import { call, download } from "./api.js";

const byId = (id) => document.getElementById(id);
const MARKS = { trusted: "✓", check: "!", failed: "✕" };
const KINDS = { search: "Searching", refine: "Refining", judge: "Judging" };

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

// The objective at each iterate.
function curve(values) {
  const known = values.filter((one) => one !== null);
  if (known.length < 2) return null;
  const low = Math.min(...known), high = Math.max(...known);
  const points = known.map((one, i) => `${(i * 100) / (known.length - 1)},${36 - ((one - low) * 34) / (high - low || 1)}`);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 38");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Objective, from ${known[0].toFixed(3)} to ${known.at(-1).toFixed(3)} in ${known.length - 1} steps`);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  for (const [key, value] of Object.entries({ points: points.join(" "), fill: "none", stroke: "#56b4e9", "stroke-width": "1.5", "vector-effect": "non-scaling-stroke" })) line.setAttribute(key, value);
  svg.append(line);
  return svg;
}

export class FoundPanel {
  constructor(page) {
    this.page = page;
    for (const kind of Object.keys(KINDS)) byId(kind).onclick = () => page.try(() => call("POST", "job", { kind }));
    byId("method").onchange = (event) => page.try(() => call("PUT", "method", { name: event.target.value }));
    byId("stop").onclick = () => page.try(() => call("DELETE", "job"));
  }

  show(state) {
    const job = state.job, ready = state.ct !== null && state.views.length > 0, running = Boolean(job?.running);
    for (const kind of Object.keys(KINDS)) byId(kind).disabled = !ready || running;
    byId("stop").disabled = !running || job.stopping;
    const text = !job ? "" : running ? `${KINDS[job.kind]} …${job.stopping ? " stops after this round" : ""}` : job.error || (job.lines.at(-1) === "stopped" ? "Stopped." : "Done.");
    if (byId("job").textContent !== text) byId("job").textContent = text;
    byId("job").classList.toggle("fault", Boolean(job?.error));
    byId("progress").replaceChildren(...(job?.lines ?? []).map((line) => element("li", line)));
    byId("found-none").hidden = state.found.length > 0;
    byId("found").replaceChildren(...state.found.map((one, number) => this.entry(one, number, state)).reverse());
    this.labels(state);
    this.methods(state);
  }

  // What refines: the search's own way, or a method of the configuration.
  methods(state) {
    const select = byId("method"), names = state.methods ?? [];
    if (select.options.length !== names.length + 1) {
      select.replaceChildren(new Option("Gauss-Newton, as the search", ""), ...names.map((name) => new Option(name, name)));
    }
    select.value = state.method ?? "";
  }

  entry(one, number, state) {
    const item = document.createElement("li");
    item.className = one.grade;
    const head = document.createElement("div");
    const grade = one.grade ? [element("span", `${MARKS[one.grade] ?? ""} ${one.grade}`, "grade"), " – "] : [];
    head.append(...grade, `${number + 1}: ${one.name}`);
    const reasons = document.createElement("ul");
    reasons.append(...one.reasons.map((reason) => element("li", reason)));
    const parts = one.ncc === null ? [] : [`NCC ${one.ncc.toFixed(2)}`];
    if (one.seconds) parts.push(`${one.seconds.toFixed(1)} s`);
    if (one.truth_mm !== null) parts.push(`${one.truth_mm.toFixed(2)} mm from the truth (mpd)`);
    const buttons = element("div", "", "row");
    const go = element("button", "Go to");
    go.onclick = () => this.page.stream.send({ type: "show", found: number });
    const get = element("button", "Download");
    get.onclick = () => this.page.try(() => download(`found/${number}/results.zip`, `roireg-${number + 1}.zip`));
    buttons.append(go, get);
    if (state.out) {
      const save = element("button", "Save");
      save.title = `to ${state.out}`;
      save.onclick = () => this.page.try(async () => {
        const { folders } = await call("POST", `found/${number}/save`);
        byId("job").textContent = `Saved to ${folders.join(", ")}`;
      });
      buttons.append(save);
    }
    for (const button of buttons.children) button.setAttribute("aria-label", `${button.textContent}, pose ${number + 1}`);
    item.append(head, reasons, element("div", parts.join(", "), "small"));
    const drawn = curve(one.objective);
    if (drawn) item.append(drawn);
    item.append(buttons);
    return item;
  }

  // Labels that are left out of a registration.
  labels(state) {
    const names = state.ct?.labels ?? [];
    byId("exclusion").hidden = names.length === 0;
    const key = JSON.stringify([names, state.exclude]);
    if (key === this.labelled) return;
    this.labelled = key;
    byId("labels").replaceChildren(...names.map((name) => {
      const label = element("label", ""), box = document.createElement("input");
      box.type = "checkbox";
      box.checked = state.exclude.includes(name);
      box.onchange = () => {
        const labels = box.checked ? [...state.exclude, name] : state.exclude.filter((one) => one !== name);
        this.page.try(() => call("PUT", "exclude", { labels }));
      };
      label.append(box, ` ${name}`);
      return label;
    }));
  }
}
