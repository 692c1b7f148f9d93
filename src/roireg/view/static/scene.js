// Bones, sources and detectors in space, drawn with WebGL 2. Coordinates are those of the CT: LPS, mm.

import { bytes } from "./api.js";
import { PALETTE } from "./compose.js";

const byId = (id) => document.getElementById(id);
const BONE = [226, 216, 196], LINES = [0.34, 0.71, 0.91], RAY = [0.94, 0.89, 0.26];
const RADIANS_PER_PX = 0.008, KEY_RAD = 0.12, NEARER = 1.12;
// Of the largest distance from the middle that is in view, from the eye.
const VIEW_RAD = 0.6;
// From where the eye looks at the patient: angle about the long axis, and height above the horizontal; radians.
const LOOKS = { aslant: [0.6, 0.35], front: [0, 0.12], left: [Math.PI / 2, 0.12], head: [0, 1.5] };
const SIDES = { L: [1, 0, 0], R: [-1, 0, 0], P: [0, 1, 0], A: [0, -1, 0], H: [0, 0, 1], F: [0, 0, -1] };
const VERTEX = `#version 300 es
uniform mat4 screen; in vec3 place; in vec3 normal; in vec3 tint; in vec2 spot; out vec3 facing; out vec3 color; out vec2 at;
void main() { gl_Position = screen * vec4(place, 1.0); facing = normal; color = tint; at = spot; }`;
const FRAGMENT = `#version 300 es
precision highp float; uniform int kind; uniform vec3 eye; uniform vec3 paint; uniform sampler2D film;
in vec3 facing; in vec3 color; in vec2 at; out vec4 shown;
void main() {
  if (kind == 0) shown = vec4(color * (0.25 + 0.75 * abs(dot(normalize(facing), eye))), 1.0);
  else if (kind == 1) shown = vec4(texture(film, at).rrr, 0.8);
  else shown = vec4(paint, 1.0);
}`;

const minus = (a, b) => a.map((one, i) => one - b[i]);
const dot = (a, b) => a.reduce((sum, one, i) => sum + one * b[i], 0);
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => a.map((one) => one / Math.hypot(...a));

// The matrix from mm to the screen (column after column), of an eye that looks at a point with the head upwards.
export function screenOf(eye, target, distance, aspect) {
  const back = unit(minus(eye, target)), right = unit(cross([0, 0, 1], back)), up = cross(back, right);
  const near = distance / 50, far = distance * 5, f = 1 / Math.tan(VIEW_RAD / 2);
  const rows = [right, up, back].map((axis) => [...axis, -dot(axis, eye)]);
  const projected = [
    rows[0].map((one) => (one * f) / aspect),
    rows[1].map((one) => one * f),
    rows[2].map((one, i) => (one * (far + near)) / (near - far) + (i === 3 ? (2 * far * near) / (near - far) : 0)),
    rows[2].map((one) => -one),
  ];
  return [0, 1, 2, 3].flatMap((column) => projected.map((row) => row[column]));
}

// The middle of the CT, mm.
function middleOf(ct) {
  const middle = [...ct.voxels.map((count) => (count - 1) / 2), 1];
  return [0, 1, 2].map((row) => dot(ct.volume_from_voxel[row], middle));
}

export class Scene {
  constructor(page) {
    this.page = page;
    this.canvas = byId("scene");
    this.look = [...LOOKS.aslant];
    this.zoom = 1;
    this.views = [];
    this.films = [];
    this.listen();
  }

  show(state) {
    const ct = state.ct ? `${state.ct.name} ${state.ct.volume_from_voxel}` : null;
    if (ct !== this.ct) this.surface = null;
    this.ct = ct;
    this.middle = state.ct ? middleOf(state.ct) : [0, 0, 0];
    if (this.visible) this.load();
  }

  pose(views) {
    this.views = views;
    this.draw();
  }

  picture(plane) {
    this.films[plane.view] = { plane, texture: null };
    this.draw();
  }

  opened(visible) {
    this.visible = visible;
    if (visible) this.load();
  }

  async load() {
    if (!this.gl && !this.begin()) return;
    if (this.surface || !this.ct) return this.draw();
    const asked = this.ct;
    const data = await this.page.try(() => bytes("surface"));
    if (!data || asked !== this.ct) return;
    const [vertices, faces] = new Uint32Array(data, 0, 2);
    const places = new Float32Array(data, 8, 3 * vertices), normals = new Float32Array(data, 8 + 12 * vertices, 3 * vertices);
    const triangles = new Uint32Array(data, 8 + 24 * vertices, 3 * faces);
    const numbers = new Uint8Array(data, 8 + 24 * vertices + 12 * faces, vertices);
    const tints = new Float32Array(3 * vertices);
    numbers.forEach((number, i) => tints.set((number ? PALETTE[(number - 1) % PALETTE.length] : BONE).map((one) => one / 255), 3 * i));
    this.surface = this.mesh({ place: places, normal: normals, tint: tints }, triangles);
    this.draw();
  }

  begin() {
    const gl = this.canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
    byId("scene-fault").textContent = gl ? "" : "This browser has no WebGL 2, which the scene needs.";
    if (!gl) return false;
    this.gl = gl;
    this.program = gl.createProgram();
    for (const [type, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(this.program, shader);
    }
    gl.linkProgram(this.program);
    gl.useProgram(this.program);
    gl.enable(gl.DEPTH_TEST);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    this.letters = Object.entries(SIDES).map(([name, side]) => {
      const element = document.createElement("b");
      element.textContent = name;
      byId("space").append(element);
      return { element, side };
    });
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    return true;
  }

  mesh(arrays, triangles = null) {
    const gl = this.gl, vertices = gl.createVertexArray();
    gl.bindVertexArray(vertices);
    for (const [name, values] of Object.entries(arrays)) {
      const place = gl.getAttribLocation(this.program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, name === "spot" ? 2 : 3, gl.FLOAT, false, 0, 0);
    }
    if (triangles) {
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, triangles, gl.STATIC_DRAW);
    }
    return { vertices, count: triangles ? triangles.length : arrays.place.length / 3 };
  }

  // The X-ray on its detector.
  film(view) {
    const gl = this.gl, film = this.films[view];
    if (!film || film.texture) return film?.texture;
    film.texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, film.texture);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R8, film.plane.width, film.plane.height, 0, gl.RED, gl.UNSIGNED_BYTE, film.plane.pixels);
    for (const name of ["MIN", "MAG"]) gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_${name}_FILTER`], gl.LINEAR);
    for (const name of ["S", "T"]) gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_WRAP_${name}`], gl.CLAMP_TO_EDGE);
    return film.texture;
  }

  draw() {
    const gl = this.gl;
    if (!gl || !this.visible || this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.paint();
    });
  }

  paint() {
    const gl = this.gl, { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !this.views.length) return;
    [this.canvas.width, this.canvas.height] = [width * devicePixelRatio, height * devicePixelRatio];
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(0.03, 0.04, 0.05, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const points = this.views.flatMap((view) => [view.source_mm, ...view.corners_mm]);
    const target = this.middle;
    const reach = Math.max(...points.map((point) => Math.hypot(...minus(point, target))));
    const distance = (0.8 * reach) / Math.sin(VIEW_RAD / 2) / this.zoom, [angle, height_rad] = this.look;
    // At angle 0 the eye is in front of the patient.
    const away = [Math.sin(angle) * Math.cos(height_rad), -Math.cos(angle) * Math.cos(height_rad), Math.sin(height_rad)];
    const screen = screenOf(target.map((one, i) => one + distance * away[i]), target, distance, width / height);
    const set = (name) => gl.getUniformLocation(this.program, name);
    gl.uniformMatrix4fv(set("screen"), false, screen);
    gl.uniform3fv(set("eye"), away);
    if (this.surface) {
      gl.uniform1i(set("kind"), 0);
      gl.bindVertexArray(this.surface.vertices);
      gl.drawElements(gl.TRIANGLES, this.surface.count, gl.UNSIGNED_INT, 0);
    }
    this.views.forEach((view, number) => this.paintView(view, number, set));
    this.name(screen, target, 0.4 * reach, width, height);
  }

  paintView({ source_mm: source, corners_mm: corners }, number, set) {
    const gl = this.gl, middle = [0, 1, 2].map((axis) => corners.reduce((sum, one) => sum + one[axis], 0) / 4);
    const texture = this.film(number);
    if (texture) {
      gl.uniform1i(set("kind"), 1);
      gl.bindTexture(gl.TEXTURE_2D, texture);
      const [a, b, c, d] = corners;
      const quad = this.mesh({ place: new Float32Array([a, b, c, a, c, d].flat()), spot: new Float32Array([0, 0, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1]) });
      gl.enable(gl.BLEND);
      gl.drawArrays(gl.TRIANGLES, 0, quad.count);
      gl.disable(gl.BLEND);
      gl.deleteVertexArray(quad.vertices);
    }
    gl.uniform1i(set("kind"), 2);
    const edges = corners.flatMap((corner, i) => [source, corner, corner, corners[(i + 1) % 4]]);
    for (const [paint, line] of [[LINES, edges], [RAY, [source, middle]]]) {
      gl.uniform3fv(set("paint"), paint);
      const made = this.mesh({ place: new Float32Array(line.flat()) });
      gl.drawArrays(gl.LINES, 0, made.count);
      gl.deleteVertexArray(made.vertices);
    }
  }

  // Letters for the patient's sides.
  name(screen, target, far, width, height) {
    for (const { element, side } of this.letters) {
      const point = [...target.map((one, i) => one + far * side[i]), 1];
      const [x, y, , w] = [0, 1, 2, 3].map((row) => point.reduce((sum, one, column) => sum + one * screen[4 * column + row], 0));
      Object.assign(element.style, { left: `${((x / w + 1) * width) / 2}px`, top: `${((1 - y / w) * height) / 2}px` });
    }
  }

  turn(across, down) {
    this.look = [this.look[0] - across, Math.max(-1.5, Math.min(1.5, this.look[1] + down))];
    this.draw();
  }

  listen() {
    this.canvas.onpointerdown = (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      let last = [event.clientX, event.clientY];
      this.canvas.onpointermove = (next) => {
        this.turn((next.clientX - last[0]) * RADIANS_PER_PX, (next.clientY - last[1]) * RADIANS_PER_PX);
        last = [next.clientX, next.clientY];
      };
      this.canvas.onpointerup = this.canvas.onpointercancel = () => (this.canvas.onpointermove = null);
    };
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom = Math.max(0.3, Math.min(8, this.zoom * (event.deltaY < 0 ? NEARER : 1 / NEARER)));
      this.draw();
    }, { passive: false });
    this.canvas.onkeydown = (event) => {
      const step = { ArrowLeft: [-KEY_RAD, 0], ArrowRight: [KEY_RAD, 0], ArrowUp: [0, KEY_RAD], ArrowDown: [0, -KEY_RAD] }[event.key];
      if (!step) return;
      event.preventDefault();
      this.turn(...step);
    };
    byId("looks").onclick = (event) => {
      if (!event.target.value) return;
      this.look = [...LOOKS[event.target.value]];
      this.draw();
    };
  }
}
