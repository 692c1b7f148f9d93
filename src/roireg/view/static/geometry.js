// The panel of an X-ray's geometry: entries of its camera file, each of which is seen at once.

import { call, download } from "./api.js";

const byId = (id) => document.getElementById(id);
const POSITION = ["primary_deg", "secondary_deg", "roll_deg", "source_to_isocenter_mm"];
const round = (value) => Number(Number(value).toFixed(6));

export class GeometryPanel {
  constructor(page) {
    this.page = page;
    this.form = byId("geometry");
    this.form.onsubmit = (event) => event.preventDefault();
    this.form.onchange = () => this.form.reportValidity() && this.apply(this.entered());
    byId("geometry-view").onchange = () => this.fill();
    byId("mirror").onclick = () => this.apply({ ...this.entered(), seen_from: this.entered().seen_from === "source" ? "detector" : "source" });
    byId("polarity").onclick = () => this.apply({ ...this.entered(), bone: this.entered().bone === "dark" ? "bright" : "dark" });
    byId("upside-down").onclick = () => this.upsideDown();
    byId("camera-file").onclick = () => page.try(() => download(`xrays/${this.number}/camera.yaml`, "camera.yaml"));
  }

  get number() {
    return Number(byId("geometry-view").value || 0);
  }

  show(state) {
    this.views = state.views;
    this.fill();
  }

  fill() {
    const view = this.views[this.number], fields = this.form.elements;
    for (const field of [...fields, ...document.querySelectorAll("#panel-geometry button")]) field.disabled = !view || !!view.geometry_fault;
    byId("geometry-fault").textContent = view ? [view.geometry_fault, ...view.warnings].filter(Boolean).join(" · ") : "";
    if (!view) return;
    const entries = view.geometry, spacing = [entries.pixel_spacing_mm].flat();
    const center = entries.principal_point_px;
    const values = {
      ...entries,
      spacing_row: spacing[0], spacing_column: spacing[1] ?? spacing[0],
      principal_column: center?.[0], principal_row: center?.[1],
      seen_from: entries.seen_from ?? "detector", crop_px: view.crop_px,
    };
    for (const field of fields) {
      if (field === document.activeElement && field.type === "number") continue;
      const value = values[field.name];
      field.value = value === undefined ? "" : typeof value === "number" ? round(value) : value;
    }
    for (const label of this.form.querySelectorAll(".position")) label.hidden = "rig_from_camera" in entries;
    byId("facts").replaceChildren(...view.facts.flatMap((fact) => {
      const [name, value] = [document.createElement("dt"), document.createElement("dd")];
      name.textContent = fact.name;
      value.textContent = `${fact.value} (${fact.source})`;
      return [name, value];
    }));
  }

  // The entries as the form has them; what it shows rounded and was not changed stays as it was.
  entered() {
    const own = this.views[this.number].geometry, fields = this.form.elements;
    const number = (name, before) => (fields[name].value === "" ? before : round(before) === Number(fields[name].value) ? before : Number(fields[name].value));
    const spacing = [own.pixel_spacing_mm].flat(), entries = { ...own };
    entries.source_to_detector_mm = number("source_to_detector_mm", own.source_to_detector_mm);
    entries.pixel_spacing_mm = [number("spacing_row", spacing[0]), number("spacing_column", spacing[1] ?? spacing[0])];
    const center = [number("principal_column", own.principal_point_px?.[0]), number("principal_row", own.principal_point_px?.[1])];
    if (center.every((one) => one !== undefined)) entries.principal_point_px = center;
    if (!("rig_from_camera" in own)) {
      for (const name of POSITION) {
        const value = number(name, own[name]);
        if (value !== undefined) entries[name] = value;
      }
    }
    for (const name of ["seen_from", "bone", "intensity"]) entries[name] = fields[name].value;
    return entries;
  }

  // Half a turn of the camera about its central ray.
  upsideDown() {
    const entries = this.entered();
    if ("rig_from_camera" in entries) {
      entries.rig_from_camera = entries.rig_from_camera.map(([x, y, z, t]) => [-x, -y, z, t]);
    } else {
      const roll = (entries.roll_deg ?? 0) + 180;
      entries.roll_deg = roll > 180 ? roll - 360 : roll;
    }
    this.apply(entries);
  }

  apply(entries) {
    const crop_px = Number(this.form.elements.crop_px.value || 0);
    return this.page.try(() => call("PUT", `xrays/${this.number}/geometry`, { entries, crop_px }));
  }
}
