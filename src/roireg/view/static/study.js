// The panel of a workflow's results: its X-rays, worst first; one of them is shown.

import { call } from "./api.js";

const byId = (id) => document.getElementById(id);
const MARKS = { trusted: "✓", check: "!", failed: "✕" };

export class StudyPanel {
  constructor(page) {
    this.page = page;
    byId("row-before").onclick = () => this.step(this.place - 1);
    byId("row-after").onclick = () => this.step(this.place + 1);
  }

  step(place) {
    return this.page.try(() => call("POST", `rows/${place}`));
  }

  show(state) {
    const study = state.study;
    byId("tab-study").hidden = study === null;
    byId("tab-files").hidden = study !== null;
    if (study === null) return;
    this.place = study.place;
    const running = Boolean(state.job?.running);
    byId("study-name").textContent = `${study.name}: X-ray ${study.place + 1} of ${study.rows.length}`;
    byId("row-before").disabled = running || study.place === 0;
    byId("row-after").disabled = running || study.place === study.rows.length - 1;
    byId("rows").replaceChildren(...study.rows.map((row, place) => this.entry(row, place, running)));
    if (!this.opened) this.page.open("study");
    this.opened = true;
  }

  entry(row, place, running) {
    const item = document.createElement("li"), button = document.createElement("button");
    const error = row.mpd_mm === null ? "no result" : `${row.mpd_mm.toFixed(2)} mm`;
    button.textContent = `${MARKS[row.grade] ?? ""} ${row.name}: ${error}${row.grade ? `, ${row.grade}` : ""}`;
    button.disabled = running;
    button.onclick = () => this.step(place);
    if (place === this.place) button.setAttribute("aria-current", "true");
    item.className = row.grade;
    item.append(button);
    return item;
  }
}
