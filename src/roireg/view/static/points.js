// The panel of points: the same point in a slice of the CT and in X-rays, and the pose from them.

import { call, picture } from "./api.js";

const byId = (id) => document.getElementById(id);

export class PointsPanel {
  constructor(page) {
    this.page = page;
    this.pairs = [];
    this.residuals = [];
    this.current = 0;
    this.canvas = byId("ct-slice");
    byId("new-point").onclick = () => this.add();
    byId("solve").onclick = () => page.try(async () => {
      this.residuals = (await call("POST", "points/pose")).residuals;
      this.list();
    });
    byId("axis").onchange = () => this.middle();
    byId("slice").oninput = () => this.slice();
    this.canvas.onclick = (event) => this.clickedSlice(event);
    this.canvas.onwheel = (event) => {
      event.preventDefault();
      byId("slice").value = Number(byId("slice").value) + Math.sign(event.deltaY);
      this.slice();
    };
    this.canvas.onkeydown = (event) => {
      const step = { PageUp: -1, PageDown: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      byId("slice").value = Number(byId("slice").value) + step;
      this.slice();
    };
  }

  get axis() {
    return Number(byId("axis").value);
  }

  show(state) {
    const changed = state.ct?.name !== this.ct?.name || JSON.stringify(state.ct?.voxels) !== JSON.stringify(this.ct?.voxels);
    this.ct = state.ct;
    this.views = state.views;
    this.pairs = state.points.map((one) => ({ ct_mm: one.ct_mm, pixels: { ...one.pixels } }));
    this.current = Math.min(this.current, Math.max(this.pairs.length - 1, 0));
    if (changed) this.drawn = null;
    this.list();
  }

  opened() {
    if (this.ct && !this.drawn) this.middle();
  }

  // Columns and rows of a slice: the other two axes of the grid, the earlier one along the rows.
  axes() {
    return [0, 1, 2].filter((one) => one !== this.axis);
  }

  middle() {
    if (!this.ct) return;
    byId("slice").max = this.ct.voxels[this.axis] - 1;
    byId("slice").value = Math.floor(this.ct.voxels[this.axis] / 2);
    this.slice();
  }

  async slice() {
    if (!this.ct || this.loading) {
      this.again = Boolean(this.ct);
      return;
    }
    this.loading = true;
    const [axis, index] = [this.axis, Number(byId("slice").value)];
    await this.page.try(async () => {
      this.drawn = { axis, index, picture: await picture(`slices/${axis}/${index}`) };
      this.draw();
    });
    this.loading = false;
    if (this.again && (this.axis !== axis || Number(byId("slice").value) !== index)) this.slice();
    this.again = false;
  }

  // Whether columns and rows are drawn in reverse: left (or the back) is on the right, the back (or the feet) below.
  flips() {
    const m = this.ct.volume_from_voxel;
    return this.axes().map((axis, place) => {
      const along = [0, 1, 2].map((row) => m[row][axis]), main = along.indexOf(along.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a)));
      const wanted = place === 1 && main === 2 ? -1 : 1;
      return along[main] * wanted < 0;
    });
  }

  // Where voxel indices are in the canvas, as fractions of its sides; its own inverse up to the scaling.
  fraction(part, place) {
    return this.flips()[place] ? 1 - part : part;
  }

  draw() {
    if (!this.drawn) return;
    const [across, down] = this.axes(), bitmap = this.drawn.picture, context = this.canvas.getContext("2d");
    this.canvas.width = bitmap.width * 2;
    this.canvas.height = Math.round((bitmap.height * 2 * this.ct.spacing_mm[down]) / this.ct.spacing_mm[across]);
    context.save();
    const [mirrored, upended] = this.flips();
    context.translate(mirrored ? this.canvas.width : 0, upended ? this.canvas.height : 0);
    context.scale(mirrored ? -1 : 1, upended ? -1 : 1);
    context.drawImage(bitmap, 0, 0, this.canvas.width, this.canvas.height);
    context.restore();
    this.pairs.forEach((pair, number) => {
      if (!pair.ct_mm) return;
      const voxel = this.voxelOf(pair.ct_mm);
      if (Math.abs(voxel[this.axis] - this.drawn.index) > 1) return;
      const x = this.fraction((voxel[across] + 0.5) / this.ct.voxels[across], 0) * this.canvas.width;
      const y = this.fraction((voxel[down] + 0.5) / this.ct.voxels[down], 1) * this.canvas.height;
      context.strokeStyle = context.fillStyle = number === this.current ? "#f0e442" : "#e69f00";
      context.lineWidth = 2;
      context.beginPath();
      context.arc(x, y, 6, 0, 7);
      context.stroke();
      context.font = "600 16px system-ui, sans-serif";
      context.fillText(`${number + 1}`, x + 9, y - 7);
    });
  }

  // The grid's axes are those of a rotation times its spacing: the inverse is the transpose over the squares.
  voxelOf(point) {
    const m = this.ct.volume_from_voxel;
    return [0, 1, 2].map((axis) => [0, 1, 2].reduce((sum, row) => sum + m[row][axis] * (point[row] - m[row][3]), 0) / this.ct.spacing_mm[axis] ** 2);
  }

  clickedSlice(event) {
    if (!this.drawn) return;
    const box = this.canvas.getBoundingClientRect(), [across, down] = this.axes(), voxel = [0, 0, 0];
    voxel[this.axis] = this.drawn.index;
    voxel[across] = this.fraction((event.clientX - box.left) / box.width, 0) * this.ct.voxels[across] - 0.5;
    voxel[down] = this.fraction((event.clientY - box.top) / box.height, 1) * this.ct.voxels[down] - 0.5;
    const m = this.ct.volume_from_voxel;
    const point = m.slice(0, 3).map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]);
    if (!this.pairs.length) this.pairs.push({ ct_mm: null, pixels: {} });
    this.pairs[this.current].ct_mm = point;
    this.save();
  }

  clickedXray(view, pixel) {
    if (!this.pairs.length) this.pairs.push({ ct_mm: null, pixels: {} });
    this.pairs[this.current].pixels[view] = this.stored(view, pixel);
    this.save();
  }

  stored(view, [column, row]) {
    const m = this.views[view].stored_from_shown;
    return [m[0][0] * column + m[0][1] * row + m[0][2], m[1][1] * row + m[1][2]];
  }

  shown(view, [column, row]) {
    const m = this.views[view].stored_from_shown, y = (row - m[1][2]) / m[1][1];
    return [(column - m[0][2] - m[0][1] * y) / m[0][0], y];
  }

  add() {
    this.pairs.push({ ct_mm: null, pixels: {} });
    this.current = this.pairs.length - 1;
    this.save();
  }

  save() {
    this.residuals = [];
    return this.page.try(() => call("PUT", "points", { pairs: this.pairs }));
  }

  list() {
    byId("points").replaceChildren(...this.pairs.map((pair, number) => {
      const item = document.createElement("li"), name = document.createElement("b"), text = document.createElement("span");
      const remove = document.createElement("button");
      name.textContent = number + 1;
      const seen = Object.keys(pair.pixels).map((view) => {
        const residual = this.residuals.find((one) => one.point === number && one.view === Number(view));
        return `X-ray ${Number(view) + 1}${residual ? ` (${residual.px.toFixed(1)} px off)` : ""}`;
      });
      text.textContent = [pair.ct_mm ? "CT" : "no point in the CT yet", ...(seen.length ? seen : ["none in an X-ray yet"])].join(", ");
      remove.textContent = "✕";
      remove.setAttribute("aria-label", `Remove point ${number + 1}`);
      remove.onclick = (event) => {
        event.stopPropagation();
        this.pairs.splice(number, 1);
        this.current = Math.max(0, Math.min(this.current, this.pairs.length - 1));
        this.save();
      };
      item.setAttribute("aria-current", number === this.current);
      item.tabIndex = 0;
      item.onclick = item.onkeydown = (event) => {
        if (event.type === "keydown" && event.key !== "Enter") return;
        this.current = number;
        this.list();
      };
      item.append(name, text, remove);
      return item;
    }));
    this.draw();
    this.page.marks((view) => this.pairs.flatMap((pair, number) => (view in pair.pixels ? [{ pixel: this.shown(view, pair.pixels[view]), name: `${number + 1}`, current: number === this.current }] : [])));
  }
}
