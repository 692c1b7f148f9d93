// One X-ray with its DRR: draws them, and turns the hand's movements into messages.

import { composed, edgesOf, resampled } from "./compose.js";

const DEGREES_PER_PX = 0.3, MM_PER_NOTCH = 5, FINE = 0.1;
const KEY_PX = 5, KEY_DEG = 2, KEY_MM = 5;
const CLICK_PX = 4, SAME_GESTURE_MS = 500;
// What a key does: the kind of movement, and its amount in units of a step.
const KEYS = {
  ArrowLeft: ["shift", -1, 0, 0], ArrowRight: ["shift", 1, 0, 0], ArrowUp: ["shift", 0, -1, 0], ArrowDown: ["shift", 0, 1, 0],
  a: ["turn", -1, 0, 0], d: ["turn", 1, 0, 0], w: ["turn", 0, -1, 0], s: ["turn", 0, 1, 0],
  q: ["turn", 0, 0, -1], e: ["turn", 0, 0, 1], "+": ["deeper", -1, 0, 0], "-": ["deeper", 1, 0, 0],
};
const STEPS = { shift: KEY_PX, turn: KEY_DEG, deeper: KEY_MM };
let gestures = 0;

export class Tile {
  // `page` gives: how() to show, marking(), and does: move(message), clicked(view, pixel), close(view).
  constructor(view, page) {
    this.view = view;
    this.page = page;
    this.planes = {};
    this.cache = new Map();
    this.marks = [];
    this.element = document.createElement("div");
    this.element.className = "tile";
    this.element.innerHTML = `<div class="title"><span></span><button>Close</button></div>
      <div class="stage" tabindex="0" role="application"><canvas class="picture"></canvas><canvas class="overlay"></canvas>
      ${["left", "right", "top", "bottom"].map((side) => `<b class="side" data-side="${side}"></b>`).join("")}</div>`;
    this.stage = this.element.querySelector(".stage");
    this.picture = this.element.querySelector(".picture");
    this.overlay = this.element.querySelector(".overlay");
    this.element.querySelector("button").onclick = () => page.close(this.view);
    this.listen();
    new ResizeObserver(() => this.place()).observe(this.stage);
  }

  describe(entries) {
    this.entries = entries;
    this.element.querySelector(".title span").textContent = entries.name;
    this.element.querySelector(".title button").setAttribute("aria-label", `Close ${entries.name}`);
    this.stage.setAttribute("aria-label", `X-ray ${entries.name}: move the patient with arrow keys, turn them with A D W S Q E`);
    this.place();
  }

  take(plane) {
    if (plane.kind === "xray") this.planes = {};
    // What lies over a pose is not that of the next one.
    if (plane.kind === "drr" && !plane.full) delete this.planes.outlines, delete this.planes.covered;
    this.planes[plane.kind] = plane;
    this.cache.clear();
    this.draw();
  }

  // A layer at the size of the picture, remembered until a plane changes.
  layer(kind, width, height) {
    if (!this.planes[kind]) return null;
    const key = `${kind} ${width}`;
    if (!this.cache.has(key)) this.cache.set(key, resampled(this.planes[kind], width, height));
    return this.cache.get(key);
  }

  draw() {
    const { xray, drr } = this.planes;
    if (!xray) return;
    const { width, height } = drr ?? xray, how = this.page.how();
    const small = `${width}x${height}`;
    if (this.small?.key !== small || this.small.of !== xray) {
      this.small = { key: small, of: xray, pixels: resampled(xray, width, height) };
    }
    if (how.edges && drr && !this.cache.has("edges")) this.cache.set("edges", edgesOf(drr.pixels, width, height));
    const layers = {
      xray: this.small.pixels,
      drr: drr ? drr.pixels : null,
      edges: how.edges && drr ? this.cache.get("edges") : null,
      covered: how.covered ? this.layer("covered", width, height) : null,
      outlines: how.outlines ? this.nearest("outlines", width, height) : null,
    };
    if (this.picture.width !== width || this.picture.height !== height) {
      this.picture.width = width;
      this.picture.height = height;
    }
    this.picture.getContext("2d").putImageData(composed(layers, width, height, how), 0, 0);
    this.picture.dataset.sequence = drr ? drr.sequence : -1;
    this.picture.dataset.full = drr ? drr.full : false;
  }

  // Numbers of labels must not be averaged.
  nearest(kind, width, height) {
    const plane = this.planes[kind];
    if (!plane) return null;
    const out = new Uint8Array(width * height);
    for (let row = 0, i = 0; row < height; row++) {
      const from = Math.floor((row * plane.height) / height) * plane.width;
      for (let column = 0; column < width; column++, i++) out[i] = plane.pixels[from + Math.floor((column * plane.width) / width)];
    }
    return out;
  }

  // Fits the picture into the stage.
  place() {
    if (!this.entries) return;
    const { width, height } = this.entries, box = this.stage.getBoundingClientRect();
    const scale = Math.min(box.width / width, box.height / height);
    const [w, h] = [width * scale, height * scale], [x, y] = [(box.width - w) / 2, (box.height - h) / 2];
    this.scale = scale;
    for (const canvas of [this.picture, this.overlay]) {
      Object.assign(canvas.style, { left: `${x}px`, top: `${y}px`, width: `${w}px`, height: `${h}px` });
    }
    this.overlay.width = Math.round(w);
    this.overlay.height = Math.round(h);
    const places = { left: [x + 6, y + h / 2], right: [x + w - 18, y + h / 2], top: [x + w / 2, y + 4], bottom: [x + w / 2, y + h - 24] };
    for (const letter of this.stage.querySelectorAll(".side")) {
      const [left, top] = places[letter.dataset.side];
      Object.assign(letter.style, { left: `${left}px`, top: `${top}px` });
    }
    this.drawMarks();
  }

  pose(entries) {
    const letters = [...this.stage.querySelectorAll(".side")];
    letters.forEach((letter, place) => (letter.textContent = entries ? entries.sides[place] : ""));
    this.pivot = entries?.pivot_px;
    this.drawMarks();
  }

  // The pivot, and points: where they were clicked (ring), and where the pose has them (cross).
  drawMarks() {
    const context = this.overlay.getContext("2d");
    context.clearRect(0, 0, this.overlay.width, this.overlay.height);
    context.lineWidth = 1.5;
    const at = ([column, row]) => [(column + 0.5) * this.scale, (row + 0.5) * this.scale];
    if (this.pivot && this.pivot[0] !== null) {
      const [x, y] = at(this.pivot);
      context.strokeStyle = "#56b4e9";
      context.beginPath();
      context.arc(x, y, 7, 0, 7);
      context.moveTo(x - 12, y); context.lineTo(x + 12, y);
      context.moveTo(x, y - 12); context.lineTo(x, y + 12);
      context.stroke();
    }
    context.font = "600 12px system-ui, sans-serif";
    for (const mark of this.marks) {
      const [x, y] = at(mark.pixel);
      context.strokeStyle = context.fillStyle = mark.current ? "#f0e442" : "#e69f00";
      context.beginPath();
      context.arc(x, y, 5, 0, 7);
      context.stroke();
      context.fillText(mark.name, x + 8, y - 6);
    }
  }

  pixel(event) {
    const box = this.picture.getBoundingClientRect();
    return [(event.clientX - box.left) / this.scale - 0.5, (event.clientY - box.top) / this.scale - 0.5];
  }

  move(gesture, kind, amount) {
    this.page.move({ type: "move", gesture, view: this.view, kind, amount });
  }

  listen() {
    const stage = this.stage;
    stage.oncontextmenu = (event) => event.preventDefault();
    stage.onpointerdown = (event) => {
      if (event.button === 1) return;
      stage.setPointerCapture(event.pointerId);
      stage.focus({ preventScroll: true });
      const turn = event.button === 2 || event.ctrlKey || event.metaKey;
      const hand = { gesture: ++gestures, kind: event.altKey ? "roll" : turn ? "turn" : "shift", x: 0, y: 0, far: 0 };
      let last = [event.clientX, event.clientY];
      stage.onpointermove = (next) => {
        const fine = next.shiftKey ? FINE : 1;
        const [dx, dy] = [next.clientX - last[0], next.clientY - last[1]];
        last = [next.clientX, next.clientY];
        hand.far += Math.abs(dx) + Math.abs(dy);
        hand.x += dx * fine;
        hand.y += dy * fine;
        if (hand.far < CLICK_PX || this.page.marking()) return;
        if (hand.kind === "shift") this.move(hand.gesture, "shift", [hand.x / this.scale, hand.y / this.scale, 0]);
        else if (hand.kind === "roll") this.move(hand.gesture, "turn", [0, 0, hand.x * DEGREES_PER_PX]);
        else this.move(hand.gesture, "turn", [hand.x * DEGREES_PER_PX, hand.y * DEGREES_PER_PX, 0]);
      };
      stage.onpointerup = stage.onpointercancel = (end) => {
        stage.onpointermove = stage.onpointerup = stage.onpointercancel = null;
        if (end.type === "pointerup" && hand.far < CLICK_PX && hand.kind === "shift") this.page.clicked(this.view, this.pixel(end));
      };
    };
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      // With Shift, browsers make a wheel's movement one to the side.
      const notches = -Math.sign(event.deltaY || event.deltaX) * (event.shiftKey ? FINE : 1);
      this.step("wheel", "deeper", [-notches * MM_PER_NOTCH, 0, 0]);
    }, { passive: false });
    stage.onkeydown = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const key = KEYS[event.key] ?? KEYS[event.key.toLowerCase()] ?? (event.key === "=" ? KEYS["+"] : undefined);
      if (!key) return;
      event.preventDefault();
      const [kind, ...amount] = key, step = STEPS[kind] * (event.shiftKey ? FINE : 1);
      this.step(event.key, kind, amount.map((one) => one * step));
    };
  }

  // One step of a key or of the wheel; steps of one kind in a row are one gesture.
  step(source, kind, amount) {
    const now = performance.now(), hand = this.stepping;
    if (hand && hand.source === source && now - hand.at < SAME_GESTURE_MS) {
      hand.amount = hand.amount.map((one, place) => one + amount[place]);
      hand.at = now;
    } else {
      this.stepping = { gesture: ++gestures, source, amount, at: now };
    }
    this.move(this.stepping.gesture, kind, this.stepping.amount);
  }
}
